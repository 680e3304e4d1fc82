//! What users of Docker and Podman may type and rcon does not have: refused by name, with the reason.

use clap::error::{ContextKind, ContextValue};

const DAEMON: &str = "rcon has no daemon to connect to: it works on this host";
const NETWORKS: &str = "addresses come from the subnets of the network";
const LATEST: &str = "name the container: `rcon ps -lq` tells the latest";
const PLATFORM: &str = "name the platform in one: --platform os/arch[/variant]";
const CREDENTIALS: &str = "registries are reached as `rcon login` and rcon.toml say";
const WINDOWS: &str = "it is for Windows containers";
const VOLUME: &str = "a volume's files are where `rcon volume inspect -f '{{.Mountpoint}}'` says; one with a file system of its own is mounted while a container uses it";
const CHECKPOINT: &str = "the state of processes cannot be saved and restored (no CRIU)";

/// Flags of a verb, by their long or short spelling.
const FLAGS: &[(&str, &str)] = &[
    ("--annotation", "images are annotated when they are built (build --annotation), containers have labels: --label"),
    ("--cache-from", "the cache is not imported: builds of one data root share it"),
    ("--cache-to", "the cache is not exported: builds of one data root share it"),
    ("--checkpoint", CHECKPOINT),
    ("--checkpoint-dir", CHECKPOINT),
    ("--config-from", "a network has its whole configuration itself"),
    ("--config-only", "a network has its whole configuration itself"),
    ("--conmon-pidfile", "each container has a monitor of rcon's own: `rcon inspect -f '{{.State.Pid}}'` tells its process"),
    ("--arch", PLATFORM),
    ("--authfile", CREDENTIALS),
    ("--cgroups", "every container has control groups of its own"),
    ("--cpu-count", WINDOWS),
    ("--cpu-percent", WINDOWS),
    ("--cpu-rt-period", "real-time scheduling groups are not supported"),
    ("--cpu-rt-runtime", "real-time scheduling groups are not supported"),
    ("--credential-spec", WINDOWS),
    ("--creds", CREDENTIALS),
    ("--group-entry", "the image's /etc/group is left as it is"),
    ("--dns", "a network has no name servers of its own: give them to its containers (run --dns)"),
    ("--ingress", "there is no swarm here"),
    ("--io-maxbandwidth", WINDOWS),
    ("--io-maxiops", WINDOWS),
    ("--ipam-opt", "addresses are managed by rcon itself, which has no options"),
    ("--isolation", WINDOWS),
    ("--kernel-memory", "Linux has no limit of kernel memory any more"),
    ("--latest", LATEST),
    ("--link", "a link lasts as long as its container: make that one anew without it"),
    ("--link-local-ip", NETWORKS),
    ("--os", PLATFORM),
    ("--passwd-entry", "the image's /etc/passwd is left as it is: --user takes ids that are not in it"),
    ("--rootfs", "a container needs an image: make one of a directory with `tar -C DIR -c . | rcon import - NAME`"),
    ("--route", "a network has no routes of its own"),
    ("--runtime", "containers are run by rcon itself"),
    ("--scope", "networks are of this host only"),
    ("--sdnotify", "readiness is not told to systemd: use a healthcheck and `rcon wait --condition healthy`"),
    ("--squash", "a build has a layer for each step: copy the result into a last stage FROM scratch"),
    ("--storage-opt", "a container's layer has no quota of its own: use a volume with a size for what may grow"),
    ("--sync", "lists are always in step with what runs"),
    ("--systemd", "a systemd in a container is not set up automatically: mount what it needs (--tmpfs /run --tmpfs /tmp)"),
    ("--tls-verify", CREDENTIALS),
    ("--use-api-socket", DAEMON),
    ("--variant", PLATFORM),
    ("-l", LATEST),
];

/// Verbs, as typed after `rcon`.
const VERBS: &[(&str, &str)] = &[
    ("checkpoint", CHECKPOINT),
    ("container checkpoint", CHECKPOINT),
    ("container restore", CHECKPOINT),
    ("container init", "a container is set up and started in one step: use `rcon start`"),
    ("init", "a container is set up and started in one step: use `rcon start`"),
    ("plugin", "there are no plugins"),
    ("restore", CHECKPOINT),
    ("volume mount", VOLUME),
    ("volume rename", "make another one of its files with `rcon volume clone OLD NEW`, then remove it"),
    ("volume unmount", VOLUME),
    ("volume reload", "there are no volume plugins"),
    ("trust", "content trust (Notary) is not supported: see [trust] of rcon.toml"),
];

/// Why there is no such flag, if that is known; `path` is the verb as it was typed.
pub fn flag(error: &clap::Error, path: &str) -> Option<(String, &'static str)> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = typed.split(['=', ' ']).next().unwrap_or(typed);
    // Docker's short flag of `rm` is not podman's.
    let name = if name == "-l" && path.ends_with(" rm") { "--link" } else { name };
    if name == "--link" && path.ends_with(" connect") {
        return Some((name.to_owned(), "containers of a network know each other by name: give the other one an --alias"));
    }
    FLAGS.iter().find(|(flag, _)| *flag == name).map(|(_, reason)| (name.to_owned(), *reason))
}

/// Why there is no such verb, if that is known.
pub fn verb(typed: &str) -> Option<&'static str> {
    VERBS.iter().find(|(verb, _)| *verb == typed).map(|(_, reason)| *reason)
}

/// Why the docker client's ways to name another engine cannot be followed; None if they name none.
pub fn host(flag: Option<&str>, variable: Option<&str>) -> Option<String> {
    if let Some(host) = flag {
        return Some(format!("--host {host} is not supported: {DAEMON}"));
    }
    // A socket of this host is what many have set for Docker's own client; another host is meant when it is named.
    let variable = variable.filter(|host| !host.is_empty() && !host.starts_with("unix://") && !host.starts_with('/'))?;
    Some(format!("DOCKER_HOST={variable} names another host: {DAEMON}"))
}

/// As [`host`], for contexts.
pub fn context(flag: Option<&str>, variable: Option<&str>) -> Option<String> {
    let named = |name: Option<&str>| name.filter(|name| !name.is_empty() && *name != "default").map(str::to_owned);
    if let Some(name) = named(flag) {
        return Some(format!("--context {name} is not supported: only the context \"default\", this host, exists"));
    }
    named(variable).map(|name| format!("DOCKER_CONTEXT={name} is not supported: only the context \"default\", this host, exists"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_engines_are_refused() {
        assert!(host(Some("unix:///x"), None).unwrap().contains("--host unix:///x"));
        assert!(host(None, Some("tcp://10.0.0.1:2375")).unwrap().contains("DOCKER_HOST=tcp"));
        assert_eq!((host(None, Some("unix:///run/docker.sock")), host(None, Some("")), host(None, None)), (None, None, None));
        assert_eq!((context(Some("default"), None), context(None, Some("default"))), (None, None));
        assert!(context(Some("far"), None).is_some() && context(None, Some("far")).is_some());
        assert!(verb("container checkpoint").is_some() && verb("run").is_none());
    }
}
