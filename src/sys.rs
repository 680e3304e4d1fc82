//! # sys

pub mod pidfd_signal;
