//! The pure floor of crewtap: values, parsers, masks and chain verification.
//!
//! Nothing here does I/O, holds a clock, or contains `unsafe`: what judges bytes can be
//! fuzzed, property-tested and read without knowing where the bytes came from.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod action;
pub mod bodies;
pub mod chain;
pub mod event;
pub mod id;
pub mod identity;
pub mod limits;
pub mod mask;
pub mod origin;
pub mod policy;
pub mod run;
pub mod secret;
pub mod session;
pub mod sniff;
pub mod target;
pub mod verdict;
pub mod view;
pub mod wire;
