//! The kernel side against real programs. Each test has its own agent, its own network namespace without a route out,
//! and its own run; root is needed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod connect;
mod datagram;
mod forms;
mod identity;
mod lab;
mod life;
mod refuse;
