//! SSH: what captured clients of it see and do, what is on record of it, and what a target's host key is worth.

mod bulk;
mod clients;
mod commands;
mod files;
mod forwards;
mod ground;
mod held;
mod hostile;
mod hostkeys;
mod leased;
mod replay;
