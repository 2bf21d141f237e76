//! PostgreSQL, through crewtap and beside it.

mod broken;
mod bulk;
mod cancelled;
pub(crate) mod captured;
mod entered;
mod evasion;
mod gatehouse;
mod ground;
mod held;
mod injected;
mod kinds;
mod login;
mod masked;
mod matrix;
mod pgbench;
mod searched;
mod transparent;
mod wired;
