//! What systemd's manager is asked for (`man 5 org.freedesktop.systemd1`).

use super::bus::{Address, Bus, BusError};
use super::wire::{Target, Value, Writer};
use std::path::Path;

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A property of a unit.
pub(in super::super) type Property = (String, Value);

#[derive(Debug)]
pub(super) struct Manager {
    bus: Bus,
    version: Option<u32>,
}

impl Manager {
    /// The system's manager, or the user's own.
    ///
    /// # Errors
    /// [`BusError::Connect`] of the first address tried; [`BusError::Refused`].
    pub(super) fn open(user: bool) -> Result<Self, BusError> {
        let addresses = if user { user_addresses() } else { system_addresses() };
        let mut first = None;
        for address in addresses {
            match Manager::connect(&address) {
                Ok(manager) => return Ok(manager),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(BusError::NoAddress))
    }

    /// # Errors
    /// As [`Bus::connect`].
    pub(super) fn connect(address: &Address) -> Result<Self, BusError> {
        let mut bus = Bus::connect(address)?;
        bus.watch("type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'")?;
        Ok(Manager { bus, version: None })
    }

    fn call(&mut self, member: &str, signature: &str, body: Writer) -> Result<super::wire::Message, BusError> {
        let target = Target { destination: Some(NAME), path: OBJECT, interface: MANAGER, member };
        self.bus.call(target, signature, &body.finish())
    }

    /// Makes a transient unit and waits until it is there. A failed one of that name, left by an earlier container, is forgotten.
    ///
    /// # Errors
    /// [`BusError::Remote`], [`BusError::Job`].
    pub(super) fn start(&mut self, unit: &str, properties: &[Property]) -> Result<(), BusError> {
        let job = match self.start_job(unit, properties) {
            Err(BusError::Remote { name, .. }) if name == "org.freedesktop.systemd1.UnitExists" => {
                self.reset(unit)?;
                self.start_job(unit, properties)?
            }
            other => other?,
        };
        let outcome = self.finish(&job);
        if outcome.is_err()
            && let Err(error) = self.reset(unit)
        {
            tracing::debug!(unit, %error, "cannot reset a unit that failed to start");
        }
        outcome
    }

    fn start_job(&mut self, unit: &str, properties: &[Property]) -> Result<String, BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        write(&mut body, properties);
        // No further units with it: a(sa(sv)).
        body.array(8, |_| {});
        let answer = self.call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        answer.body().text().ok_or(BusError::Malformed)
    }

    /// Waits for the end of a job: `JobRemoved(id, job, unit, result)`, which who asked for the job is sent.
    fn finish(&mut self, job: &str) -> Result<(), BusError> {
        let result = self.bus.signal(|signal| {
            let ours = signal.interface == MANAGER && signal.member == "JobRemoved" && signal.signature == "uoss";
            let mut body = signal.body();
            let (_id, path, _unit) = (body.uint().filter(|_| ours)?, body.text()?, body.text()?);
            (path == job).then(|| body.text()).flatten()
        })?;
        if result == "done" { Ok(()) } else { Err(BusError::Job(result)) }
    }

    /// Changes properties until the next boot.
    ///
    /// # Errors
    /// [`BusError::Remote`]
    pub(super) fn set(&mut self, unit: &str, properties: &[Property]) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.uint(1);
        write(&mut body, properties);
        self.call("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Stops a unit and forgets it; one that is not there is fine.
    ///
    /// # Errors
    /// [`BusError::Remote`], [`BusError::Job`].
    pub(super) fn stop(&mut self, unit: &str) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        match self.call("StopUnit", "ss", body) {
            Ok(answer) => {
                let job = answer.body().text().ok_or(BusError::Malformed)?;
                match self.finish(&job) {
                    // Another job took its place; whether the group is gone is seen next.
                    Err(BusError::Job(result)) => tracing::debug!(unit, result, "stopping ended early"),
                    other => other?,
                }
            }
            Err(BusError::Remote { name, .. }) if name == "org.freedesktop.systemd1.NoSuchUnit" => return Ok(()),
            Err(error) => return Err(error),
        }
        self.reset(unit)
    }

    /// Lets systemd forget a unit that has failed; any other is left alone.
    fn reset(&mut self, unit: &str) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(unit);
        match self.call("ResetFailedUnit", "s", body) {
            // Not loaded (any more): nothing to forget.
            Err(BusError::Remote { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Moves processes into a unit's group, or one below it ("/a"; "" for the unit's own).
    ///
    /// # Errors
    /// [`BusError::Remote`]
    pub(super) fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(unit);
        body.text(below);
        body.array(4, |writer| writer.uint(pid));
        self.call("AttachProcessesToUnit", "ssau", body).map(drop)
    }

    /// The group that the manager itself is in: all its units are below.
    ///
    /// # Errors
    /// [`BusError::Remote`]
    pub(super) fn control_group(&mut self) -> Result<String, BusError> {
        self.text("ControlGroup")
    }

    /// systemd's version; 0 when it has no number in front.
    ///
    /// # Errors
    /// [`BusError::Remote`]
    pub(super) fn version(&mut self) -> Result<u32, BusError> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        // "252.38-1~deb12u1", "v245.4".
        let text = self.text("Version")?;
        let number = text.trim_start_matches('v').split(|byte: char| !byte.is_ascii_digit()).next();
        let version = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        self.version = Some(version);
        Ok(version)
    }

    fn text(&mut self, property: &str) -> Result<String, BusError> {
        let mut body = Writer::default();
        body.text(MANAGER);
        body.text(property);
        let target = Target { destination: Some(NAME), path: OBJECT, interface: PROPERTIES, member: "Get" };
        let answer = self.bus.call(target, "ss", &body.finish())?;
        let mut body = answer.body();
        body.signature().filter(|signature| signature == "s").and_then(|_| body.text()).ok_or(BusError::Malformed)
    }
}

fn write(body: &mut Writer, properties: &[Property]) {
    body.array(8, |writer| {
        for (name, value) in properties {
            writer.structure();
            writer.text(name);
            writer.variant(value);
        }
    });
}

/// The system bus; on hosts without one, systemd's own socket, which only root may use.
fn system_addresses() -> Vec<Address> {
    let bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| "unix:path=/run/dbus/system_bus_socket".to_owned());
    vec![Address::Bus(bus), Address::Direct("/run/systemd/private".to_owned())]
}

fn user_addresses() -> Vec<Address> {
    let mut addresses: Vec<Address> = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().map(Address::Bus).into_iter().collect();
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").map(std::path::PathBuf::from).filter(|path| path.is_absolute()) {
        let socket = |name: &str| Path::new(&directory).join(name).to_string_lossy().into_owned();
        // In server addresses all but letters, digits and a few signs is escaped.
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(byte);
        let escaped: String =
            socket("bus").bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect();
        addresses.push(Address::Bus(format!("unix:path={escaped}")));
        addresses.push(Address::Direct(socket("systemd/private")));
    }
    addresses
}
