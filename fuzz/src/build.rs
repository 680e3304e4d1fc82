//! What the linked files need of `src/build.rs`.
pub mod dockerfile;
pub mod lint;
pub mod state;
