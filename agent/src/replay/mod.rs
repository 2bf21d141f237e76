//! What was recorded of a terminal or a command, played again: its moments in their order, the screen at any of them, a transcript.
//!
//! Reads the journal, and knows no protocol: an exchange is a terminal because its facts say so. Nothing recorded leaves here
//! for a terminal but as letters of an emulated screen.

pub mod asciicast;
pub mod commands;
pub mod emulator;
pub mod film;
pub mod lines;
mod owed;
pub mod take;
pub mod tape;

#[cfg(test)]
pub(crate) mod ground;
#[cfg(test)]
mod tests;
