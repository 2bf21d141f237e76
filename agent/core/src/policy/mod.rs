//! What the owner of the host has written down: the catalog of targets, and how such files are read.
//!
//! Never opens a file and never judges an action by itself.

pub mod catalog;
pub mod keys;
pub mod rules;
