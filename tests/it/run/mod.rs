//! `crewtap run` as the user's shell sees it: with real shells on real terminals, and through real sudo.

mod agent;
mod bare;
mod jobs;
mod process;
mod pty;
mod sudo;
