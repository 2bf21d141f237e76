//! Segment files: which there are, how they are made, how large they may be.
//!
//! Never writes a record; that is `writer`'s alone.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crewtap_core::chain::frame::{self, HeaderFault};
use crewtap_core::id::Ulid;
use crewtap_core::limits;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::sealed::{Source, View};
use super::store::{Layout, segment_first};

/// First records of all segments, in order.
pub(super) fn list(layout: &Layout) -> io::Result<Vec<u64>> {
    let mut firsts = BTreeSet::new();
    // Some file systems may list a file that is replaced at this moment neither as the old nor as the new one.
    for _ in 0..2 {
        for entry in fs::read_dir(layout.journal())? {
            firsts.extend(entry?.file_name().to_str().and_then(segment_first));
        }
    }
    Ok(firsts.into_iter().collect())
}

/// Opens a segment for reading and checks its header.
pub(super) fn open(layout: &Layout, store: Ulid, first: u64) -> io::Result<(Arc<Source>, Result<(), HeaderFault>)> {
    let source = Arc::new(Source::open(&layout.segment(first))?);
    let mut header = [0; frame::HEADER_BYTES];
    let read = View::new(Arc::clone(&source)).read_at(&mut header, 0)?;
    let checked = frame::check_header(header.get(..read).unwrap_or_default(), store, first);
    Ok((source, checked))
}

/// Makes a file with room for a whole segment, or none at all.
///
/// # Errors
/// `ENOSPC` where the disk is full: here, and not in the middle of a record.
pub(super) fn allocate(layout: &Layout, path: &Path, bytes: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = layout.file(path, options.read(true).write(true).create(true).truncate(true))?;
    match reserve(&file, bytes) {
        Ok(()) => Ok(file),
        Err(e) => {
            // The room that was found is given back at once.
            fs::remove_file(path)?;
            Err(e)
        }
    }
}

/// Gives an existing file room up to `bytes`.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP) => return fill_with_zeros(file, bytes),
            Err(e) => return Err(e.into()),
        }
    }
}

/// What `fallocate` does, for file systems without it.
fn fill_with_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    while at < bytes {
        let len = (bytes - at).min(limits::JOURNAL_READ_BYTES as u64);
        zero(file, at, at + len)?;
        at += len;
    }
    Ok(())
}

/// Writes zeros over a range.
pub(super) fn zero(file: &File, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; limits::JOURNAL_READ_BYTES];
    while from < to {
        let len = usize::try_from(to - from).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..len).unwrap_or_default(), from)?;
        from += len as u64;
    }
    Ok(())
}

/// Segment size for the file system of `path`: as wished, but not more than its share.
pub(super) fn fitting(path: &Path, wished: u64) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(path)?;
    let share = disk.blocks().saturating_mul(disk.fragment_size()) / limits::SEGMENT_DISK_SHARE;
    Ok(wished.min(share).max(limits::SEGMENT_BYTES_MIN).min(wished))
}

/// A segment that waits for its first record.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Spare {
    pub(super) fn make(layout: &Layout, path: PathBuf, bytes: u64) -> io::Result<Self> {
        Ok(Self { file: allocate(layout, &path, bytes)?, path })
    }

    /// Becomes the segment that begins with `first`.
    pub(super) fn activate(self, layout: &Layout, store: Ulid, first: u64) -> io::Result<File> {
        self.file.write_all_at(&frame::header(store, first), 0)?;
        fs::rename(&self.path, layout.segment(first))?;
        Ok(self.file)
    }
}

/// Removes spares of an earlier life, and a sealed segment that was not finished.
pub(super) fn remove_spares(layout: &Layout) -> io::Result<()> {
    for path in [layout.spare(), layout.spare_now(), layout.sealing()] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
