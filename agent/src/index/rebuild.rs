//! The index made anew from the journal: a new file beside the old one, renamed when it is whole.
//!
//! Never touches the old index before the new one is complete, and never reads the journal itself.

use std::fs::{self, File};
use std::path::Path;

use crewtap_core::chain::Record;
use crewtap_core::limits;

use super::IndexError;
use super::apply::Indexer;
use super::open::{self, AgentLock, FILE_NAME};

/// Builds the index of a data directory from records in their order, and tells after each batch how far it is.
/// Returns how many records were indexed.
///
/// # Errors
/// [`IndexError::Busy`] while an agent writes the index; the old index stays in place on every error.
pub fn rebuild(
    data_dir: &Path,
    records: impl Iterator<Item = Record>,
    mut progress: impl FnMut(u64),
) -> Result<u64, IndexError> {
    let lock = AgentLock::take(data_dir)?;
    let (path, new) = (data_dir.join(FILE_NAME), data_dir.join(format!("{FILE_NAME}.new")));
    let mut indexer = Indexer::empty(data_dir, &new)?;
    let mut batch = Vec::with_capacity(limits::FOLLOW_BATCH_EVENTS);
    let (mut count, mut bytes) = (0, 0);
    for record in records {
        bytes += record.payload.len();
        batch.push(record);
        if batch.len() >= limits::FOLLOW_BATCH_EVENTS || bytes >= limits::FOLLOW_BATCH_BYTES {
            indexer.apply(&batch)?;
            count += batch.len() as u64;
            bytes = 0;
            batch.clear();
            progress(count);
        }
    }
    indexer.apply(&batch)?;
    count += batch.len() as u64;
    progress(count);
    indexer.finish()?;
    // The new log is empty and stays behind; the old database goes first, then its log: one that lay beside the new
    // database would be played into it.
    open::remove(&path)?;
    fs::rename(&new, &path).map_err(|error| IndexError::file(&path, error))?;
    open::remove(&new)?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(|error| IndexError::file(data_dir, error))?;
    // Opened once by a writer, so that the log and its shared memory are there for readers who cannot make them.
    drop(open::for_writing(data_dir, &path)?);
    drop(lock);
    Ok(count)
}
