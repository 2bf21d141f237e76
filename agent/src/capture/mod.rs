//! What the kernel side, cgroups, namespaces and /proc tell; nothing above this floor reads them.

pub mod process;
pub mod sys;
