//! Who stands behind a process, and on what basis.
//!
//! Owns attribution by the operating system (and, later, by OIDC). Never changes or grants anything.

pub mod os;
