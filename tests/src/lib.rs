//! What the integration tests stand on: a host of our own (a network namespace without a route out, a store in a
//! temporary directory), real servers in it, and the crewtap binary as a user calls it.
//!
//! Nothing here dials an address outside such a namespace.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::missing_panics_doc)]

pub mod host;
pub mod peer;
