//! Files: reading what others made, writing so that a file is complete or not there, hashes, number formats.

pub mod bytes;
pub(crate) mod durable;
pub(crate) mod files;
pub mod floats;
pub mod hash;
pub(crate) mod remedy;
pub mod transfer;
pub(crate) mod unfinished;
