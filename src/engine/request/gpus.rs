//! `--gpus`, and `--device` by CDI name: both become CDI names.

use super::FlagError;

/// Kind of the devices that `--gpus` means.
const KIND: &str = "nvidia.com/gpu";

/// `vendor.com/class=name`, if that is what the text is.
pub fn cdi_name(text: &str) -> Option<&str> {
    let (kind, name) = text.split_once('=')?;
    let (vendor, class) = kind.split_once('/')?;
    let letters = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    (letters(vendor, "-_.") && letters(class, "-_") && letters(name, "-_.:")).then_some(text)
}

/// `all`, a number, `device=0,2`, with `count=`, `driver=nvidia`, `capabilities=gpu`: the CDI names.
///
/// # Errors
/// Another driver or capability, options, or a malformed value.
pub fn parse(text: &str) -> Result<Vec<String>, FlagError> {
    let wrong = |reason: &str| FlagError::new("--gpus", text, reason);
    let (mut count, mut devices) = (None, Vec::new());
    // Docker reads CSV: a quoted field may hold commas.
    let mut fields: Vec<String> = Vec::new();
    let (mut field, mut quoted) = (String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    for field in &fields {
        match field.split_once('=') {
            None if field == "all" => count = Some(None),
            None => count = Some(Some(field.parse::<u32>().map_err(|_| wrong("expected all, a number, or device=…"))?)),
            Some(("count", "all" | "-1")) => count = Some(None),
            Some(("count", number)) => count = Some(Some(number.parse().map_err(|_| wrong("count must be a number or all"))?)),
            Some(("device", list)) => devices.extend(list.split(',').map(str::to_owned)),
            Some(("driver", "" | "nvidia")) | Some(("capabilities", "gpu")) => {}
            Some(("driver", _)) => {
                return Err(wrong("only the driver nvidia can be asked for; name other devices by --device vendor.com/class=name"));
            }
            Some(("capabilities", _)) => return Err(wrong("a CDI device has all its capabilities: only capabilities=gpu is possible")),
            _ => return Err(wrong("expected all, a number, device=, count=, driver= or capabilities=")),
        }
    }
    let names: Vec<String> = match (count, devices.is_empty()) {
        (Some(_), false) => return Err(wrong("count and device exclude each other")),
        (Some(None) | None, true) => vec!["all".to_owned()],
        (Some(Some(0)), true) => return Err(wrong("no GPU at all is asked for")),
        (Some(Some(count)), true) => (0..count.min(1024)).map(|index| index.to_string()).collect(),
        (None, false) => devices,
    };
    let named = |name: &String| if cdi_name(name).is_some() { name.clone() } else { format!("{KIND}={name}") };
    let names: Vec<String> = names.iter().map(named).collect();
    if names.iter().all(|name| cdi_name(name).is_some()) { Ok(names) } else { Err(wrong("a device has a malformed name")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_cdi_names() {
        for (text, names) in [
            ("all", "nvidia.com/gpu=all"),
            ("2", "nvidia.com/gpu=0 nvidia.com/gpu=1"),
            ("\"device=0,2\"", "nvidia.com/gpu=0 nvidia.com/gpu=2"),
            ("device=GPU-3a,capabilities=gpu", "nvidia.com/gpu=GPU-3a"),
            ("\"device=v.com/c=x\",driver=nvidia", "v.com/c=x"),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|e| panic!("{e}")).join(" "), names, "{text}");
        }
        for bad in ["x", "0", "all,device=1", "capabilities=utility", "driver=amd", "device=../x", "colour=red"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!((cdi_name("a.com/b=c"), cdi_name("/dev/a=b"), cdi_name("/dev/a")), (Some("a.com/b=c"), None, None));
    }
}
