//! The log drivers and their options, checked by name.

use super::file::Rotation;
use crate::base::ByteSize;
use crate::monitor::Error;
use crate::state::record::LogSpec;

/// Docker's default is no limit, which fills disks; this is podman's and Docker's `local` order of size.
const DEFAULT_SIZE: u64 = 20 << 20;
const DEFAULT_FILES: u32 = 5;
/// What may wait for a slow receiver; Docker's size.
const DEFAULT_BUFFER: u64 = 1 << 20;
/// Drivers of Docker that are refused by name.
const OTHERS: &[&str] = &["gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs", "logentries", "k8s-file", "passthrough"];
/// Options that all drivers but `none` have. Their texts are resolved when the container is started.
const TEXTS: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];

/// Where records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    JsonFile,
    Local,
    Journald,
    Syslog,
    None,
}

/// Where syslog messages go, and how they look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Syslog {
    pub address: Address,
    pub facility: u8,
    pub format: Format,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Udp(String),
    Tcp(String),
    /// A socket of the type the other side has.
    Unix {
        path: String,
        datagram: Option<bool>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Local time without a host name, as syslog(3) writes to the local daemon.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub driver: Driver,
    /// Of the log files; with syslog of the local copy that `logs` reads.
    pub rotation: Rotation,
    /// Bytes that may wait for a receiver.
    pub buffer: u64,
    /// The container waits for a slow receiver (for a while); otherwise lines are dropped and counted at once.
    pub blocking: bool,
    pub syslog: Option<Syslog>,
    /// syslog: keep a local copy.
    pub cache: bool,
}

fn wrong(key: &str, value: &str, reason: &'static str) -> Error {
    Error::LogOption { key: key.to_owned(), value: value.to_owned(), reason }
}

impl Options {
    /// # Errors
    /// [`Error::LogOption`] for a driver or option that is unknown or has an impossible value.
    pub(super) fn parse(spec: &LogSpec) -> Result<Self, Error> {
        let driver = match spec.driver.as_str() {
            "json-file" | "" => Driver::JsonFile,
            "local" => Driver::Local,
            "journald" => Driver::Journald,
            "syslog" => Driver::Syslog,
            "none" => Driver::None,
            other if OTHERS.contains(&other) => {
                return Err(wrong("driver", other, "the driver is not supported; use json-file, local, journald, syslog or none"));
            }
            other => return Err(wrong("driver", other, "there is no such driver; use json-file, local, journald, syslog or none")),
        };
        let mut options = Options {
            driver,
            rotation: Rotation { size: DEFAULT_SIZE, files: DEFAULT_FILES, compress: driver == Driver::Local },
            buffer: DEFAULT_BUFFER,
            blocking: true,
            syslog: None,
            cache: driver == Driver::Syslog,
        };
        let mut syslog = Syslog { address: Address::Unix { path: "/dev/log".to_owned(), datagram: None }, facility: 3, format: Format::Local };
        let mut named = false;
        for (key, value) in &spec.options {
            match (key.as_str(), driver) {
                (_, Driver::None) => return Err(wrong(key, value, "the driver none has no options")),
                (key, _) if TEXTS.contains(&key) => check_text(key, value)?,
                ("mode", _) => options.blocking = mode(value)?,
                ("max-buffer-size", _) => options.buffer = size(key, value)?,
                ("max-size" | "max-file" | "compress", Driver::JsonFile | Driver::Local) => set_rotation(&mut options.rotation, key, value)?,
                ("cache-disabled", Driver::Syslog) => options.cache = !flag(key, value)?,
                ("cache-max-size" | "cache-max-file" | "cache-compress", Driver::Syslog) => {
                    set_rotation(&mut options.rotation, key.trim_start_matches("cache-"), value)?;
                }
                ("syslog-address", Driver::Syslog) => (syslog.address, named) = (address(value)?, true),
                ("syslog-facility", Driver::Syslog) => syslog.facility = facility(value)?,
                ("syslog-format", Driver::Syslog) => syslog.format = format(value)?,
                (key, Driver::Syslog) if key.starts_with("syslog-tls") => {
                    return Err(wrong(key, value, "TLS to a syslog server is not supported; use a local forwarder"));
                }
                _ => return Err(wrong(key, value, "this option is not supported by the driver")),
            }
        }
        if driver == Driver::Syslog {
            if named && syslog.format == Format::Local && !matches!(syslog.address, Address::Unix { .. }) {
                syslog.format = Format::Rfc3164;
            }
            options.syslog = Some(syslog);
        }
        if !options.blocking && options.buffer == 0 {
            return Err(wrong("max-buffer-size", "0", "it must be positive"));
        }
        if options.blocking && spec.options.contains_key("max-buffer-size") {
            return Err(wrong("max-buffer-size", &spec.options["max-buffer-size"], "it needs mode=non-blocking"));
        }
        Ok(options)
    }
}

fn set_rotation(rotation: &mut Rotation, key: &str, value: &str) -> Result<(), Error> {
    match key {
        "max-size" if value == "-1" => rotation.size = 0,
        "max-size" => rotation.size = size(key, value)?,
        "max-file" => match value.parse() {
            Ok(count @ 1..=1000) => rotation.files = count,
            _ => return Err(wrong(key, value, "expected a number from 1 to 1000")),
        },
        _ => rotation.compress = flag(key, value)?,
    }
    Ok(())
}

fn size(key: &str, value: &str) -> Result<u64, Error> {
    match value.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if bytes > 0 => Ok(bytes),
        _ if key == "max-size" => Err(wrong(key, value, "expected a positive size such as 20m, or -1 for no limit")),
        _ => Err(wrong(key, value, "expected a positive size such as 4m")),
    }
}

fn flag(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong(key, value, "expected true or false")),
    }
}

fn mode(value: &str) -> Result<bool, Error> {
    match value {
        "blocking" => Ok(true),
        "non-blocking" => Ok(false),
        _ => Err(wrong("mode", value, "expected blocking or non-blocking")),
    }
}

fn check_text(key: &str, value: &str) -> Result<(), Error> {
    if key.ends_with("-regex") && regex_lite::Regex::new(value).is_err() {
        return Err(wrong(key, value, "it is no regular expression"));
    }
    Ok(())
}

/// `udp://host:514`, `tcp://host:601`, `unix:///dev/log`, `unixgram:///dev/log`.
fn address(value: &str) -> Result<Address, Error> {
    let refuse = |reason| Err(wrong("syslog-address", value, reason));
    let Some((scheme, rest)) = value.split_once("://") else { return refuse("expected udp://, tcp://, unix:// or unixgram://") };
    let with_port = |host: &str| {
        let port = host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && !name.ends_with(':') && port.parse::<u16>().is_ok());
        if port { host.to_owned() } else { format!("{host}:514") }
    };
    match scheme {
        "udp" | "tcp" if rest.is_empty() => refuse("the host is missing"),
        "udp" => Ok(Address::Udp(with_port(rest))),
        "tcp" => Ok(Address::Tcp(with_port(rest))),
        "unix" | "unixgram" if !rest.starts_with('/') => refuse("the path must be absolute"),
        "unix" => Ok(Address::Unix { path: rest.to_owned(), datagram: None }),
        "unixgram" => Ok(Address::Unix { path: rest.to_owned(), datagram: Some(true) }),
        "tcp+tls" => refuse("TLS to a syslog server is not supported; use a local forwarder"),
        _ => refuse("expected udp://, tcp://, unix:// or unixgram://"),
    }
}

/// RFC 5424, 6.2.1: the names of syslog.conf(5) or numbers.
fn facility(value: &str) -> Result<u8, Error> {
    const NAMES: [&str; 12] = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
    let local = value.strip_prefix("local").and_then(|n| n.parse::<u8>().ok()).filter(|n| *n < 8).map(|n| 16 + n);
    let named = NAMES.iter().position(|name| *name == value).and_then(|n| u8::try_from(n).ok());
    let number = value.parse::<u8>().ok().filter(|n| *n < 24);
    local.or(named).or(number).ok_or_else(|| wrong("syslog-facility", value, "expected a facility such as daemon or local0, or 0 to 23"))
}

fn format(value: &str) -> Result<Format, Error> {
    match value {
        "" => Ok(Format::Local),
        "rfc3164" => Ok(Format::Rfc3164),
        "rfc5424" => Ok(Format::Rfc5424),
        "rfc5424micro" => Ok(Format::Rfc5424Micro),
        _ => Err(wrong("syslog-format", value, "expected rfc3164, rfc5424 or rfc5424micro")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: &str, pairs: &[(&str, &str)]) -> Result<Options, Error> {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Options::parse(&LogSpec { driver: driver.to_owned(), options })
    }

    #[test]
    fn options_are_parsed_or_refused_by_name() {
        let plain = parse("json-file", &[]).unwrap();
        assert_eq!(plain.rotation, Rotation { size: 20 << 20, files: 5, compress: false });
        assert!(parse("local", &[]).unwrap().rotation.compress);
        let set = parse("json-file", &[("max-size", "1k"), ("max-file", "2"), ("compress", "true"), ("labels", "a,b"), ("tag", "{{.Name}}")]);
        assert_eq!(set.unwrap().rotation, Rotation { size: 1024, files: 2, compress: true });
        assert_eq!(parse("json-file", &[("max-size", "-1")]).unwrap().rotation.size, 0);
        let drops = parse("journald", &[("mode", "non-blocking"), ("max-buffer-size", "4m")]).unwrap();
        assert_eq!((drops.blocking, drops.buffer), (false, 4 << 20));
        for (driver, key, value) in [
            ("json-file", "max-file", "0"),
            ("json-file", "max-size", "0"),
            ("json-file", "compress", "maybe"),
            ("json-file", "bogus", "x"),
            ("json-file", "mode", "slow"),
            ("json-file", "max-buffer-size", "4m"),
            ("json-file", "env-regex", "("),
            ("json-file", "syslog-address", "udp://x"),
            ("journald", "max-size", "1m"),
            ("none", "max-size", "1m"),
            ("syslog", "syslog-tls-cert", "/x"),
            ("syslog", "syslog-facility", "local8"),
        ] {
            let error = parse(driver, &[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        for driver in ["gelf", "bogus"] {
            assert!(parse(driver, &[]).unwrap_err().to_string().contains(driver));
        }
    }

    #[test]
    fn syslog_addresses_and_facilities() {
        let syslog = |pairs: &[(&str, &str)]| parse("syslog", pairs).unwrap().syslog.unwrap();
        assert_eq!(syslog(&[]).address, Address::Unix { path: "/dev/log".to_owned(), datagram: None });
        let far = syslog(&[("syslog-address", "tcp://10.0.0.1:601"), ("syslog-facility", "local3"), ("syslog-format", "rfc5424")]);
        assert_eq!((far.address, far.facility, far.format), (Address::Tcp("10.0.0.1:601".to_owned()), 19, Format::Rfc5424));
        assert_eq!(syslog(&[("syslog-address", "udp://[::1]")]).address, Address::Udp("[::1]:514".to_owned()));
        assert_eq!(syslog(&[("syslog-address", "udp://log.host")]).format, Format::Rfc3164);
        for bad in ["log.host", "udp://", "unix://x", "tcp+tls://h:1", "http://h"] {
            assert!(parse("syslog", &[("syslog-address", bad)]).is_err(), "{bad}");
        }
    }
}
