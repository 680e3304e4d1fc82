//! What the linked files need of `src/base.rs`.
mod cancel;
pub mod csv;
mod duration;
mod nearest;
mod signal;
mod size;
pub mod tar_entry;
pub mod xattr;

pub use cancel::Cancel;
pub use duration::go_duration;
pub use nearest::nearest;
pub use signal::Signal;
pub use size::ByteSize;
