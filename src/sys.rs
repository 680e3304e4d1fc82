//! # sys
