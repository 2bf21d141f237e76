//! TLS interception on the real thing: real clients under `crewtap run`, real servers of a company's own authority, and
//! what is on record of both.

mod client_certificate;
mod defects;
mod ends;
mod ground;
mod hello;
mod large;
mod matrix;
mod opened;
mod passed;
mod pki;
mod rejected;
