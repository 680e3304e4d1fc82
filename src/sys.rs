//! # sys
pub mod proc_stat;
