//! # sys
pub mod signalfd;
