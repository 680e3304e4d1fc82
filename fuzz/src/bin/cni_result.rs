//! Any bytes as the answer of a CNI plugin. What parsed holds together: each address names an interface that is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcon_fuzz::network::cni::{AddResult, candidates};
use serde_json::{Map, Value};

fuzz_target!(|data: &[u8]| {
    let Ok(raw) = serde_json::from_slice::<Map<String, Value>>(data) else { return };
    let text = raw.get("cniVersion").and_then(Value::as_str);
    if let Ok(versions) = candidates(text, &[]) {
        assert_eq!(versions.len(), 1);
    }
    let Ok(result) = AddResult::parse(&raw) else { return };
    for ip in &result.ips {
        assert!(ip.interface.is_none_or(|at| at < result.interfaces.len()));
        assert!(ip.prefix <= if ip.address.is_ipv4() { 32 } else { 128 });
    }
    for interface in &result.interfaces {
        assert!(result.addresses(&interface.name).count() <= result.ips.len());
    }
});
