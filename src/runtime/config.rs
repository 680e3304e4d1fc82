//! Reading `config.json` and process files: what the document types would refuse although the specification takes it.
//!
//! Invariant: a document that the types take as it is costs nothing more.

use super::capability;
use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Error, Value};

/// A document, and what of it is ignored (config.md demands a warning for each).
pub struct Read<T> {
    pub document: T,
    pub warnings: Vec<String>,
}

/// The specification's names for scheduler flags, and those of the document types.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// Keys of `linux.intelRdt` that the document types know by other names, and would ignore.
const MONITORS: [(&str, &str); 2] = [("enableCMT", "enableCmt"), ("enableMBM", "enableMbm")];

/// A `config.json`.
///
/// # Errors
/// Not JSON, or a field of the wrong type or an unknown value.
pub fn read(text: &[u8]) -> Result<Read<Spec>, Error> {
    document(text, |value| value.get_mut("process"))
}

/// A process file of `exec --process`.
///
/// # Errors
/// As [`read`].
pub fn read_process(text: &[u8]) -> Result<Read<Process>, Error> {
    document(text, |value| Some(value))
}

fn document<T: DeserializeOwned>(text: &[u8], process: fn(&mut Value) -> Option<&mut Value>) -> Result<Read<T>, Error> {
    let first = match serde_json::from_slice(text) {
        Ok(document) if !names_monitor(text) => return Ok(Read { document, warnings: Vec::new() }),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let mut value = serde_json::from_slice::<Value>(text)?;
    let mut warnings = Vec::new();
    if let Some(monitoring) = value.pointer_mut("/linux/intelRdt").and_then(Value::as_object_mut) {
        for (name, own) in MONITORS {
            if let Some(asked) = monitoring.remove(name) {
                monitoring.insert(own.to_owned(), asked);
            }
        }
    }
    if let Some(process) = process(&mut value) {
        mend(process, &mut warnings);
    }
    match (serde_json::from_value(value), first) {
        (Ok(document), _) => Ok(Read { document, warnings }),
        // The error of the text itself names line and column, if it is not about what was mended.
        (Err(error), Some(first)) if first.to_string().starts_with(&error.to_string()) => Err(first),
        (Err(error), _) => Err(error),
    }
}

fn names_monitor(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| MONITORS.iter().any(|(name, _)| text.contains(name)))
}

fn mend(process: &mut Value, warnings: &mut Vec<String>) {
    for (set, names) in process.get_mut("capabilities").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let known = name.as_str().is_none_or(|name| capability::parse(name).is_ok());
            if !known {
                warnings.push(format!("process.capabilities.{set}: unknown capability {name} is ignored"));
            }
            known
        });
    }
    for flag in process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((_, own)) = SCHEDULER_FLAGS.iter().find(|(name, _)| flag == name) {
            *flag = Value::from(*own);
        }
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        // Empty is as good as absent.
        affinity.retain(|_, list| list != "");
    }
}

#[cfg(test)]
mod tests {
    use super::{read, read_process};
    use oci_spec::runtime::{LinuxSchedulerFlag, Scheduler};

    #[test]
    fn what_the_specification_takes_is_read() {
        let text = r#"{"ociVersion": "1.2.0", "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["x"],
            "capabilities": {"bounding": ["CAP_KILL", "CAP_FUTURE"], "ambient": ["CAP_FUTURE"]},
            "scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY"]},
            "execCPUAffinity": {"initial": "", "final": "0"}}, "linux": {"intelRdt": {"enableMBM": true}}}"#;
        let read = read(text.as_bytes()).unwrap();
        assert_eq!(
            read.warnings,
            [
                "process.capabilities.bounding: unknown capability \"CAP_FUTURE\" is ignored",
                "process.capabilities.ambient: unknown capability \"CAP_FUTURE\" is ignored"
            ]
        );
        #[allow(deprecated)]
        let monitor = read.document.linux().as_ref().and_then(|linux| *linux.intel_rdt().as_ref()?.enable_mbm());
        assert_eq!(monitor, Some(true));
        let process = read.document.process().clone().unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
        let flags = process.scheduler().as_ref().and_then(|s: &Scheduler| s.flags().clone()).unwrap();
        assert_eq!(flags, [LinuxSchedulerFlag::SchedResetOnFork, LinuxSchedulerFlag::SchedFlagDLOverrun, LinuxSchedulerFlag::SchedFlagKeepPolicy]);
        assert_eq!(process.exec_cpu_affinity().as_ref().unwrap().initial(), &None);
    }

    #[test]
    fn errors_name_the_value_and_the_place() {
        for (text, wanted) in [
            (r#"{"user": {}, "cwd": "/", "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}"#, "RLIMIT_X"),
            (r#"{"user": {}, "cwd": "/", "scheduler": {"policy": "SCHED_EXT"}}"#, "SCHED_EXT"),
            (r#"{"user": {}, "cwd": "/""#, "line 1"),
            (r#"{"user": {}, "cwd": "/", "rlimits": [{"type": "RLIMIT_X"}]}"#, "line 1"),
        ] {
            let error = read_process(text.as_bytes()).err().unwrap().to_string();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
