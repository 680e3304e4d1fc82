//! `POST /containers/create`: Docker's document becomes a [`CreateContainer`], by the grammars that the flags have, too.

use super::reply::{Answer, Refusal, Reply};
use super::wire::{CreateBody, EndpointSettings, Healthcheck};
use super::{Call, host_config};
use crate::engine::request::{CreateContainer, HealthRequest, MountRequest, PullPolicy, network, port, volume};
use crate::state::record::{HostSpec, NetworkMode};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

pub fn create(mut call: Call) -> Answer {
    let body: CreateBody = call.body.json()?;
    let mut request = request(body)?;
    let name = call.query.text("name").map(|name| name.strip_prefix('/').unwrap_or(name).parse()).transpose();
    request.name = name.map_err(|error: crate::base::IdError| Refusal::invalid(error.to_string()))?;
    request.platform = call.query.text("platform").map(str::to_owned);
    call.engine(|engine| {
        let created = engine.create(&request, &|_| {})?;
        Ok(Reply::created(json!({"Id": created.record.id.as_str(), "Warnings": created.warnings})))
    })
}

/// What was not given is the image's.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn request(body: CreateBody) -> Result<CreateContainer, Refusal> {
    if body.image.is_empty() {
        return Err(Refusal::invalid("config cannot be empty in order to create a container: Image is missing"));
    }
    // Sources of binds come absolute: the client knows its own directory.
    let base = volume::Base { cwd: PathBuf::from("/"), home: None };
    let mut mounts: Vec<MountRequest> = body.host_config.mounts(&base)?;
    for destination in body.volumes.keys() {
        if !mounts.iter().any(|mount| mount.destination.as_os_str() == destination.as_str()) {
            mounts.push(volume::parse(destination, &base)?);
        }
    }
    let mut expose = Vec::new();
    for text in body.exposed_ports.keys().chain(body.host_config.port_bindings.keys()) {
        for one in port::parse_expose(text)? {
            if !expose.contains(&one) {
                expose.push(one);
            }
        }
    }
    let stop_signal =
        given(body.stop_signal).map(|text| text.parse().map_err(|_| Refusal::invalid(format!("Invalid signal: {text}")))).transpose()?;
    let volumes_from = body.host_config.volumes_from.iter().map(|text| volume::parse_from(text)).collect::<Result<_, _>>()?;
    let log_given = !body.host_config.log_config.r#type.is_empty() || !body.host_config.log_config.config.is_empty();
    let annotations = body.host_config.annotations.clone();
    let mode = if body.network_disabled { "none".to_owned() } else { body.host_config.network_mode.clone() };
    let mut host = host_config::host(body.host_config)?;
    networks(&mut host, &mode, body.networking_config.endpoints_config, given(body.mac_address))?;
    Ok(CreateContainer {
        image: body.image,
        pull: PullPolicy::Never,
        entrypoint: body.entrypoint.map(|words| if words == [""] { Vec::new() } else { words }),
        command: body.cmd.unwrap_or_default(),
        env: body.env,
        user: given(body.user),
        workdir: given(body.working_dir),
        hostname: given(body.hostname),
        domainname: given(body.domainname),
        labels: body.labels,
        annotations,
        expose,
        tty: body.tty,
        open_stdin: body.open_stdin,
        stdin_once: body.stdin_once,
        attach_stdin: body.attach_stdin,
        attach_stdout: body.attach_stdout,
        attach_stderr: body.attach_stderr,
        stop_signal,
        stop_timeout: body.stop_timeout,
        log_given,
        mounts,
        volumes_from,
        health: body.healthcheck.map(health).transpose()?.unwrap_or_default(),
        host,
        ..CreateContainer::default()
    })
}

fn health(check: Healthcheck) -> Result<HealthRequest, Refusal> {
    let mut request = HealthRequest::default();
    match check.test.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | [""] => {}
        ["NONE"] => request.disable = true,
        ["CMD-SHELL", text] => request.command = Some((*text).to_owned()),
        ["CMD", words @ ..] if !words.is_empty() => request.words = Some(words.iter().map(|word| (*word).to_owned()).collect()),
        other => return Err(Refusal::invalid(format!("invalid health check {other:?}: expected NONE, CMD and words, or CMD-SHELL and a text"))),
    }
    let time = |name: &str, value: Option<i64>| match value {
        Some(value) if value < 0 || (value > 0 && value < 1_000_000) => {
            Err(Refusal::invalid(format!("{name} in Healthcheck cannot be less than 1ms")))
        }
        value => Ok(value.filter(|value| *value != 0)),
    };
    request.interval = time("Interval", check.interval)?;
    request.timeout = time("Timeout", check.timeout)?;
    request.start_period = time("StartPeriod", check.start_period)?;
    request.start_interval = time("StartInterval", check.start_interval)?;
    request.retries = match check.retries {
        Some(retries) if retries < 0 => return Err(Refusal::invalid("Retries in Healthcheck cannot be negative")),
        retries => retries.filter(|retries| *retries != 0),
    };
    Ok(request)
}

/// The mode, and the networks besides it that are asked for.
fn networks(host: &mut HostSpec, mode: &str, endpoints: Map<String, Value>, mac: Option<String>) -> Result<(), Refusal> {
    let mode = if matches!(mode, "" | "default") { "bridge" } else { mode };
    let same = |name: &str| name == mode || (name == "default" && mode == "bridge");
    let mut asked = vec![long_form(mode, None)?];
    for (name, settings) in endpoints {
        let settings: Option<EndpointSettings> =
            serde_json::from_value(settings).map_err(|error| Refusal::invalid(format!("invalid EndpointsConfig of \"{name}\": {error}")))?;
        if same(&name) {
            asked[0] = long_form(mode, settings)?;
        } else {
            asked.push(long_form(&name, settings)?);
        }
    }
    host.mac_address = mac.as_deref().map(network::parse_mac).transpose()?;
    let given = network::Given { mac: host.mac_address.clone(), ..network::Given::default() };
    (host.network, host.attachments) = network::choose(&asked, &given)?;
    if host.mac_address.is_none() {
        host.mac_address = host.attachments.iter().flatten().next().and_then(|first| first.mac.clone());
    }
    if let NetworkMode::Container(_) = host.network
        && (!host.ports.is_empty() || host.publish_all)
    {
        return Err(Refusal::invalid("conflicting options: port publishing and the container type network mode"));
    }
    Ok(())
}

/// `--network` as it is typed.
pub fn long_form(name: &str, settings: Option<EndpointSettings>) -> Result<String, Refusal> {
    let Some(settings) = settings else { return Ok(name.to_owned()) };
    if let Some(address) = settings.ipam_config.link_local.first() {
        return Err(Refusal::invalid(format!(
            "LinkLocalIPs of \"{name}\": \"{address}\" is not supported: addresses come from the subnets of the network"
        )));
    }
    if let Some(link) = settings.links.first() {
        return Err(Refusal::invalid(format!(
            "Links of \"{name}\": \"{link}\" is not supported on a network: containers of it know each other by name"
        )));
    }
    let mut fields = vec![format!("name={name}")];
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            fields.push(format!("{key}={value}"));
        }
    };
    settings.aliases.iter().for_each(|alias| add("alias", alias));
    add("ip", &settings.ipam_config.ipv4);
    add("ip6", &settings.ipam_config.ipv6);
    add("mac-address", settings.mac_address.as_deref().unwrap_or_default());
    settings.driver_opts.iter().for_each(|(key, value)| add("driver-opt", &format!("{key}={value}")));
    if settings.gw_priority != 0 {
        add("gw-priority", &settings.gw_priority.to_string());
    }
    Ok(if fields.len() == 1 { name.to_owned() } else { fields.join(",") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<CreateContainer, Refusal> {
        request(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_client_of_docker_asks() {
        let request = of(r#"{"Image":"busybox","Cmd":["sh"],"Env":null,"Tty":true,"ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"Entrypoint":[""],
            "Healthcheck":{"Test":["CMD","true"],"Interval":5000000000},
            "HostConfig":{"Binds":["/a:/b:ro","vv:/data"],"NetworkMode":"front","PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"8080"},{"HostPort":""}]},
            "RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"Memory":1048576000,"NanoCpus":500000000,"CapAdd":["NET_ADMIN"],"PidsLimit":null,
            "Mounts":[{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":4096}},{"Type":"volume","Source":"ww","Target":"/a,b","ReadOnly":true}],
            "SecurityOpt":["no-new-privileges","seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"],"LogConfig":{"Type":"","Config":{}}},
            "NetworkingConfig":{"EndpointsConfig":{"back":{},"front":{"Aliases":["web"],"IPAMConfig":{"IPv4Address":"10.9.0.9"}}}}}"#)
        .unwrap();
        assert_eq!(request.entrypoint, Some(Vec::new()));
        assert_eq!(request.mounts.len(), 4, "the volume of the image's list is the bind: {:?}", request.mounts);
        assert!(request.mounts.iter().any(|mount| mount.destination.as_os_str() == "/a,b" && mount.read_only));
        assert_eq!(request.host.network, NetworkMode::Named("front".to_owned()));
        let networks: Vec<String> =
            request.host.attachments.unwrap().into_iter().map(|one| format!("{} {:?} {:?}", one.network, one.aliases, one.ipv4)).collect();
        assert_eq!(networks, ["front [\"web\"] Some(10.9.0.9)", "back [] None"]);
        assert_eq!((request.host.ports.len(), request.expose, request.log_given), (2, vec!["80/tcp".to_owned()], false));
        assert_eq!((request.health.words, request.health.interval), (Some(vec!["true".to_owned()]), Some(5_000_000_000)));
        assert_eq!((request.host.resources.memory, request.host.resources.pids_limit), (Some(1_048_576_000), None));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, word) in [
            ("{}", "Image"),
            (r#"{"Image":"b","HostConfig":{"VolumeDriver":"nfs"}}"#, "VolumeDriver"),
            (r#"{"Image":"b","HostConfig":{"StorageOpt":{"size":"1G"}}}"#, "StorageOpt"),
            (r#"{"Image":"b","HostConfig":{"CpuRealtimeRuntime":1}}"#, "CpuRealtimeRuntime"),
            (r#"{"Image":"b","HostConfig":{"Isolation":"hyperv"}}"#, "Isolation"),
            (r#"{"Image":"b","HostConfig":{"Runtime":"kata"}}"#, "Runtime"),
            (r#"{"Image":"b","Healthcheck":{"Test":["X"]}}"#, "health check"),
            (r#"{"Image":"b","HostConfig":{"NetworkMode":"container:a","PortBindings":{"80/tcp":[{}]}}}"#, "port publishing"),
            (r#"{"Image":"b","NetworkingConfig":{"EndpointsConfig":{"a":{"Links":["x"]}}}}"#, "Links"),
        ] {
            assert!(of(text).unwrap_err().message.contains(word), "{text}");
        }
    }
}
