//! Who stands behind a process, and on what basis.
//!
//! Owns attribution by the operating system and by identity providers (OpenID Connect), and the logins that the latter takes.
//! Never decides what somebody may do.

pub mod caller;
pub mod claims;
pub mod http;
pub mod issuer;
pub mod login;
pub mod os;
pub mod pending;
pub mod relying;
pub mod requests;
pub mod session;
pub mod store;
pub mod token;
mod workload;

#[cfg(test)]
mod tests;
