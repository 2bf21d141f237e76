//! Checks of the repository that are neither tests nor lints.

use std::process::Command;

use anyhow::Result;

use crate::{setup, shell};

/// Licences, bans and sources of all dependencies.
///
/// The advisory database is not consulted: fetching it needs the open network, and a check that depends on what was
/// published this morning cannot be repeated. `cargo deny check advisories` does it by hand.
///
/// # Errors
/// When cargo-deny is missing or finds something.
pub fn dependencies() -> Result<()> {
    let program = setup::cargo_deny_path();
    anyhow::ensure!(program.is_file(), "cargo-deny is missing: run `cargo xtask setup`");
    shell::loudly(Command::new(program).current_dir(shell::clone_root()).args([
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}
