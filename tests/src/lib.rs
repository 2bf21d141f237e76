//! What the integration tests stand on: a host of our own (a network namespace without a route out, a store in a
//! temporary directory), real servers in it, and the crewtap binary as a user calls it.
//!
//! Nothing here dials an address outside such a namespace.
//! It knows crewtap only as a program: nothing here links the product.

pub mod host;
pub mod peer;
pub mod postgres;
pub mod provider;
pub mod world;
