//! The policy files of a directory: their names and texts.
//!
//! Owns which files count and how large they may be. Never parses one and never decides by one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the names of policy files end with.
const EXTENSION: &str = "cedar";

/// Files in a directory. A policy for each team and service is some hundred.
const FILES_MAX: usize = 1000;

/// Largest file, in bytes. Ten thousand policies of a hundred bytes fit.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Largest directory, in bytes: what is held in memory, and parsed at each change.
const ALL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Policy files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what a policy file is.
    #[error("{path} is {what}")]
    Shape {
        /// Directory or file.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
}

/// Every `*.cedar` in a directory, sorted by name: the name without the directory, and the text. Names that begin with a dot
/// are those of editors, and do not count.
///
/// # Errors
/// When the directory or one of the files cannot be read, is too large, or anybody may write it.
pub fn read(dir: &Path) -> Result<Vec<(String, String)>, RulesError> {
    let failed = |source| RulesError::Read { path: dir.to_owned(), source };
    let found = fs::metadata(dir).map_err(failed)?;
    guarded(dir, found.mode())?;
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let is_policy = Path::new(&name).extension().is_some_and(|extension| extension == EXTENSION);
        if !is_policy || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if names.len() == FILES_MAX {
            return Err(shape(dir, format!("a directory of more than {FILES_MAX} policy files: join some of them")));
        }
        names.push(name);
    }
    names.sort();
    let mut files = Vec::with_capacity(names.len());
    let mut bytes = 0;
    for name in names {
        let path = dir.join(&name);
        let text = read_file(&path)?;
        bytes += text.len();
        if bytes > ALL_BYTES_MAX {
            return Err(shape(
                dir,
                format!("a directory of more than {ALL_BYTES_MAX} bytes of policies: take some out"),
            ));
        }
        let name = name.into_string().map_err(|_| shape(&path, "a file whose name is not UTF-8: rename it"))?;
        files.push((name, text));
    }
    Ok(files)
}

/// The text of one policy file.
///
/// # Errors
/// As [`read`].
pub fn read_file(path: &Path) -> Result<String, RulesError> {
    let failed = |source| RulesError::Read { path: path.to_owned(), source };
    // A FIFO without a writer must not hold anybody for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(shape(path, "no regular file: remove it, or give it another name"));
    }
    guarded(path, found.mode())?;
    text(path, &file)
}

fn text(path: &Path, file: &File) -> Result<String, RulesError> {
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let read = read.map_err(|source| RulesError::Read { path: path.to_owned(), source })?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(shape(path, format!("a file of more than {FILE_BYTES_MAX} bytes: split it")));
    }
    String::from_utf8(bytes).map_err(|_| shape(path, "not UTF-8: save it as such"))
}

/// Whoever may write it decides what is allowed.
fn guarded(path: &Path, mode: u32) -> Result<(), RulesError> {
    let is_open = mode & 0o002 != 0;
    if is_open { Err(shape(path, "writable by everybody: `chmod o-w` it")) } else { Ok(()) }
}

fn shape(path: &Path, what: impl Into<String>) -> RulesError {
    RulesError::Shape { path: path.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("b.cedar", "b"), ("a.cedar", "a"), (".#a.cedar", "x"), ("notes.txt", "x"), ("c.cedar~", "x")]
        {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn said(dir: &tempfile::TempDir) -> String {
        read(dir.path()).unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn policy_files_come_sorted_and_nothing_else_does() {
        let dir = dir();
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(read(dir.path()).unwrap(), [pair("a.cedar", "a"), pair("b.cedar", "b")]);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let missing = dir();
        let path = missing.path().join("none");
        assert!(matches!(read(&path), Err(RulesError::Read { .. })));

        let odd = dir();
        fs::write(odd.path().join("z.cedar"), [0xff, 0xfe]).unwrap();
        assert_eq!(said(&odd), "DIR/z.cedar is not UTF-8: save it as such");
        fs::write(odd.path().join("z.cedar"), vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert_eq!(said(&odd), "DIR/z.cedar is a file of more than 1048576 bytes: split it");
        fs::remove_file(odd.path().join("z.cedar")).unwrap();
        fs::create_dir(odd.path().join("z.cedar")).unwrap();
        assert!(said(&odd).starts_with("DIR/z.cedar is no regular file"), "{}", said(&odd));
        fs::remove_dir(odd.path().join("z.cedar")).unwrap();
        nix::unistd::mkfifo(&odd.path().join("z.cedar"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(said(&odd).starts_with("DIR/z.cedar is no regular file"), "{}", said(&odd));
    }

    #[test]
    fn what_anybody_may_write_is_not_obeyed() {
        let dir = dir();
        fs::set_permissions(dir.path().join("b.cedar"), Permissions::from_mode(0o646)).unwrap();
        assert_eq!(said(&dir), "DIR/b.cedar is writable by everybody: `chmod o-w` it");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(said(&dir), "DIR is writable by everybody: `chmod o-w` it");
    }
}
