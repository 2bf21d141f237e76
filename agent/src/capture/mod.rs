//! Capture: which processes are captured, and where each of their connections was going.
//!
//! It owns the kernel programs and their maps ([`kernel`]), the capture cgroups ([`cgroup`]), the listeners to which
//! connections are sent ([`listen`]), the network namespaces in which those are made ([`netns`]) the facts of
//! processes ([`process`]) and the owners of connections ([`sockets`]). It never reads what a connection carries, and never decides by policy.

pub mod cgroup;
pub mod filter;
pub mod kernel;
pub mod listen;
pub mod netns;
pub mod process;
pub mod sockets;
pub mod sys;
pub mod user;

pub use cgroup::{Cgroup, CgroupId};
pub use kernel::{Kernel, KernelOptions};
pub use listen::{ListenerPorts, Listeners};
