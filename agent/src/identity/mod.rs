//! Who stands behind a process, and on what basis.
//!
//! Owns attribution by the operating system and by identity providers (OpenID Connect), and the logins that the latter takes.
//! Never decides what somebody may do.

pub mod caller;
pub mod claims;
pub mod document;
mod file;
pub mod http;
pub mod issuer;
pub mod login;
mod logins;
pub mod os;
pub mod pending;
pub mod relying;
mod renewal;
pub mod requests;
pub mod session;
pub mod store;
pub mod svid;
pub mod token;
mod workload;

#[cfg(test)]
mod tests;
