//! `crewtap authority`: the local certificate authority that captured runs trust.
//!
//! Shows certificates, never keys. Makes the next authority on request; runs that are going on keep theirs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use crewtap_core::view::hexadecimal;
use crewtap_core::wire::certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::screen::safe;
use super::store::StoreDir;
use crate::authority::{Authority, DIRECTORY};

/// Show the local authority that captured runs trust, or make the next one.
#[derive(clap::Args, Clone, Debug)]
pub struct AuthorityArgs {
    /// Make the next authority now: runs that begin from now on trust it, those that are going on keep theirs.
    #[arg(long)]
    pub rotate: bool,
    /// Print the certificates in PEM.
    #[arg(long, conflicts_with = "json")]
    pub pem: bool,
    /// Print JSON Lines.
    #[arg(long)]
    pub json: bool,
}

/// One certificate.
#[derive(Debug, Serialize)]
struct Row {
    subject: String,
    not_before: String,
    not_after: String,
    sha256: String,
}

/// Shows the authorities, oldest first; makes the first where there is none.
///
/// # Errors
/// When the caller is not root, or the files are damaged; the text says what to do.
pub fn run(store: &StoreDir, args: &AuthorityArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "the authority's keys are root's: run this through sudo");
    let directory = directory(store.path())?;
    let authority = Authority::open(&directory)?;
    let trusted = if args.rotate { authority.rotate() } else { authority.trusted() }?;
    if args.pem {
        print!("{}", trusted.pem);
        return Ok(ExitCode::SUCCESS);
    }
    for der in CertificateDer::pem_slice_iter(trusted.pem.as_bytes()) {
        let row = row(&der.context("the authority's own certificate cannot be read")?)?;
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            println!("{}", safe(&row.subject));
            println!("  valid from {} to {}", row.not_before, row.not_after);
            println!("  SHA-256 {}", row.sha256);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn directory(data_dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    anyhow::ensure!(
        data_dir.is_dir(),
        "there is no store at {}: it is made by the first `crewtap run`, or name another with --data-dir",
        data_dir.display()
    );
    Ok(data_dir.join(DIRECTORY))
}

fn row(der: &CertificateDer<'_>) -> anyhow::Result<Row> {
    let facts = certificate::read(der).context("the authority's own certificate cannot be read")?;
    let time = |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.to_string());
    Ok(Row {
        subject: facts.subject,
        not_before: time(facts.not_before)?,
        not_after: time(facts.not_after)?,
        sha256: hexadecimal(&Sha256::digest(der)),
    })
}
