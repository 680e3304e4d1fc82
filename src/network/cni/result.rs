//! Results of ADD: what a network gave to a container, in each of the forms that versions have.
//!
//! Invariant: a result that parsed names only interfaces that it has, and its addresses are addresses; its raw form is
//! kept, since the next plugin gets it as it was.

use super::version::Version;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Most entries of one list.
const MOST: usize = 4096;

/// What a network gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddResult {
    pub interfaces: Vec<Interface>,
    pub ips: Vec<Ip>,
    pub routes: Vec<Route>,
    pub dns: ResultDns,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    pub name: String,
    pub mac: Option<String>,
    pub mtu: Option<u64>,
    /// None: it is the host's.
    pub sandbox: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
    /// Index of an interface of the same result.
    pub interface: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: (IpAddr, u8),
    pub gateway: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultDns {
    pub nameservers: Vec<String>,
    pub domain: Option<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl AddResult {
    /// Reads the answer to ADD. What has no place here is left to the raw form.
    ///
    /// # Errors
    /// The key that is not as the specification says.
    pub fn parse(raw: &Map<String, Value>) -> Result<Self, String> {
        let interfaces =
            list(raw, "interfaces")?.iter().enumerate().map(|(at, item)| interface(item).map_err(|why| format!("interfaces[{at}]{why}")));
        let interfaces: Vec<Interface> = interfaces.collect::<Result<_, _>>()?;
        let ips = list(raw, "ips")?.iter().enumerate().map(|(at, item)| ip(item, interfaces.len()).map_err(|why| format!("ips[{at}]{why}")));
        let ips = ips.collect::<Result<_, _>>()?;
        let routes = list(raw, "routes")?.iter().enumerate().map(|(at, item)| route(item).map_err(|why| format!("routes[{at}]{why}")));
        let routes = routes.collect::<Result<_, _>>()?;
        let dns = match raw.get("dns") {
            None | Some(Value::Null) => ResultDns::default(),
            Some(Value::Object(dns)) => ResultDns {
                nameservers: words(dns, "nameservers")?,
                domain: text(dns, "domain").map_err(|why| format!("dns{why}"))?.filter(|domain| !domain.is_empty()),
                search: words(dns, "search")?,
                options: words(dns, "options")?,
            },
            Some(_) => return Err("dns is not an object".to_owned()),
        };
        Ok(AddResult { interfaces, ips, routes, dns })
    }

    /// The addresses of an interface in the container. One that names no interface is the container's own.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = &Ip> {
        let is_ours = move |at: usize| self.interfaces.get(at).is_some_and(|interface| interface.name == name && interface.sandbox.is_some());
        self.ips.iter().filter(move |ip| ip.interface.is_none_or(is_ours))
    }

    /// The hardware address of an interface in the container.
    pub fn mac(&self, name: &str) -> Option<&str> {
        self.interfaces.iter().find(|interface| interface.name == name && interface.sandbox.is_some())?.mac.as_deref()
    }
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) if items.len() <= MOST => Ok(items),
        Some(Value::Array(items)) => Err(format!("{key} has {} entries, more than {MOST}", items.len())),
        Some(_) => Err(format!("{key} is not a list")),
    }
}

fn words(dns: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let word = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| format!("dns.{key} is not a list of strings"));
    list(dns, key).map_err(|why| format!("dns.{why}"))?.iter().map(word).collect()
}

fn fields(item: &Value) -> Result<&Map<String, Value>, String> {
    item.as_object().ok_or_else(|| " is not an object".to_owned())
}

fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!(".{key} is not a string")),
    }
}

fn address(object: &Map<String, Value>, key: &str) -> Result<Option<IpAddr>, String> {
    let Some(text) = text(object, key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!(".{key} \"{}\" is not an IP address", text.escape_default()))
}

fn cidr(object: &Map<String, Value>, key: &str) -> Result<(IpAddr, u8), String> {
    let text = text(object, key)?.ok_or_else(|| format!(".{key} is missing"))?;
    let parsed = text.split_once('/').and_then(|(address, prefix)| Some((address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?)));
    let fits = |(address, prefix): &(IpAddr, u8)| *prefix <= if address.is_ipv4() { 32 } else { 128 };
    parsed.filter(fits).ok_or_else(|| format!(".{key} \"{}\" is not ADDRESS/PREFIX", text.escape_default()))
}

fn interface(item: &Value) -> Result<Interface, String> {
    let object = fields(item)?;
    let mac = text(object, "mac")?.filter(|mac| !mac.is_empty());
    if let Some(mac) = mac.as_deref().filter(|mac| mac.len() > 64 || !mac.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'-')) {
        return Err(format!(".mac \"{}\" is not a hardware address", mac.escape_default()));
    }
    let mtu = match object.get("mtu") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_u64().ok_or_else(|| ".mtu is not a number".to_owned())?).filter(|mtu| *mtu > 0),
    };
    let name = text(object, "name")?.unwrap_or_default();
    Ok(Interface { name, mac, mtu, sandbox: text(object, "sandbox")?.filter(|sandbox| !sandbox.is_empty()) })
}

fn ip(item: &Value, interfaces: usize) -> Result<Ip, String> {
    let object = fields(item)?;
    let (address, prefix) = cidr(object, "address")?;
    // Until 0.4.0; a plugin that says it and is wrong is better not believed.
    if let Some(version) = text(object, "version")?
        && version != if address.is_ipv4() { "4" } else { "6" }
    {
        return Err(format!(".version \"{}\" is not that of {address}", version.escape_default()));
    }
    let interface = match object.get("interface") {
        None | Some(Value::Null) => None,
        // The reference library of 0.3 wrote -1 for none.
        Some(value) if value.as_i64().is_some_and(|index| index < 0) => None,
        Some(value) => {
            let index = value.as_u64().and_then(|index| usize::try_from(index).ok()).filter(|index| *index < interfaces);
            Some(index.ok_or_else(|| format!(".interface {value} is not among the {interfaces} interfaces"))?)
        }
    };
    Ok(Ip { address, prefix, gateway: self::address(object, "gateway")?, interface })
}

fn route(item: &Value) -> Result<Route, String> {
    let object = fields(item)?;
    Ok(Route { destination: cidr(object, "dst")?, gateway: address(object, "gw")? })
}

/// Brings a result into the form of a version, for a plugin that answered in another one (or did not say in which).
pub(super) fn in_form_of(version: Version, result: &mut Map<String, Value>) {
    result.insert("cniVersion".to_owned(), version.as_str().into());
    let Some(Value::Array(ips)) = result.get_mut("ips") else { return };
    for ip in ips.iter_mut().filter_map(Value::as_object_mut) {
        if !version.tags_addresses() {
            ip.remove("version");
        } else if !ip.contains_key("version") {
            let six = ip.get("address").and_then(Value::as_str).is_some_and(|address| address.contains(':'));
            ip.insert("version".to_owned(), if six { "6" } else { "4" }.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("an object")
    }

    const FULL: &str = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01","mtu":0},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1450,"sandbox":"/run/netns/a","pciID":"x"}],"ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":1},{"address":"fd00::5/64","interface":1},{"address":"10.9.0.1/24","interface":0}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fd00::1","priority":5}],"dns":{"nameservers":["10.1.0.1"],"domain":"x.test","search":["a","b"],"options":["ndots:2"]}}"#;

    #[test]
    fn a_full_result() {
        let result = AddResult::parse(&object(FULL)).unwrap();
        assert_eq!(result.addresses("eth0").map(|ip| format!("{}/{}", ip.address, ip.prefix)).collect::<Vec<_>>(), ["10.1.0.5/16", "fd00::5/64"]);
        assert_eq!(result.mac("eth0"), Some("02:00:00:00:00:02"));
        assert_eq!((result.mac("cni0"), result.interfaces[0].mtu, result.interfaces[1].mtu), (None, None, Some(1450)));
        assert_eq!(result.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
        assert_eq!(result.routes[1], Route { destination: ("::".parse().unwrap(), 0), gateway: Some("fd00::1".parse().unwrap()) });
        assert_eq!(result.dns.domain.as_deref(), Some("x.test"));
        assert_eq!(AddResult::parse(&object("{}")).unwrap(), AddResult::default());
    }

    #[test]
    fn older_forms() {
        let old = object(
            r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24","interface":-1},{"version":"6","address":"fd00::2/64"}],"dns":null}"#,
        );
        let result = AddResult::parse(&old).unwrap();
        assert_eq!(result.addresses("eth0").count(), 2);
        let mut newer = old.clone();
        in_form_of(Version::V1_0_0, &mut newer);
        assert_eq!(newer["ips"][0], serde_json::json!({"address":"10.0.0.2/24","interface":-1}));
        assert_eq!(newer["cniVersion"], "1.0.0");
        in_form_of(Version::V0_4_0, &mut newer);
        assert_eq!((&newer["ips"][0]["version"], &newer["ips"][1]["version"]), (&"4".into(), &"6".into()));
    }

    #[test]
    fn faults_are_named() {
        let table = [
            (r#"{"interfaces":{}}"#, "interfaces is not a list"),
            (r#"{"interfaces":[7]}"#, "interfaces[0] is not an object"),
            (r#"{"interfaces":[{"name":"a","mac":"x\ny"}]}"#, "interfaces[0].mac \"x\\ny\" is not a hardware address"),
            (r#"{"ips":[{}]}"#, "ips[0].address is missing"),
            (r#"{"ips":[{"address":"10.0.0.1"}]}"#, "ips[0].address \"10.0.0.1\" is not ADDRESS/PREFIX"),
            (r#"{"ips":[{"address":"10.0.0.1/33"}]}"#, "ips[0].address \"10.0.0.1/33\" is not ADDRESS/PREFIX"),
            (r#"{"ips":[{"address":"10.0.0.1/8","interface":1}],"interfaces":[{"name":"a"}]}"#, "ips[0].interface 1 is not among the 1 interfaces"),
            (r#"{"ips":[{"address":"10.0.0.1/8","interface":1.5}]}"#, "ips[0].interface 1.5 is not among the 0 interfaces"),
            (r#"{"ips":[{"address":"10.0.0.1/8","version":"6"}]}"#, "ips[0].version \"6\" is not that of 10.0.0.1"),
            (r#"{"ips":[{"address":"10.0.0.1/8","gateway":"x"}]}"#, "ips[0].gateway \"x\" is not an IP address"),
            (r#"{"routes":[{"dst":"default"}]}"#, "routes[0].dst \"default\" is not ADDRESS/PREFIX"),
            (r#"{"dns":[]}"#, "dns is not an object"),
            (r#"{"dns":{"search":"a"}}"#, "dns.search is not a list"),
            (r#"{"dns":{"domain":1}}"#, "dns.domain is not a string"),
        ];
        for (text, expected) in table {
            assert_eq!(AddResult::parse(&object(text)).unwrap_err(), expected, "{text}");
        }
        let many = format!(r#"{{"routes":[{}]}}"#, vec!["{}"; MOST + 1].join(","));
        assert_eq!(AddResult::parse(&object(&many)).unwrap_err(), "routes has 4097 entries, more than 4096");
    }

    /// Any JSON, often with the keys and values that results have.
    fn json() -> impl Strategy<Value = Value> {
        let words = prop::sample::select(vec![
            "10.0.0.1/8",
            "fd00::1/64",
            "10.0.0.1",
            "::",
            "4",
            "6",
            "eth0",
            "02:00:00:00:00:01",
            "",
            "\u{0}é",
            "999.1.1.1/99",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-2i64..4).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            words.prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let keys = prop::sample::select(vec![
            "interfaces",
            "ips",
            "routes",
            "dns",
            "name",
            "mac",
            "mtu",
            "sandbox",
            "address",
            "gateway",
            "interface",
            "version",
            "dst",
            "gw",
            "nameservers",
            "domain",
            "search",
        ]);
        leaf.prop_recursive(4, 48, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..8)
                    .prop_map(|entries| Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_parses_holds_together(parts in prop::collection::vec((prop::sample::select(vec!["interfaces", "ips", "routes", "dns"]), json()), 0..5)) {
            let raw: Map<String, Value> = parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            if let Ok(result) = AddResult::parse(&raw) {
                for ip in &result.ips {
                    prop_assert!(ip.interface.is_none_or(|at| at < result.interfaces.len()));
                    let most = if ip.address.is_ipv4() { 32 } else { 128 };
                    prop_assert!(ip.prefix <= most);
                }
                // The form of another version, and back, tells the same.
                for version in Version::ALL {
                    let mut other = raw.clone();
                    in_form_of(version, &mut other);
                    prop_assert_eq!(AddResult::parse(&other), Ok(result.clone()));
                }
            }
        }

        #[test]
        fn damaged_texts_never_panic(at in 0..FULL.len(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut text = FULL.as_bytes().to_vec();
            text[at] = byte;
            if cut {
                text.truncate(at);
            }
            if let Ok(raw) = serde_json::from_slice::<Map<String, Value>>(&text) {
                drop(AddResult::parse(&raw));
            }
        }
    }
}
