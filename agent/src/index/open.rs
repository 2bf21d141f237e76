//! Opening the index: file modes, the lock of its one writer, and a write-ahead log that outlives the writer.
//!
//! Never decides who may read: the files take owner and group of the data directory, and are closed to all others.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crewtap_core::event::Stamp;
use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, FileControl, MAIN_DB, OpenFlags};

use super::{IndexError, Progress, SCHEMA_VERSION};

/// Name of the index in the data directory.
pub const FILE_NAME: &str = "index.sqlite";

/// Name of the lock of the index's writer.
const LOCK_NAME: &str = "index.lock";

/// Owner writes, group reads.
const FILE_MODE: u32 = 0o640;

/// How long a reader waits for a lock: recovery of the log and checkpoints hold one for milliseconds.
const READER_PATIENCE: Duration = Duration::from_secs(5);

/// Statements kept prepared: one for each that the indexer uses.
const STATEMENTS: usize = 96;

/// Pages in the log after which it is copied back, and so about the size that it keeps: 16 MiB. A page that changes again
/// and again is copied once.
const LOG_PAGES: u32 = 4000;

/// The tables.
pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// Memory for pages, in KiB: what one batch changes has room, or it would be written twice.
const CACHE_KIB: i32 = 16 * 1024;

/// The right to write the index of one data directory; ends with the value.
#[derive(Debug)]
pub struct AgentLock {
    file: File,
}

impl AgentLock {
    /// Takes the lock, or says that somebody has it.
    ///
    /// # Errors
    /// [`IndexError::Busy`] when another process writes, [`IndexError::File`] when there can be no lock file.
    pub fn take(data_dir: &Path) -> Result<Self, IndexError> {
        let path = data_dir.join(LOCK_NAME);
        let file = match create(&path, data_dir) {
            Err(IndexError::Forbidden(_)) => return Err(IndexError::ReadOnly(data_dir.to_owned())),
            file => file?,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Self { file }),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Err(IndexError::Busy(data_dir.to_owned())),
            Err(error) => Err(IndexError::file(&path, error.into())),
        }
    }

    /// Whether a writer is alive; asks without taking anything, so that readers never stand in a writer's way.
    #[must_use]
    pub fn is_taken(data_dir: &Path) -> bool {
        let Ok(file) = File::open(data_dir.join(LOCK_NAME)) else { return false };
        let mut lock = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }
}

/// Given back by name: a child that was forked a moment ago shares the lock until it executes.
impl Drop for AgentLock {
    fn drop(&mut self) {
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
    }
}

fn whole_file(kind: i32) -> libc::flock {
    // The constants are small; their types differ between C libraries.
    #[allow(clippy::cast_possible_truncation)]
    libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Creates a file as one of the data directory's own, or opens it.
pub(super) fn create(path: &Path, data_dir: &Path) -> Result<File, IndexError> {
    let open = || -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)?;
        let (directory, found) = (fs::metadata(data_dir)?, file.metadata()?);
        if (found.uid(), found.gid()) != (directory.uid(), directory.gid()) {
            match fchown(&file, Some(directory.uid()), Some(directory.gid())) {
                // A user without the right to give files away keeps a store of his own.
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        if found.mode() & 0o7777 != FILE_MODE {
            file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        }
        Ok(file)
    };
    open().map_err(|error| IndexError::file(path, error))
}

/// Opens the index for its writer; makes it when it is not there or of another version.
pub(super) fn for_writing(data_dir: &Path, path: &Path) -> Result<Connection, IndexError> {
    let connection = writable(data_dir, path)?;
    match version(&connection)? {
        SCHEMA_VERSION => return Ok(connection),
        0 => {}
        _ => {
            drop(connection);
            return anew(data_dir, path);
        }
    }
    let schema = connection.unchecked_transaction()?;
    schema.execute_batch(SCHEMA)?;
    schema.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    schema.commit()?;
    Ok(connection)
}

/// Removes the index and makes an empty one.
pub(super) fn anew(data_dir: &Path, path: &Path) -> Result<Connection, IndexError> {
    remove(path)?;
    for_writing(data_dir, path)
}

fn writable(data_dir: &Path, path: &Path) -> Result<Connection, IndexError> {
    // Made before SQLite opens it: the log and its shared memory take over mode and owner.
    drop(create(path, data_dir)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // The journal is the truth: a transaction that a power failure takes is indexed again.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Without it the log is deleted with the last connection, and who cannot create files can no longer read.
    connection.file_control(Some(MAIN_DB), FileControl::PersistWal(&mut 1))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens the index for reading: no file is created or changed.
pub(super) fn for_reading(data_dir: &Path) -> Result<Connection, IndexError> {
    let path = data_dir.join(FILE_NAME);
    // Asked first, because SQLite says "unable to open database file" for every reason alike.
    match File::open(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(IndexError::Forbidden(data_dir.to_owned()));
        }
        Err(error) => return Err(IndexError::file(&path, error)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags)?;
    connection.busy_timeout(READER_PATIENCE)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    match version(&connection)? {
        SCHEMA_VERSION => Ok(connection),
        found => Err(IndexError::Version { path, found }),
    }
}

fn version(connection: &Connection) -> Result<i32, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Removes a database and its log: first the database, because a log without one is thrown away by `SQLite`,
/// while a log beside another database would be played into it.
pub(super) fn remove(path: &Path) -> Result<(), IndexError> {
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(IndexError::file(&file, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How far an index is.
pub(super) fn progress(connection: &Connection) -> Result<Progress, rusqlite::Error> {
    let sql = "SELECT next_leaf, last_wall_ns, last_mono_ns FROM progress WHERE one = 1";
    connection.query_row(sql, [], |row| {
        let last = match (row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?) {
            (Some(wall), Some(mono)) => Some(Stamp { wall_ns: wall.cast_unsigned(), mono_ns: mono.cast_unsigned() }),
            _ => None,
        };
        Ok(Progress { next_leaf: row.get::<_, i64>(0)?.cast_unsigned(), last })
    })
}
