//! Both ends against each other and against other people's programs, all of it on loopback.

mod lab;
mod mirror;
mod negotiation;
mod stores;
