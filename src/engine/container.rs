//! The use cases of one container, a file each.

mod attach;
mod connect;
mod create;
mod devices;
mod etc;
mod exec;
mod image;
mod lifecycle;
mod locks;
mod merge;
mod mounts;
mod names;
mod oci_config;
mod oci_mounts;
mod pause;
mod reconcile;
mod remove;
mod rename;
mod resources;
mod start;
mod stop;
mod sweep;
mod update;
mod validate;
mod view;
mod wait;

pub use lifecycle::monitor_stage;
pub(super) use oci_config::{MASKED, READ_ONLY};

#[cfg(test)]
mod tests;
