//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2 (PostgreSQL 18 manual, chapter 54), told without I/O.
//!
//! Owns frames, the conversation of a session after its log-in, typed views of messages, and what a statement does as far as
//! its text tells. Never rewrites a message of a peer, and never guesses: what is not understood says so.

mod conversation;
pub mod facts;
mod fault;
pub mod frame;
mod fuzzed;
pub mod media;
pub mod message;
pub mod reply;
pub mod startup;
pub mod value;
pub mod view;

pub use conversation::{Answer, Column, Columns, Conversation, Doubt, Ended, Request, Statement, Step};
pub use fault::{Fault, Flaw};
pub use fuzzed::{fuzz_postgres_conversation, fuzz_postgres_frames};

#[cfg(test)]
mod tests;

/// Media type of recorded frames. Parameters tell what is needed to read values in them:
/// `application/x-postgresql; columns=23b,25t` (type oid, binary or text), `; parameters=…` likewise.
pub const MEDIA_TYPE: &str = "application/x-postgresql";
