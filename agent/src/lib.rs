//! crewtap's own floors: everything of the binary except `main`.
#![deny(unsafe_code)]

pub mod capture;
