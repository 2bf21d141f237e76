//! Redaction of credentials that the captured process sends itself.
//!
//! They are not evidence: what is recorded of such a value is its scheme, its length and a keyed digest, so that
//! two uses of one password can be told to be the same, and nothing more. Owns the first redaction, which knows
//! credentials by their place (a header, a log-in, an option); it never searches content for values that look
//! like secrets. That is the masking engine's, and so are bodies, SQL texts, and tokens in any other place.

pub mod argv;
pub mod detect;
pub mod digest;
pub mod event;
pub mod flow;
pub mod http;
mod lens;
mod names;
pub mod outgoing;
pub mod plan;
pub mod rule;
pub mod set;
pub mod stream;
pub mod tails;

pub use digest::{Digest, DigestKey};
