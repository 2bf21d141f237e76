//! The kernel side against real programs. Each test has its own agent, its own network namespace without a route out,
//! and its own run; root is needed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod connect;
mod datagram;
mod families;
mod forms;
mod generations;
mod identity;
mod lab;
mod life;
mod programs;
mod refuse;

/// The proxy's threads share it.
#[test]
fn the_kernel_side_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn moved<T: Send>() {}
    shared::<super::Kernel>();
    moved::<super::Events>();
}
