//! Views of wire formats: what the bytes of a peer say, told without I/O.
//!
//! Owns parsers only. Never dials, waits, remembers a connection, or trusts a length that a peer claims:
//! what is kept grows with the bytes that arrived, never with what they announce.

pub mod certificate;
pub mod cursor;
pub mod dns;
pub mod end_point;
pub mod http;
pub mod llm;
pub mod postgres;
pub mod ssh;
pub mod tls;

#[cfg(test)]
mod corpus;
