//! What users of Docker and Podman may type and rcon does not have: refused by name, with the reason.

use clap::error::{ContextKind, ContextValue};

const DAEMON: &str = "rcon has no daemon to connect to: it works on this host";
const NETWORKS: &str = "addresses come from the subnets of the network";
const LATEST: &str = "name the container: `rcon ps -lq` tells the latest";
const PLATFORM: &str = "name the platform in one: --platform os/arch[/variant]";
const CREDENTIALS: &str = "registries are reached as `rcon login` and rcon.toml say";
const MADE: &str = "a container keeps what it was made with: make another one";
const LIMITS: &str = "limits of single devices stay as they were made: make the container anew";
const WINDOWS: &str = "it is for Windows containers";
const CHECKPOINT: &str = "the state of processes cannot be saved and restored (no CRIU)";

/// Flags of a verb, by their long or short spelling.
const FLAGS: &[(&str, &str)] = &[
    ("--annotation", "images are annotated when they are built (build --annotation), containers have labels: --label"),
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
    ("--dns", "a network has no name servers of its own: give them to its containers (run --dns)"),
    ("--ingress", "there is no swarm here"),
    ("--io-maxbandwidth", WINDOWS),
    ("--io-maxiops", WINDOWS),
    ("--ipam-opt", "addresses are managed by rcon itself, which has no options"),
    ("--isolation", WINDOWS),
    ("--kernel-memory", "Linux has no limit of kernel memory any more"),
    ("--latest", LATEST),
    ("--link-local-ip", NETWORKS),
    ("--os", PLATFORM),
    ("--route", "a network has no routes of its own"),
    ("--runtime", "containers are run by rcon itself"),
    ("--scope", "networks are of this host only"),
    ("--squash", "a build has a layer for each step: copy the result into a last stage FROM scratch"),
    ("--storage-opt", "a container's layer has no quota of its own: use a volume with a size for what may grow"),
    ("--sync", "lists are always in step with what runs"),
    ("--tls-verify", CREDENTIALS),
    ("--use-api-socket", DAEMON),
    ("--variant", PLATFORM),
    ("--volume-driver", "there is one driver, local: give its options with --mount type=volume,volume-opt=…"),
    ("-l", LATEST),
];

/// The same of one verb only.
const OF_VERB: &[(&str, &str, &str)] = &[
    (" cp", "--overwrite", "a directory and a file do not take each other's place: remove the one that is there first"),
    (" create", "--gidmap", "a pod has no user namespace: give the maps to containers outside of pods"),
    (" create", "--gpus", "a pod has no devices of its own to look up: give --gpus to its containers"),
    (" create", "--uidmap", "a pod has no user namespace: give the maps to containers outside of pods"),
    (" exec", "--preserve-fds", "a command gets its standard streams only: mount what it is to read"),
    (" update", "--device-read-bps", LIMITS),
    (" update", "--device-read-iops", LIMITS),
    (" update", "--device-write-bps", LIMITS),
    (" update", "--device-write-iops", LIMITS),
    (" update", "--blkio-weight-device", LIMITS),
    (" update", "--env", MADE),
    (" update", "--health-cmd", MADE),
    (" update", "--health-interval", MADE),
    (" update", "--health-on-failure", MADE),
    (" update", "--health-retries", MADE),
    (" update", "--health-start-period", MADE),
    (" update", "--health-timeout", MADE),
    (" update", "--no-healthcheck", MADE),
    (" update", "--unsetenv", MADE),
];

/// Verbs, as typed after `rcon`.
const VERBS: &[(&str, &str)] = &[
    ("checkpoint", CHECKPOINT),
    ("container checkpoint", CHECKPOINT),
    ("context create", DAEMON),
    ("context export", DAEMON),
    ("context import", DAEMON),
    ("context rm", DAEMON),
    ("context update", DAEMON),
    ("container restore", CHECKPOINT),
    ("plugin", "there are no plugins"),
    ("restore", CHECKPOINT),
    ("system renumber", "locks are files named by what they lock: there are no numbers that could run out or clash"),
    ("system service", DAEMON),
    ("unshare", "rcon works as root, which needs no user namespace to see its files: `rcon container mount` shows them"),
    ("volume reload", "there are no volume plugins"),
    ("trust", "content trust (Notary) is not supported: see [trust] of rcon.toml"),
];

/// Why there is no such flag, if that is known; `path` is the verb as it was typed.
pub fn flag(error: &clap::Error, path: &str) -> Option<(String, &'static str)> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = typed.split(['=', ' ']).next().unwrap_or(typed);
    if name == "--link" && path.ends_with(" connect") {
        return Some((name.to_owned(), "containers of a network know each other by name: give the other one an --alias"));
    }
    if let Some((_, _, reason)) = OF_VERB.iter().find(|(verb, flag, _)| *flag == name && path.ends_with(verb)) {
        return Some((name.to_owned(), *reason));
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
