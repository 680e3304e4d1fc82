//! What the linked files need of `src/base.rs`.
pub mod xattr;
