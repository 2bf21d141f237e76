//! `cargo xtask install`: crewtap on this machine, and off it again.

use anyhow::Result;
use clap::Args;

/// What the user may choose.
#[derive(Args)]
pub struct Options {
    /// Take off what was installed; evidence stays
    #[arg(long)]
    uninstall: bool,
}

/// todo
pub fn run(options: &Options) -> Result<()> {
    let _ = options.uninstall;
    Ok(())
}
