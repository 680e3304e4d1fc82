//! The use cases of one container, a file each.

mod accounts;
mod attach;
mod beneath;
mod cdi;
mod connect;
mod contact;
mod create;
mod devices;
mod duplicate;
mod etc;
mod exec;
mod gate;
mod handover;
mod health;
mod host_mount;
mod id_pool;
mod image;
mod joined;
mod lifecycle;
mod links;
mod locks;
mod merge;
mod mounts;
mod names;
mod oci_config;
mod oci_mounts;
mod paths;
mod pause;
mod reconcile;
mod remove;
mod rename;
mod reserve;
mod resolver;
mod resources;
mod revive;
mod sources;
mod start;
mod step;
mod stop;
mod sweep;
mod systemd;
mod update;
mod validate;
mod view;
mod wait;

pub(super) use beneath::Beneath;
pub(super) use connect::{
    Joining, attach as attach_endpoint, can_carry, connect as connect_endpoints, detach, detach_all, ensure as ensure_network, publish, route_by,
    unpublish,
};
pub use duplicate::{CloneContainer, Moved};
pub(super) use etc::{check as check_hosts, follow as follow_in_etc, write_all as write_etc};
pub use exec::Apart;
pub(super) use exec::exec_stage;
pub use lifecycle::monitor_stage;
pub(super) use locks::{OperationLock, lock, try_lock, try_lock_at};
pub(super) use mounts::{merge as merge_mounts, prepare_binds};
pub(super) use names::generate as generate_name;
pub(super) use oci_config::{NOTIFY_INSIDE, PodInputs};
pub(super) use paths::{masked_everywhere, read_only};
pub(super) use remove::failpoint_at;
pub(super) use reserve::{bind as bind_ports, free_interface, gateway_network, gateway_of, lease_endpoint, lease_endpoints, networks_of};
pub(super) use resources::{HostFacts, section as resources_section};
pub use revive::Revived;
pub(super) use start::describe;
pub(super) use start::{follow_networks, reserve_ports};
pub(super) use step::stage as step_stage;
pub use step::{Sandbox, Step, StepMount, StepSource};
pub(super) use sweep::ids_in;
pub(super) use validate::request as check_request;
pub(super) use view::lost_lines;
pub use wait::Condition;

#[cfg(test)]
mod tests;
