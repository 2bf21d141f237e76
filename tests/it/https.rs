//! TLS interception on the real thing: real clients under `crewtap run`, real servers of a company's own authority, and
//! what is on record of both.

mod client_certificate;
mod defects;
mod ends;
pub(crate) mod ground;
mod hello;
mod injected;
mod judged;
mod large;
mod matrix;
mod opened;
mod passed;
pub(crate) mod pki;
mod rejected;
