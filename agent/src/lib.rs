//! The crewtap agent: capture, proxy, evidence, and the analyst's verbs.
//!
//! Floors (imports go down only) are checked by a test against DESIGN's table, see ARCHITECTURE.md.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod approvals;
pub mod attribute;
pub mod authority;
pub mod cancels;
pub mod capture;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dial;
pub mod gate;
pub mod hostkeys;
pub mod identity;
pub mod index;
pub mod intercept;
pub mod journal;
pub mod lease;
pub mod leg;
pub mod names;
pub mod namespace;
pub mod overlay;
pub mod proto;
pub mod proxy;
pub mod recorder;
pub mod redacted;
pub mod relay;
pub mod replay;
pub mod rules;
pub mod runs;
pub mod selftest;
pub mod session;
pub mod tls;
pub mod vault;
