//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2 (PostgreSQL 18 manual, chapter 54), told without I/O.
//!
//! Owns frames, the conversation of a session after its log-in, typed views of messages, and what a statement does as far as
//! its text tells. Never rewrites a message of a peer, and never guesses: what is not understood says so.

pub mod frame;

/// Media type of recorded frames. Parameters tell what is needed to read values in them:
/// `application/x-postgresql; columns=23b,25t` (type oid, binary or text), `; parameters=…` likewise.
pub const MEDIA_TYPE: &str = "application/x-postgresql";
