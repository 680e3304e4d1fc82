//! The rooms that read hostile bytes, compiled by themselves: their files are links into `src/`, so that a fuzz target
//! builds in seconds and without the rest of rcon.

#![allow(dead_code, unused_imports)]

pub mod base;
pub mod build;
pub mod image;
pub mod network;
pub mod oci;
