//! What every verb needs: the roots, the engine, Docker's client configuration.

use super::failure::Failure;
use super::{output, refused};
use crate::base::{ErrorKind, Privilege};
use crate::engine::{Engine, Settings};
use crate::image::RegistryConfig;
use serde_json::Value;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Flags before the verb.
#[derive(clap::Parser, Debug)]
pub struct Globals {
    /// Directory of durable data (also RCON_ROOT)
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory of live state (also RCON_RUN_ROOT)
    #[arg(long, value_name = "DIR")]
    pub run_root: Option<PathBuf>,
    /// Directory of Docker's client configuration (also DOCKER_CONFIG)
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Settings file to read instead of the system's and the user's (also RCON_CONFIG_FILE)
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Docker's engine to talk to: refused, for there is none
    #[arg(short = 'H', long, value_name = "HOST", hide = true)]
    pub host: Option<String>,
    /// Only "default": this host
    #[arg(short = 'c', long, value_name = "NAME")]
    pub context: Option<String>,
    /// Use TLS to talk to an engine: refused, for there is none
    #[arg(long, hide = true)]
    pub tls: bool,
    #[arg(long, hide = true)]
    pub tlsverify: bool,
    #[arg(long, hide = true, value_name = "FILE")]
    pub tlscacert: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    pub tlscert: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    pub tlskey: Option<String>,
    /// Log at debug level
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Log level: debug, info, warn, error, fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Print the version and quit
    #[arg(short = 'v', long)]
    pub version: bool,
    #[arg(trailing_var_arg = true, hide = true)]
    pub words: Vec<OsString>,
}

/// The surroundings of one command.
pub struct Context {
    pub privilege: Privilege,
    /// `-D`.
    pub debug: bool,
    settings_file: Option<PathBuf>,
    settings: OnceCell<Settings>,
    config_dir: PathBuf,
    config_text: OnceCell<Option<String>>,
    config: OnceCell<Value>,
}

impl Context {
    /// # Errors
    /// An unknown log level, or a settings file of `--config-file` that cannot be used: whatever the command is, the user
    /// wants it to be done by that file.
    pub fn new(globals: Globals) -> Result<Self, Failure> {
        start_log(globals.debug, globals.log_level.as_deref())?;
        only_this_host(&globals)?;
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let data = globals.root.or_else(|| path("RCON_ROOT"));
        let run = globals.run_root.or_else(|| path("RCON_RUN_ROOT"));
        let config_dir = globals.config.or_else(|| path("DOCKER_CONFIG"));
        let config_dir = config_dir.unwrap_or_else(|| path("HOME").unwrap_or_else(|| PathBuf::from("/")).join(".docker"));
        let settings = OnceCell::new();
        if let Some(file) = &globals.config_file {
            let read = Settings::read(Some(file), None).map_err(|error| Failure::invalid(error.to_string()))?;
            settings.get_or_init(|| read);
        }
        Ok(Context {
            privilege: Privilege::detect(data.as_deref(), run.as_deref()),
            debug: globals.debug,
            settings_file: globals.config_file.or_else(|| path("RCON_CONFIG_FILE")),
            settings,
            config_dir,
            config_text: OnceCell::new(),
            config: OnceCell::new(),
        })
    }

    /// The engine on the roots of this command.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn engine(&self) -> Result<Engine, Failure> {
        let settings = self.settings();
        let engine = Engine::open(self.privilege.clone(), self.registry()?)?;
        let notify = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()).map(PathBuf::from);
        let engine = engine.with_defaults(settings.defaults.clone()).with_id_pool(settings.id_pool.clone());
        Ok(engine.with_cni(settings.cni.clone()).with_cache_policy(settings.build).with_notify_socket(notify))
    }

    /// Text of `config.json`; None when there is none.
    fn config_text(&self) -> Option<&str> {
        let read = || {
            let path = self.config_dir.join("config.json");
            match std::fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
                Err(e) => {
                    output::talk(format_args!("warning: cannot read {}: {e}", path.display()));
                    None
                }
            }
        };
        self.config_text.get_or_init(read).as_deref()
    }

    /// A string of `config.json` (`detachKeys`, `psFormat`, …).
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.config().get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// `config.json`; null when there is none or it is no JSON.
    fn config(&self) -> &Value {
        let parse = || {
            let text = self.config_text().unwrap_or("{}");
            serde_json::from_str(text).unwrap_or_else(|e| {
                output::talk(format_args!("warning: cannot read {}: {e}", self.config_dir.join("config.json").display()));
                Value::Null
            })
        };
        self.config.get_or_init(parse)
    }

    /// A proxy for containers (`httpProxy`, …) by `proxies.default` of `config.json`.
    pub fn proxy(&self, key: &str) -> Option<String> {
        // Nothing is parsed for the many who have no such file.
        self.config_text()?;
        let of_default = |config: &Value| config.get("proxies")?.get("default")?.get(key)?.as_str().map(str::to_owned);
        of_default(self.config())
    }

    /// How registries are reached: the settings files, then the environment.
    ///
    /// # Errors
    /// A variable of the environment is not valid.
    pub fn registry(&self) -> Result<RegistryConfig, Failure> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let mut config = self.settings().registry.clone();
        config.docker_config = self.config_text().map(str::to_owned);
        config.docker_config_path = self.config_dir.join("config.json");
        config.certs_dirs = certs_dirs();
        if let Some(keep) = std::env::var("RCON_KEEP_BLOBS").ok().filter(|value| !value.is_empty()) {
            let parsed = crate::engine::request::parse_bool(&keep);
            config.keep_blobs = parsed.map_err(|why| Failure::invalid(format!("RCON_KEEP_BLOBS: {why}")))?;
        }
        config.insecure.extend(list(&variable("RCON_INSECURE_REGISTRIES")));
        config.mirrors.extend(mirrors(&variable("RCON_REGISTRY_MIRRORS"))?);
        Ok(config)
    }

    /// What the settings files say. If they cannot be used, the error stands in for what they would say: containers
    /// can be stopped and removed whatever is written there.
    pub fn settings(&self) -> &Settings {
        self.settings.get_or_init(|| {
            let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let user = || path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
            let user = if self.privilege.rootful { None } else { user().map(|directory| directory.join("rcon/rcon.toml")) };
            let read = Settings::read(self.settings_file.as_deref(), user.as_deref());
            read.unwrap_or_else(|error| Settings { registry: RegistryConfig::broken(error), ..Settings::default() })
        })
    }

    /// `--platform`, or `DOCKER_DEFAULT_PLATFORM`.
    pub fn platform(&self, flag: Option<String>) -> Option<String> {
        flag.or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok()).filter(|text| !text.is_empty())
    }
}

/// What names another engine is refused: nothing must be done here that was meant for elsewhere.
fn only_this_host(globals: &Globals) -> Result<(), Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let host = refused::host(globals.host.as_deref(), variable("DOCKER_HOST").as_deref());
    let context = || refused::context(globals.context.as_deref(), variable("DOCKER_CONTEXT").as_deref());
    let tls = [
        (globals.tls, "--tls"),
        (globals.tlsverify, "--tlsverify"),
        (globals.tlscacert.is_some(), "--tlscacert"),
        (globals.tlscert.is_some(), "--tlscert"),
        (globals.tlskey.is_some(), "--tlskey"),
    ];
    let tls = || tls.iter().find(|(given, _)| *given).map(|(_, flag)| format!("{flag} is not supported: there is no engine to talk to"));
    match host.or_else(context).or_else(tls) {
        Some(message) => Err(Failure::usage(&format!("error: {message}"), "rcon")),
        None => Ok(()),
    }
}

/// Where certificates of single registries are: the system's directories, then the user's.
fn certs_dirs() -> Vec<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
    let mut dirs = vec![PathBuf::from("/etc/rcon/certs.d"), PathBuf::from("/etc/docker/certs.d")];
    dirs.extend(user.iter().flat_map(|user| [user.join("rcon/certs.d"), user.join("docker/certs.d")]));
    dirs
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// `docker.io=http://localhost:5000,quay.io=https://mirror`: registry → mirrors in order.
fn mirrors(text: &str) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in list(text) {
        match item.split_once('=') {
            Some((registry, url)) if !registry.is_empty() && (url.starts_with("http://") || url.starts_with("https://")) => {
                map.entry(registry.to_owned()).or_default().push(url.to_owned());
            }
            _ => return Err(Failure::invalid(format!("RCON_REGISTRY_MIRRORS: \"{item}\" is not registry=http(s)://host"))),
        }
    }
    Ok(map)
}

fn start_log(debug: bool, level: Option<&str>) -> Result<(), Failure> {
    use tracing::level_filters::LevelFilter;
    let level = match (debug, level) {
        (true, _) | (_, Some("debug")) => LevelFilter::DEBUG,
        (_, None | Some("warn" | "warning")) => LevelFilter::WARN,
        (_, Some("trace")) => LevelFilter::TRACE,
        (_, Some("info")) => LevelFilter::INFO,
        (_, Some("error" | "fatal" | "panic")) => LevelFilter::ERROR,
        (_, Some(other)) => return Err(Failure::usage(&format!("error: unknown log level \"{other}\""), "rcon").with_code(1)),
    };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).without_time().with_target(false).finish();
    // It fails only when one is set already; then that one serves.
    drop(tracing::subscriber::set_global_default(subscriber));
    Ok(())
}

/// True for the kind of a missing object.
pub fn is_missing(failure: &Failure) -> bool {
    failure.kind() == ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_variables() {
        assert_eq!(list(" a:5000, ,b"), ["a:5000", "b"]);
        let map = mirrors("docker.io=http://localhost:5000,docker.io=https://m,quay.io=https://q").unwrap();
        assert_eq!((map["docker.io"].len(), map["quay.io"].len()), (2, 1));
        assert!(mirrors("").unwrap().is_empty() && mirrors("docker.io").is_err() && mirrors("docker.io=m").is_err());
    }
}
