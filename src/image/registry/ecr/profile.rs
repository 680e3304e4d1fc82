//! AWS's shared files, `~/.aws/credentials` and `~/.aws/config`: sections of `name = value`
//! (AWS SDKs and Tools Reference Guide, "Shared config and credentials files").

/// The settings of one profile. In the config file a section is `[profile NAME]` (or `[default]`), in the credentials
/// file `[NAME]`. None: there is no such section.
pub fn section(text: &str, profile: &str, config_file: bool) -> Option<Vec<(String, String)>> {
    let mut found: Option<Vec<(String, String)>> = None;
    let mut inside = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(heading) = bare.strip_prefix('[') {
            let heading = heading.split(']').next().unwrap_or_default().trim();
            let name = heading.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t'])).map(str::trim);
            inside = match (config_file, name) {
                (true, Some(name)) => name == profile,
                (true, None) => heading == "default" && profile == "default",
                (false, _) => heading == profile,
            };
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((name, value)), Some(found)) = (inside, bare.split_once('='), found.as_mut())
            // Indented lines belong to the setting above (`s3 =` and its own settings).
            && !line.starts_with([' ', '\t'])
        {
            let value = value.split(" #").next().unwrap_or_default().trim();
            found.push((name.trim().to_ascii_lowercase(), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn sections_by_their_file() {
        let config =
            "[default]\nregion = r # here\n[profile dev]\naws_access_key_id=A\ns3 =\n  aws_access_key_id = no\n\n# x\nRole_Arn = arn\n[dev]\nz=1\n";
        let get = |profile: &str, name: &str| section(config, profile, true)?.into_iter().find(|(n, _)| n == name).map(|(_, v)| v);
        assert_eq!(get("default", "region").as_deref(), Some("r"));
        assert_eq!(get("dev", "aws_access_key_id").as_deref(), Some("A"));
        assert_eq!(get("dev", "role_arn").as_deref(), Some("arn"));
        assert_eq!(get("dev", "z"), None, "[dev] is no profile of the config file");
        assert!(section(config, "none", true).is_none());
        assert_eq!(section(config, "dev", false), Some(vec![("z".to_owned(), "1".to_owned())]));
        for odd in ["[", "=", "[x", "a", "[default]\n= "] {
            drop(section(odd, "default", true));
        }
    }
}
