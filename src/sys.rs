//! # sys
pub mod proc_stat;
pub mod private_mounts;
