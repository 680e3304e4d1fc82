//! On whose behalf the runtime is called.

/// Whether the caller is an ordinary user, whose state goes below `XDG_RUNTIME_DIR`: by id, or as root of a user namespace
/// that one made, as podman calls its runtime for such a user. There `USER` is still the user's name; it is `root` where a
/// container has root's place, with a `/run` of its own.
pub(super) fn is_ordinary_user() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    is_part(&map) && std::env::var_os("USER").is_none_or(|user| user != "root")
}

/// Whether an id map leaves ids out: the initial user namespace has all of them (`man 7 user_namespaces`).
fn is_part(map: &str) -> bool {
    !map.is_empty() && map.split_whitespace().ne(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::is_part;

    #[test]
    fn the_initial_namespace_maps_every_id_to_itself() {
        assert!(!is_part("         0          0 4294967295\n"));
        assert!(is_part("         0       1000          1\n         1     100000      65536\n"));
        // Unreadable: no reason to think so.
        assert!(!is_part(""));
    }
}
