//! Names of systemd units and the groups that belong to them (`man 7 systemd.slice`, `man 5 systemd.unit`).

use super::super::Error;

/// Longest unit name (`UNIT_NAME_MAX`).
const LONGEST: usize = 255;

/// What `slice:prefix:name` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// None: the default one.
    pub(super) slice: Option<String>,
    pub(super) unit: String,
}

/// Reads a `cgroupsPath` of the systemd driver; without one the unit is named after the container.
///
/// # Errors
/// [`Error::Invalid`]
pub(super) fn parse(path: Option<&str>, id: &str) -> Result<Parts, Error> {
    let invalid = |why| Error::Invalid { option: "linux.cgroupsPath with --systemd-cgroup", value: path.unwrap_or_default().to_owned(), why };
    let default = format!(":rcon:{id}");
    let mut fields = path.unwrap_or(&default).split(':');
    let (Some(slice), Some(prefix), Some(name), None) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
        return Err(invalid("expected slice:prefix:name"));
    };
    let unit = if name.ends_with(".slice") {
        name.to_owned()
    } else if prefix.is_empty() {
        format!("{name}.scope")
    } else {
        format!("{prefix}-{name}.scope")
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if name.is_empty() || unit.len() > LONGEST || !unit.bytes().all(legal) {
        return Err(invalid("a unit name has up to 255 letters, digits and :-_.\\@"));
    }
    let slice = match slice {
        "" => None,
        "-" | "-.slice" => Some("-.slice".to_owned()),
        slice => Some(slice.to_owned()),
    };
    for slice in slice.iter().chain(Some(&unit).filter(|unit| unit.ends_with(".slice"))) {
        expand(slice).ok_or_else(|| invalid("a slice is called a-b.slice, with parts that are not empty"))?;
    }
    Ok(Parts { slice, unit })
}

/// The group of a slice: dashes nest (`a-b.slice` is `/a.slice/a-b.slice`). The root slice is "". None: no slice's name.
pub(super) fn expand(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@".contains(&byte);
    let (mut path, mut name) = (String::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() || !part.bytes().all(legal) {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path = format!("{path}/{name}.slice");
    }
    (path.len() < 4096).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest_by_their_dashes() {
        for (slice, wanted) in [
            ("system.slice", Some("/system.slice")),
            ("a-b-c.slice", Some("/a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            ("kubepods-pod1_2.slice", Some("/kubepods.slice/kubepods-pod1_2.slice")),
            (".slice", None),
            ("a--b.slice", None),
            ("-a.slice", None),
            ("a/b.slice", None),
            ("a.scope", None),
            ("../x.slice", None),
        ] {
            assert_eq!(expand(slice).as_deref(), wanted, "{slice}");
        }
    }

    #[test]
    fn three_parts_name_a_unit_in_a_slice() {
        let parts = |path| parse(path, "id1").map(|parts| (parts.slice, parts.unit));
        let wanted = |slice: Option<&str>, unit: &str| (slice.map(str::to_owned), unit.to_owned());
        assert_eq!(parts(None).unwrap(), wanted(None, "rcon-id1.scope"));
        assert_eq!(parts(Some("machine.slice:libpod:x")).unwrap(), wanted(Some("machine.slice"), "libpod-x.scope"));
        assert_eq!(parts(Some(":cri:x")).unwrap(), wanted(None, "cri-x.scope"));
        assert_eq!(parts(Some("-::x")).unwrap(), wanted(Some("-.slice"), "x.scope"));
        assert_eq!(parts(Some("a.slice:ignored:a-b.slice")).unwrap(), wanted(Some("a.slice"), "a-b.slice"));
        for bad in ["/a/b", "a:b", "a:b:c:d", "x.slice:p:", "a/b.slice:p:n", "a.slice:p:n/m", "a--b.slice:p:n", "::n\n", "nope:p:n"] {
            let error = parts(Some(bad)).unwrap_err().to_string();
            assert!(error.starts_with("invalid linux.cgroupsPath with --systemd-cgroup"), "{error}");
        }
    }
}
