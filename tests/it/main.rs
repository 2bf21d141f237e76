//! The one integration test program: everything that needs root, namespaces, real servers or the whole repository.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod agent;
mod crew;
mod fault;
mod life;
mod record;
mod run;
mod tidy;
mod world;
