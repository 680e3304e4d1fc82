//! Networks and who is on them.

use super::Call;
use super::create::long_form;
use super::reply::{Answer, Refusal, Reply};
use super::wire::{Membership, NetworkBody};
use crate::engine::request::network;
use crate::engine::{CreateNetwork, Engine, Subnet};
use crate::state::record::{Attachment, Driver};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Networks that have no record.
const BUILTIN: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

pub fn list(call: Call) -> Answer {
    let filters = call.query.filters()?;
    call.engine(|engine| {
        let mut documents = Vec::new();
        for network in engine.networks(&filters)? {
            documents.extend(document(engine, &network.id)?);
        }
        for (name, driver) in BUILTIN {
            if crate::engine::builtin_matches(&filters, name, driver) {
                documents.extend(document(engine, name)?);
            }
        }
        // Docker's lists do not look at endpoints.
        for document in &mut documents {
            document["Containers"] = json!({});
        }
        Ok(Reply::ok(documents))
    })
}

/// None: it is gone meanwhile.
fn document(engine: &Engine, name: &str) -> Result<Option<Value>, Refusal> {
    match engine.inspect_network(name) {
        Ok(document) => Ok(Some(document)),
        Err(crate::engine::Error::NoSuch { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub fn inspect(call: Call, name: &str) -> Answer {
    if call.query.text("scope").is_some_and(|scope| scope != "local") {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("network {name} not found")));
    }
    call.engine(|engine| match document(engine, name)? {
        Some(document) => Ok(Reply::ok(document)),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("network {name} not found"))),
    })
}

pub fn create(mut call: Call) -> Answer {
    let body: NetworkBody = call.body.json()?;
    let request = request(&body)?;
    call.engine(|engine| {
        let network = engine.create_network(&request)?;
        Ok(Reply::created(json!({"Id": network.id, "Warning": ""})))
    })
}

fn request(body: &NetworkBody) -> Result<CreateNetwork, Refusal> {
    let driver = match body.driver.as_str() {
        "" | "default" | "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => Driver::Ipvlan,
        "host" | "none" | "null" => {
            return Err(Refusal::new(StatusCode::FORBIDDEN, format!("only one instance of \"{}\" network is allowed", body.driver)));
        }
        other => return Err(Refusal::invalid(format!("network driver \"{other}\" is not supported; bridge, macvlan and ipvlan are"))),
    };
    for (given, field) in [(body.ingress, "Ingress"), (body.config_only, "ConfigOnly"), (!matches!(body.scope.as_str(), "" | "local"), "Scope")] {
        if given {
            return Err(Refusal::invalid(format!("{field} of a network is not supported: networks are of this host")));
        }
    }
    if !matches!(body.ipam.driver.as_str(), "" | "default") {
        return Err(Refusal::invalid(format!("IPAM driver \"{}\" is not supported; only default is", body.ipam.driver)));
    }
    if let Some(option) = body.ipam.options.keys().next() {
        return Err(Refusal::invalid(format!("IPAM option \"{option}\" is not supported")));
    }
    let mut request = CreateNetwork {
        name: body.name.clone(),
        driver: Some(driver),
        internal: body.internal,
        no_ipv4: body.enable_ipv4 == Some(false),
        ipv6: body.enable_ipv6,
        attachable: body.attachable,
        labels: body.labels.clone().into_iter().collect(),
        options: body.options.clone().into_iter().collect(),
        ..CreateNetwork::default()
    };
    let address =
        |field: &str, text: &str| text.parse::<IpAddr>().map_err(|_| Refusal::invalid(format!("invalid {field} \"{text}\": not an IP address")));
    for pool in &body.ipam.config {
        if !pool.subnet.is_empty() {
            request.subnets.push(Subnet::parse(&pool.subnet, true).map_err(|why| Refusal::invalid(format!("Subnet: {why}")))?);
        }
        if !pool.range.is_empty() {
            request.ranges.push(Subnet::parse(&pool.range, false).map_err(|why| Refusal::invalid(format!("IPRange: {why}")))?);
        }
        if !pool.gateway.is_empty() {
            request.gateways.push(address("Gateway", &pool.gateway)?);
        }
        for (name, text) in &pool.auxiliary {
            request.auxiliary.push((name.clone(), address("AuxiliaryAddresses", text)?));
        }
    }
    Ok(request)
}

pub fn remove(call: Call, name: &str) -> Answer {
    call.engine(|engine| {
        engine.remove_network(name)?;
        Ok(Reply::none())
    })
}

pub fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    call.engine(|engine| Ok(Reply::ok(json!({"NetworksDeleted": engine.prune_networks(&filters)?}))))
}

pub fn connect(mut call: Call, name: &str) -> Answer {
    let body: Membership = call.body.json()?;
    // The grammar of `--network` reads the settings; the name is not part of what it says.
    let (_, attachments) = network::choose(&[long_form("x", Some(body.endpoint_config))?], &network::Given::default())?;
    let asked = attachments.into_iter().flatten().next().unwrap_or_default();
    call.engine(|engine| {
        let network = engine.find_network(name)?;
        let attachment = Attachment { network: network.name.clone(), ..asked };
        engine.connect_network(&network.name, &body.container, &attachment)?;
        Ok(Reply::Empty(StatusCode::OK))
    })
}

pub fn disconnect(mut call: Call, name: &str) -> Answer {
    let body: Membership = call.body.json()?;
    call.engine(|engine| {
        engine.disconnect_network(name, &body.container, body.force)?;
        Ok(Reply::Empty(StatusCode::OK))
    })
}
