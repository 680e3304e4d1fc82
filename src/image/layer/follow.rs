//! Names beneath symbolic links of the same layer (`lib -> usr/lib`, then `lib/x`): such a link is followed inside the
//! layer's root, as it would be in the container. The way is worked out on names, and what comes of it is opened like
//! any other path, without following anything: a link can only ever lead to another name of the layer.

/// Most links on one way (path_resolution(7): the kernel follows 40).
const LIMIT: usize = 40;

/// Where `path` leads when the links on its way, the last component's too, are followed. `link` tells the target of the
/// symbolic link at a path, if there is one. None: there are too many.
///
/// # Errors
/// What `link` returns.
pub fn resolve<E>(path: &[&[u8]], link: impl Fn(&[Vec<u8>]) -> Result<Option<Vec<u8>>, E>) -> Result<Option<Vec<Vec<u8>>>, E> {
    let mut left: Vec<Vec<u8>> = path.iter().rev().map(|part| part.to_vec()).collect();
    let mut real: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == b".." {
            // At the root it stays there.
            real.pop();
            continue;
        }
        real.push(part);
        let Some(target) = link(&real)? else { continue };
        links += 1;
        if links > LIMIT {
            return Ok(None);
        }
        real.pop();
        if target.starts_with(b"/") {
            real.clear();
        }
        let parts = target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        left.extend(parts.rev().map(<[u8]>::to_vec));
    }
    Ok(Some(real))
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use std::convert::Infallible;

    #[test]
    fn links_lead_to_names_of_the_layer_only() {
        let links = [
            ("lib", "usr/lib"),
            ("abs", "/usr/./lib//"),
            ("up", "../../../etc"),
            ("a/b/back", "../c"),
            ("chain", "lib/x"),
            ("loop", "loop"),
            ("usr/lib/x", "y"),
        ];
        let find = |path: &[Vec<u8>]| {
            let path = String::from_utf8(path.join(&b'/')).unwrap();
            Ok::<_, Infallible>(links.iter().find(|(name, _)| *name == path).map(|(_, target)| target.as_bytes().to_vec()))
        };
        for (path, wanted) in [
            ("lib/f", Some("usr/lib/f")),
            ("abs/f", Some("usr/lib/f")),
            ("up/f", Some("etc/f")),
            ("a/b/back/f", Some("a/c/f")),
            ("chain", Some("usr/lib/y")),
            ("plain/f", Some("plain/f")),
            ("loop/f", None),
        ] {
            let parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
            let real = resolve(&parts, find).unwrap().map(|real| String::from_utf8(real.join(&b'/')).unwrap());
            assert_eq!(real.as_deref(), wanted, "{path}");
        }
    }
}
