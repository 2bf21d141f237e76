//! The one integration test program: everything that needs root, namespaces, real servers or the whole repository.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod agent;
mod approvals;
mod canary;
mod catalog;
mod crew;
mod digest;
mod facts;
mod fault;
mod house;
mod http;
mod https;
mod identity;
mod inbound;
mod life;
mod load;
mod masks;
mod names;
mod overlay;
mod overlay_exec;
mod policy;
mod postgres;
mod record;
mod redaction;
mod relay;
mod rows;
mod run;
mod ssh;
mod tidy;
mod world;
