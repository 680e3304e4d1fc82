//! The use cases of one container, a file each.
