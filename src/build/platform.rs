//! For which platforms a build is, and what lets a step of one that is not the host's run.

use super::error::{Error, Result};
use super::request::BuildRequest;
use crate::engine::request::parse_bool;
use crate::oci::Platform;
use std::path::Path;

/// Where the kernel lists the interpreters of foreign programs (binfmt_misc.rst).
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";
/// Most bytes of the description of one handler.
const DESCRIPTION: usize = 4 << 10;
/// Most platforms of one build.
const LIMIT: usize = 32;

/// The platforms that are asked for, each once, in their order; without any the host's.
///
/// # Errors
/// One is none, or there are too many.
pub fn wanted(request: &BuildRequest) -> Result<Vec<Platform>> {
    let mut wanted: Vec<Platform> = Vec::new();
    for text in &request.platforms {
        let platform: Platform = text.parse().map_err(Error::invalid)?;
        if !wanted.contains(&platform) {
            wanted.push(platform);
        }
    }
    if wanted.len() > LIMIT {
        return Err(Error::invalid(format!("--platform: {} platforms are asked for; at most {LIMIT} are built at once", wanted.len())));
    }
    if wanted.is_empty() {
        wanted.push(Platform::host());
    }
    Ok(wanted)
}

/// `BUILDKIT_MULTI_PLATFORM`: the result of one platform is an index, too.
///
/// # Errors
/// Its value is neither true nor false.
pub fn always_index(request: &BuildRequest) -> Result<bool> {
    let Some(value) = request.arguments.get("BUILDKIT_MULTI_PLATFORM").filter(|value| !value.is_empty()) else { return Ok(false) };
    parse_bool(value).map_err(|_| Error::invalid(format!("--build-arg BUILDKIT_MULTI_PLATFORM={value}: expected true or false")))
}

/// As a directory of `--output type=local` is named: `linux_arm_v7`.
pub fn directory(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// In the names of steps: the platform that a stage is for, and which one the build is for, if that is another.
pub fn step(stage: &Platform, target: &Platform) -> String {
    if stage == target {
        return format!("{stage} ");
    }
    let other = if stage.os == target.os { target.to_string().trim_start_matches(&format!("{}/", target.os)).to_owned() } else { target.to_string() };
    format!("{stage}->{other} ")
}

/// Why the kernel did not take a program of a step, if that is since it is another platform's.
pub fn explain(error: crate::engine::Error, platform: &Platform, command: &str) -> Error {
    let host = Platform::host();
    if host.rank(platform).is_some() || !is_format_error(&error) {
        return error.into();
    }
    let register = "register qemu for it (qemu-user-static)";
    let (why, out) = match emulation(Path::new(HANDLERS), platform) {
        Emulation::Unknown => ("the kernel has no handler for such programs (binfmt_misc is not mounted)".to_owned(), register),
        Emulation::None => ("the kernel has no handler for such programs (binfmt_misc)".to_owned(), register),
        Emulation::Unfixed(name) => {
            (format!("the interpreter of the handler {name} is looked for inside of the image"), "register it with the flag F")
        }
        Emulation::Handled => ("the kernel's handler for such programs did not take it".to_owned(), "look at its interpreter"),
    };
    Error::Invalid {
        message: format!("cannot run \"{command}\" for {platform} on this host ({host}): {why}"),
        hint: Some(format!("{out}, or do the work in a stage FROM --platform=$BUILDPLATFORM that compiles for $TARGETPLATFORM")),
    }
}

fn is_format_error(error: &crate::engine::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if error.to_string().contains("exec format error") {
            return true;
        }
        next = error.source();
    }
    false
}

#[derive(Debug, PartialEq, Eq)]
enum Emulation {
    /// The list of handlers cannot be read.
    Unknown,
    None,
    /// A handler whose interpreter is opened where the program runs.
    Unfixed(String),
    Handled,
}

/// What the handlers in `directory` do with programs of the platform; a fixed one (flag `F`) is better than another.
fn emulation(directory: &Path, platform: &Platform) -> Emulation {
    let Some(header) = program(platform) else { return Emulation::None };
    match std::fs::read_to_string(directory.join("status")) {
        Ok(status) if status.trim() == "enabled" => {}
        Ok(_) => return Emulation::None,
        Err(_) => return Emulation::Unknown,
    }
    let mut found = Emulation::None;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        if text.len() > DESCRIPTION || matches!(name.as_str(), "status" | "register") {
            continue;
        }
        match Handler::parse(&text) {
            Some(handler) if handler.takes(&header) && handler.fixed => return Emulation::Handled,
            Some(handler) if handler.takes(&header) => found = Emulation::Unfixed(name),
            _ => {}
        }
    }
    found
}

/// One file of binfmt_misc.
struct Handler {
    fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Option<Vec<u8>>,
}

impl Handler {
    /// None: it is switched off, or knows programs by the end of their name.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()?.trim() != "enabled" {
            return None;
        }
        let mut handler = Handler { fixed: false, offset: 0, magic: Vec::new(), mask: None };
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "flags:" => handler.fixed = value.contains('F'),
                "offset" => handler.offset = value.trim().parse().ok()?,
                "magic" => handler.magic = bytes(value)?,
                "mask" => handler.mask = Some(bytes(value)?),
                _ => {}
            }
        }
        (!handler.magic.is_empty()).then_some(handler)
    }

    fn takes(&self, header: &[u8]) -> bool {
        let Some(part) = header.get(self.offset..self.offset.saturating_add(self.magic.len())) else { return false };
        let mask = |at: usize| self.mask.as_ref().map_or(0xff, |mask| mask.get(at).copied().unwrap_or(0xff));
        part.iter().zip(&self.magic).enumerate().all(|(at, (have, want))| have & mask(at) == want & mask(at))
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let hex = hex.trim();
    hex.len().is_multiple_of(2).then_some(())?;
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

/// The beginning of an ELF program of a platform (elf(5), `e_ident` to `e_version`); None: none are known for it.
fn program(platform: &Platform) -> Option<Vec<u8>> {
    // Class (1: 32 bits), order of bytes (1: little), machine.
    let (class, order, machine): (u8, u8, u16) = match (platform.os.as_str(), platform.arch.as_str()) {
        ("linux", "386") => (1, 1, 3),
        ("linux", "amd64") => (2, 1, 62),
        ("linux", "arm") => (1, 1, 40),
        ("linux", "arm64") => (2, 1, 183),
        ("linux", "loong64") => (2, 1, 258),
        ("linux", "mips64le") => (2, 1, 8),
        ("linux", "mips64") => (2, 2, 8),
        ("linux", "mipsle") => (1, 1, 8),
        ("linux", "mips") => (1, 2, 8),
        ("linux", "ppc64le") => (2, 1, 21),
        ("linux", "ppc64") => (2, 2, 21),
        ("linux", "riscv64") => (2, 1, 243),
        ("linux", "s390x") => (2, 2, 22),
        _ => return None,
    };
    let number = |value: u16| if order == 1 { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut header = vec![0x7f, b'E', b'L', b'F', class, order, 1];
    header.resize(16, 0);
    // An executable file.
    header.extend(number(2));
    header.extend(number(machine));
    header.extend(if order == 1 { 1u32.to_le_bytes() } else { 1u32.to_be_bytes() });
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's qemu-user-static registers it.
    const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn handlers_are_found_by_what_they_take() {
        let root = std::env::temp_dir().join(format!("rcon-binfmt-{}", crate::base::random_hex(8)));
        let of = |platform: &str| emulation(&root, &platform.parse().unwrap());
        assert_eq!(of("linux/arm64"), Emulation::Unknown);
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("status"), "enabled\n").unwrap();
        std::fs::write(root.join("python3"), "enabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\n").unwrap();
        assert_eq!(of("linux/arm64"), Emulation::None);
        std::fs::write(root.join("qemu-aarch64"), AARCH64).unwrap();
        assert_eq!((of("linux/arm64"), of("linux/arm/v7"), of("linux/riscv64")), (Emulation::Handled, Emulation::None, Emulation::None));
        std::fs::write(root.join("qemu-aarch64"), AARCH64.replace("POCF", "OC")).unwrap();
        assert_eq!(of("linux/arm64"), Emulation::Unfixed("qemu-aarch64".to_owned()));
        std::fs::write(root.join("qemu-aarch64"), AARCH64.replacen("enabled", "disabled", 1)).unwrap();
        assert_eq!(of("linux/arm64"), Emulation::None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn platforms_are_told_apart() {
        let request =
            |platforms: &[&str]| BuildRequest { platforms: platforms.iter().map(|text| (*text).to_owned()).collect(), ..BuildRequest::default() };
        let names = |platforms: &[&str]| wanted(&request(platforms)).unwrap().iter().map(Platform::to_string).collect::<Vec<_>>();
        assert_eq!(names(&[]), [Platform::host().to_string()]);
        assert_eq!(names(&["linux/amd64", "linux/arm64/v8", "arm64"]), ["linux/amd64", "linux/arm64"]);
        assert!(wanted(&request(&["a/b/c/d"])).is_err());
        let (amd, arm): (Platform, Platform) = ("linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap());
        assert_eq!((step(&amd, &amd).as_str(), step(&amd, &arm).as_str()), ("linux/amd64 ", "linux/amd64->arm/v7 "));
        assert_eq!(directory(&arm), "linux_arm_v7");
    }
}
