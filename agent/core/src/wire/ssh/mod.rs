//! SSH, as far as crewtap reads it itself: what both sides offer in clear before their keys are exchanged, the files of known
//! hosts, the words of commands, and SFTP.
//!
//! Transport, authentication and channels are a library's. No I/O.

pub mod known_hosts;
pub mod offer;
pub mod sftp;
pub mod typed;
pub mod words;
