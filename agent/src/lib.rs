//! The crewtap agent: capture, proxy, evidence, and the analyst's verbs.
//!
//! Floors (imports go down only) are checked by a test against DESIGN's table, see ARCHITECTURE.md.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod identity;
pub mod index;
pub mod journal;
