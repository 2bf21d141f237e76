//! Where secrets are: files, variables of the agent's own environment, what programs print, credentials of systemd, and
//! stores with the interface of Vault. Reads one when it is wanted, so that a rotated secret counts from the next session on.
//!
//! Never keeps, caches, logs or records a secret; its errors name the place and never the content.

mod command;
pub(crate) mod store;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crewtap_core::limits::SECRET_BYTES_MAX;
use crewtap_core::policy::catalog::Source;
use crewtap_core::secret::Secret;

use crate::capture::sys;

/// Where systemd puts a unit's credentials (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file cannot be read.
    #[error("cannot read the secret {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read or replace it.
    #[error("the secret {path} has mode {mode:04o} and owner {owner}: make it `chown root` and `chmod 0600`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's user number.
        owner: u32,
    },
    /// It is no file with a secret.
    #[error("the secret {path} is {what}: it must be a file with the secret alone")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The variable is not there.
    #[error("the agent's environment has no variable {0}, or it is empty: set it where the agent is started")]
    Unset(String),
    /// Somebody else has it, and does not give it.
    #[error("no secret from {place}: {why}")]
    Failed {
        /// The place, as the catalog writes it.
        place: String,
        /// Why.
        why: String,
    },
}

/// The secret that is there now, kept out of swap where the kernel allows it. Blocks as long as the file system does, and 10 s
/// at most where another program must be waited for.
///
/// # Errors
/// When there is none, or others than root could have read or written it.
pub fn read(source: &Source) -> Result<Secret, VaultError> {
    let secret = read_source(source)?;
    if let Err(error) = sys::keep_in_memory(secret.expose()) {
        tracing::debug!(%error, "a secret may be swapped out");
    }
    Ok(secret)
}

fn read_source(source: &Source) -> Result<Secret, VaultError> {
    let failed = |why| VaultError::Failed { place: source.to_string(), why };
    match source {
        Source::File(path) => read_file(path),
        Source::Env(name) => {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(|value| Secret::new(value.into_vec())).ok_or_else(|| VaultError::Unset(name.clone()))
        }
        Source::Command { program, arguments } => command::printed(program, arguments).and_then(whole).map_err(failed),
        Source::Systemd(name) => {
            let directory = std::env::var_os(CREDENTIALS_DIRECTORY).ok_or_else(|| {
                failed(format!("${CREDENTIALS_DIRECTORY} is not set: give the unit LoadCredential={name}:PATH"))
            })?;
            read_file(&Path::new(&directory).join(name))
        }
        Source::Vault { url, field, token, ca } => {
            let token = read_source(token)?;
            store::field(url, field, &token, ca.as_deref()).and_then(whole).map_err(failed)
        }
    }
}

/// A secret without a line break at its end, that is neither empty nor too long.
fn whole(secret: Secret) -> Result<Secret, String> {
    let bytes = secret.expose();
    let trimmed = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(bytes);
    match trimmed.len() {
        0 => Err("it is empty".into()),
        len if len > SECRET_BYTES_MAX => Err("it is too long".into()),
        len if len == bytes.len() => Ok(secret),
        _ => Ok(Secret::new(trimmed.to_vec())),
    }
}

/// What is judged is the opened file, so that nobody can change the name in between.
fn read_file(path: &Path) -> Result<Secret, VaultError> {
    let failed = |source| VaultError::Read { path: path.to_owned(), source };
    let shape = |what| VaultError::Shape { path: path.to_owned(), what };
    // A FIFO without a writer must not hold a session for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(shape("no regular file"));
    }
    if found.uid() != 0 || found.mode() & 0o077 != 0 {
        return Err(VaultError::Open { path: path.to_owned(), mode: found.mode() & 0o7777, owner: found.uid() });
    }
    let secret = read_whole(file).map_err(failed)?;
    match secret.expose().len() {
        0 => Err(shape("empty")),
        len if len > SECRET_BYTES_MAX => Err(shape("too long")),
        _ => Ok(secret),
    }
}

/// One byte more than there may be tells that there is too much. The buffer never grows, which would leave a copy behind.
fn read_whole(mut file: File) -> io::Result<Secret> {
    let mut bytes = vec![0; SECRET_BYTES_MAX + 2];
    let mut len = 0;
    let outcome = loop {
        match file.read(bytes.get_mut(len..).unwrap_or_default()) {
            Ok(0) => break Ok(()),
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    let ends_with = |end: &[u8]| bytes.get(..len).is_some_and(|read| read.ends_with(end));
    let line_break = if ends_with(b"\r\n") { 2 } else { usize::from(ends_with(b"\n")) };
    bytes.truncate(len - line_break);
    // Owned by a secret now: it is wiped also where reading has failed.
    let secret = Secret::new(bytes);
    outcome.map(|()| secret)
}

#[cfg(test)]
mod tests;
