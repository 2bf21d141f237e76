//! Bodies as a person or a search reads them: without their codings, indented.
//!
//! Owns bounded decoding and formatting for any protocol. Never touches what is forwarded or recorded.

pub mod coding;
pub mod pretty;
