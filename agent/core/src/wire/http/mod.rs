//! HTTP/1.x (RFC 9110, RFC 9112): one connection's messages, found in the bytes of both sides.
//!
//! Bytes are forwarded as they came, so that the order and the case of fields, reason phrases, interim responses,
//! trailers and chunk extensions reach the other side untouched; and what is judged is what is forwarded. Owns the
//! framing ([`Conversation`]), views of heads, and decoders for views of bodies. Never rewrites, joins or repairs a
//! message: one that two peers could read differently is refused.

mod chunks;
mod conversation;
mod fault;
mod fields;
mod fuzzed;
pub mod head;
pub mod path;
mod refuse;
mod scan;
pub mod target;

pub use conversation::{Conversation, Ended, Step};
pub use fault::{Fault, Refusal};
pub use fields::{Field, Fields};
pub use fuzzed::{fuzz_http_conversation, fuzz_http_head};
pub use head::{Length, RequestHead, ResponseHead, Version};

#[cfg(test)]
mod tests;
