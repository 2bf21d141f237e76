//! What a held task is about to execute, read from the task itself while the kernel holds it in its execve.
//!
//! The kernel knows only the file; the name that was asked for says which virtual environment it is. Never trusts what
//! it reads: every length has a bound, and a task that tells nothing is executed as it is.

use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

/// Arguments and variables that are read.
const WORDS_MAX: usize = 2048;

/// Bytes of one argument or variable; a longer one names no file.
const WORD_BYTES_MAX: usize = 4096;

/// Bytes of memory that are read for one list of words.
const LIST_BYTES_MAX: usize = 512 * 1024;

/// Memory is read in pieces of this size, which never cross a page.
const PAGE: u64 = 4096;

/// Pages that are kept while one task is read: words lie side by side.
const PAGES_KEPT: usize = 8;

/// How often a task is looked at that was seen before it had gone to sleep.
const ATTEMPTS: usize = 200;

/// `AT_FDCWD`, as a register shows it.
const AT_FDCWD: u32 = libc::AT_FDCWD.cast_unsigned();

/// One execve that is held.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Execution {
    /// What is executed, as it was named; absolute, links not followed.
    pub(super) name: PathBuf,
    /// Working directory.
    pub(super) directory: PathBuf,
    /// The words of the command.
    pub(super) words: Vec<Vec<u8>>,
    /// `NAME=value` each.
    pub(super) environment: Vec<Vec<u8>>,
}

impl Execution {
    /// Of a task; none when it is gone, has another root than the run, or tells nothing. Relative to `/proc`, which is
    /// the working directory of the caller.
    pub(super) fn of(task: u32) -> Option<Self> {
        let call = call(task)?;
        if fs::read_link(format!("{task}/root")).ok()? != Path::new("/") {
            return None;
        }
        let directory = fs::read_link(format!("{task}/cwd")).ok()?;
        let mut memory = Memory { file: File::open(format!("{task}/mem")).ok()?, pages: Vec::new() };
        let name = PathBuf::from(std::ffi::OsString::from_vec(memory.text(call.name)?));
        let base = match call.descriptor {
            AT_FDCWD => directory.clone(),
            descriptor => fs::read_link(format!("{task}/fd/{descriptor}")).ok()?,
        };
        let name = normal(&if name.as_os_str().is_empty() { base } else { base.join(name) });
        let (words, environment) = (memory.list(call.words), memory.list(call.environment));
        Some(Self { name, directory, words, environment })
    }

    /// A variable's value.
    pub(super) fn variable(&self, name: &str) -> Option<&[u8]> {
        self.environment.iter().find_map(|word| word.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// A path of the task, made absolute.
    pub(super) fn path(&self, bytes: &[u8]) -> PathBuf {
        normal(&self.directory.join(std::ffi::OsString::from_vec(bytes.to_vec())))
    }
}

/// Addresses in the task's memory.
struct Call {
    descriptor: u32,
    name: u64,
    words: u64,
    environment: u64,
}

/// `/proc/PID/syscall`: the number, six arguments, two pointers; `running` as long as the task has not gone to sleep.
fn call(task: u32) -> Option<Call> {
    for _ in 0..ATTEMPTS {
        let line = fs::read_to_string(format!("{task}/syscall")).ok()?;
        if line.starts_with("running") {
            std::thread::yield_now();
            continue;
        }
        return parse(&line);
    }
    None
}

fn parse(line: &str) -> Option<Call> {
    let mut fields = line.split_ascii_whitespace();
    let number: i64 = fields.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok();
    let first = argument()?;
    match number {
        libc::SYS_execve => {
            Some(Call { descriptor: AT_FDCWD, name: first, words: argument()?, environment: argument()? })
        }
        libc::SYS_execveat => {
            let descriptor = u32::try_from(first & u64::from(u32::MAX)).ok()?;
            Some(Call { descriptor, name: argument()?, words: argument()?, environment: argument()? })
        }
        _ => None,
    }
}

/// The memory of a task that sleeps.
struct Memory {
    file: File,
    pages: Vec<(u64, Vec<u8>)>,
}

impl Memory {
    /// Bytes from an address to the end of its page.
    fn piece(&mut self, address: u64) -> Option<&[u8]> {
        let (start, offset) = (address / PAGE * PAGE, usize::try_from(address % PAGE).ok()?);
        if !self.pages.iter().any(|(page, _)| *page == start) {
            let mut page = vec![0; usize::try_from(PAGE).ok()?];
            let len = self.file.read_at(&mut page, start).ok()?;
            page.truncate(len);
            if self.pages.len() >= PAGES_KEPT {
                self.pages.remove(0);
            }
            self.pages.push((start, page));
        }
        let (_, page) = self.pages.iter().find(|(page, _)| *page == start)?;
        page.get(offset..).filter(|piece| !piece.is_empty())
    }

    /// Bytes up to a NUL; a text that is too long is cut.
    fn text(&mut self, address: u64) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < WORD_BYTES_MAX {
            let piece = self.piece(address.checked_add(u64::try_from(text.len()).ok()?)?)?;
            match piece.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(piece.get(..end)?);
                    return Some(text);
                }
                None => text.extend_from_slice(piece),
            }
        }
        text.truncate(WORD_BYTES_MAX);
        Some(text)
    }

    fn pointer(&mut self, address: u64) -> Option<u64> {
        let size = size_of::<usize>();
        let mut bytes = [0; 8];
        for (at, place) in bytes.iter_mut().take(size).enumerate() {
            *place = *self.piece(address.checked_add(u64::try_from(at).ok()?)?)?.first()?;
        }
        Some(u64::from_le_bytes(bytes)).filter(|pointer| *pointer != 0)
    }

    /// Texts of a list of pointers that a null pointer ends; what cannot be read ends it, too.
    fn list(&mut self, address: u64) -> Vec<Vec<u8>> {
        // Pointers and texts lie in different pages; the pointers first, so that neither drives the other out.
        let mut pointers = Vec::new();
        let mut next = address;
        while address != 0 && pointers.len() < WORDS_MAX {
            let Some(pointer) = self.pointer(next) else { break };
            pointers.push(pointer);
            next = next.saturating_add(size_of::<usize>() as u64);
        }
        let (mut words, mut bytes) = (Vec::with_capacity(pointers.len()), 0);
        for pointer in pointers {
            let Some(word) = self.text(pointer) else { break };
            bytes += word.len();
            if bytes > LIST_BYTES_MAX {
                break;
            }
            words.push(word);
        }
        words
    }
}

/// Without `.` and `..`, as far as text alone can tell.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// The interpreter that the first line of a script names, and its argument.
pub(super) fn shebang(start: &[u8]) -> Option<(PathBuf, Vec<u8>)> {
    let line = start.strip_prefix(b"#!")?;
    let line = line.get(..line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len()))?.trim_ascii();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at_checked(end)?;
    (!interpreter.is_empty())
        .then(|| (std::ffi::OsString::from_vec(interpreter.to_vec()).into(), argument.trim_ascii().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_kernel_tells_where_the_words_are() {
        let call = parse("59 0x10 0x20 0x30 0x0 0x0 0x0 0x7ffc 0x7fab\n").unwrap();
        assert_eq!((call.descriptor, call.name, call.words, call.environment), (AT_FDCWD, 0x10, 0x20, 0x30));
        let call = parse("322 0xffffff9c 0x20 0x30 0x40 0x1000 0x0 0x7ffc 0x7fab\n").unwrap();
        assert_eq!((call.descriptor, call.name, call.words, call.environment), (AT_FDCWD, 0x20, 0x30, 0x40));
        assert!(parse("0 0x10 0x20 0x30 0x0 0x0 0x0 0x7ffc 0x7fab\n").is_none() && parse("-1 0x7ffc 0x7fab").is_none());
    }

    #[test]
    fn scripts_name_their_interpreter() {
        let found = shebang(b"#! /v/bin/python -I\nprint()").unwrap();
        assert_eq!(found, ("/v/bin/python".into(), b"-I".to_vec()));
        assert_eq!(shebang(b"#!/bin/sh"), Some(("/bin/sh".into(), Vec::new())));
        assert!(shebang(b"#!\n").is_none() && shebang(b"\x7fELF").is_none());
    }

    #[test]
    fn names_lose_their_detours() {
        assert_eq!(normal(Path::new("/a/./b/../c//d")), Path::new("/a/c/d"));
        assert_eq!(normal(Path::new("/../..")), Path::new("/"));
    }
}
