//! Platforms: `os/arch[/variant]`, normalised to Go's words, and which image suits which host.

use std::fmt;
use std::str::FromStr;

/// `os/arch[/variant]` in normal form: `linux/amd64`, `linux/arm64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    pub arch: String,
    pub variant: Option<String>,
}

const KNOWN_SYSTEMS: &[&str] = &["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "android", "solaris", "plan9", "wasi"];
const KNOWN_ARCHITECTURES: &[&str] =
    &["386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm"];

impl Platform {
    /// The platform this binary runs on.
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        let variant = (arch == "arm").then(|| arm_variant(rustix::system::uname().machine().to_bytes()));
        Platform::normalised("linux", arch, variant)
    }

    /// Normal form of what people and manifests write (`x86_64`, `aarch64`, `armhf`, `arm64/v8`).
    pub fn normalised(os: &str, arch: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let arch = arch.to_ascii_lowercase();
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_ascii_lowercase);
        let (arch, variant) = match (arch.as_str(), variant.as_deref()) {
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", None),
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("aarch64" | "arm64", None | Some("v8" | "8")) => ("arm64", None),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("loongarch64", other) => ("loong64", other),
            (other, variant) => (other, variant),
        };
        let (arch, variant) = (arch.to_owned(), variant.map(str::to_owned));
        Platform { os, arch, variant }
    }

    /// How well an image of platform `offered` runs where `self` is wanted: 0 is best, None not at all.
    /// Newer ARM and x86-64 levels run what was built for older ones, and 64-bit ARM runs 32-bit last.
    pub fn rank(&self, offered: &Platform) -> Option<usize> {
        if self.os != offered.os {
            return None;
        }
        let offered_level = level(offered);
        match (self.arch.as_str(), offered.arch.as_str()) {
            ("arm64", "arm") => match offered_level {
                Some(l @ 5..=8) => Some(100 + (8 - l)),
                _ => None,
            },
            (wanted, have) if wanted != have => None,
            ("arm" | "arm64" | "amd64", _) => match (level(self), offered_level) {
                (Some(wanted), Some(have)) if have <= wanted => Some(wanted - have),
                (None, None) if self.variant == offered.variant => Some(0),
                _ => None,
            },
            _ if self.variant == offered.variant => Some(0),
            _ if self.variant.is_none() || offered.variant.is_none() => Some(1),
            _ => None,
        }
    }
}

/// The number of a variant (`v7` → 7); the default level where none is written. ARM's `v8.1` counts 81 tenths
/// rounded down to 8.
fn level(platform: &Platform) -> Option<usize> {
    match &platform.variant {
        None if platform.arch == "arm64" => Some(8),
        None if platform.arch == "arm" => Some(7),
        None => Some(1),
        Some(variant) => variant.strip_prefix('v')?.split('.').next()?.parse().ok(),
    }
}

/// The variant that a kernel's machine name (`armv6l`) means.
fn arm_variant(machine: &[u8]) -> &'static str {
    match machine {
        m if m.starts_with(b"armv5") => "v5",
        m if m.starts_with(b"armv6") => "v6",
        m if m.starts_with(b"armv8") || m.starts_with(b"aarch64") => "v8",
        _ => "v7",
    }
}

impl FromStr for Platform {
    type Err = String;
    /// `linux/amd64`, `linux/arm/v7`, `arm64`, `linux`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid platform \"{}\": expected os/arch or os/arch/variant", text.escape_default());
        let fine = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(fine) {
            return Err(wrong());
        }
        match parts.as_slice() {
            [one] => {
                let as_arch = Platform::normalised("linux", one, None);
                let lower = one.to_ascii_lowercase();
                if KNOWN_SYSTEMS.contains(&lower.as_str()) || lower == "macos" {
                    let host = Platform::host();
                    Ok(Platform::normalised(&lower, &host.arch, host.variant.as_deref()))
                } else if KNOWN_ARCHITECTURES.contains(&as_arch.arch.as_str()) {
                    Ok(as_arch)
                } else {
                    Err(wrong())
                }
            }
            [os, arch] => Ok(Platform::normalised(os, arch, None)),
            [os, arch, variant] => Ok(Platform::normalised(os, arch, Some(variant))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalises() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "nonsense", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!(Platform::host().os, "linux");
    }

    #[test]
    fn older_levels_run_on_newer() {
        let p = |text: &str| text.parse::<Platform>().unwrap();
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v7")), Some(0));
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").rank(&p("linux/arm/v7")), None);
        assert!(p("linux/arm64").rank(&p("linux/arm/v7")) > p("linux/arm64").rank(&p("linux/arm64")));
        assert_eq!(p("linux/amd64").rank(&p("linux/amd64/v2")), None);
        assert_eq!(p("linux/amd64/v3").rank(&p("linux/amd64")), Some(2));
        assert_eq!(p("linux/amd64").rank(&p("windows/amd64")), None);
    }
}
