//! One file per verb.

mod processes;
pub mod reindex;
pub mod runs;
mod screen;
pub mod search;
pub mod show;
mod show_run;
mod show_session;
pub mod store;
mod stream;
mod table;
pub mod timeline;
pub mod verify;

#[cfg(test)]
mod tests;
