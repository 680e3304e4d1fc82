//! # sys

pub mod heap;
pub mod peer;
pub mod signal;
pub mod spawn;
