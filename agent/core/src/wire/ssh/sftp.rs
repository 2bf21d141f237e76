//! SFTP, version 3 as OpenSSH speaks it (draft-ietf-secsh-filexfer-02, and the extensions of its `PROTOCOL` file).
//!
//! Owns packets and what they ask for. No state beyond a packet that is not whole yet: which handle is which file the caller knows.

mod fuzzed;

use crate::limits::SFTP_PACKET_BYTES_MAX;
use crate::view::hexadecimal;

#[doc(hidden)]
pub use fuzzed::fuzz_sftp;

/// `SSH_FX_OK`.
pub const OK: u32 = 0;
/// `SSH_FX_EOF`.
pub const EOF: u32 = 1;
/// `SSH_FX_PERMISSION_DENIED`.
pub const PERMISSION_DENIED: u32 = 3;

/// `SSH_FX_FAILURE`.
pub const FAILURE: u32 = 4;

/// `SSH_FXF_WRITE`, `APPEND`, `CREAT`, `TRUNC`: a file that is opened with one of them is written.
const WRITES: u32 = 0x02 | 0x04 | 0x08 | 0x10;
/// `SSH_FXF_READ`.
const READS: u32 = 0x01;

const STATUS: u8 = 101;

/// A packet that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// It says that it is longer than any.
    #[error("an SFTP packet of {0} bytes: none has more than {max}", max = SFTP_PACKET_BYTES_MAX)]
    TooLong(usize),
    /// Its server speaks another version than 3.
    #[error("another version of SFTP than 3, which nobody here can judge")]
    Version,
    /// It breaks the order of requests and answers.
    #[error("an SFTP packet that cannot be told apart from another, or comes too early")]
    Order,
    /// Its fields do not fit into it.
    #[error("an SFTP packet whose fields do not fit into it")]
    Malformed,
}

/// Cuts one direction into packets.
#[derive(Debug, Default)]
pub struct Packets {
    bytes: Vec<u8>,
    at: usize,
}

impl Packets {
    /// Takes what came next.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet, with its length; none where more must come.
    ///
    /// # Errors
    /// When its length cannot be.
    pub fn next_packet(&mut self) -> Result<Option<&[u8]>, Fault> {
        let Some((len, _)) = self.bytes.get(self.at..).and_then(<[u8]>::split_first_chunk::<4>) else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(*len) as usize;
        if len > SFTP_PACKET_BYTES_MAX {
            return Err(Fault::TooLong(len));
        }
        if len == 0 {
            return Err(Fault::Malformed);
        }
        let begin = self.at;
        if self.bytes.len() < begin + 4 + len {
            return Ok(None);
        }
        self.at = begin + 4 + len;
        Ok(self.bytes.get(begin..self.at))
    }

    /// Whether a packet is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.at < self.bytes.len()
    }
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request<'p> {
    /// The beginning.
    Init,
    /// Open a file.
    Open {
        /// Its path.
        path: &'p [u8],
        /// To read it.
        reads: bool,
        /// To write it.
        writes: bool,
        /// Its flags and attributes.
        attributes: &'p [u8],
    },
    /// Open a directory, to list it.
    OpenDirectory(&'p [u8]),
    /// Close a file or a directory.
    Close(&'p [u8]),
    /// Read from a file.
    Read {
        /// Which.
        handle: &'p [u8],
        /// From where.
        offset: u64,
    },
    /// Write to a file.
    Write {
        /// Which.
        handle: &'p [u8],
        /// To where.
        offset: u64,
        /// What.
        data: &'p [u8],
    },
    /// More names of a directory.
    ReadDirectory(&'p [u8]),
    /// Something that is done to an open file.
    OfHandle {
        /// What, in a word.
        verb: &'static str,
        /// Which.
        handle: &'p [u8],
        /// It changes the file.
        writes: bool,
        /// What else it says.
        attributes: &'p [u8],
    },
    /// Something that is done with a path.
    OfPath {
        /// What, in a word.
        verb: &'static str,
        /// Which.
        path: &'p [u8],
        /// Another path that it needs.
        other: Option<&'p [u8]>,
        /// What else it says: attributes, flags.
        attributes: &'p [u8],
        /// It changes what is there.
        writes: bool,
    },
    /// What a path means; nothing of a file is told.
    Resolve(&'p [u8]),
    /// What the server can do; nothing of a file is told.
    Harmless,
    /// Something that is not known here.
    Unknown {
        /// Its name.
        name: &'p [u8],
        /// All that it says.
        attributes: &'p [u8],
    },
}

/// What a server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer<'p> {
    /// The beginning.
    Version,
    /// How it went.
    Status {
        /// `SSH_FX_…`.
        code: u32,
        /// In words.
        message: &'p [u8],
    },
    /// A file or a directory is open.
    Handle(&'p [u8]),
    /// Bytes of a file.
    Data(&'p [u8]),
    /// Names, each as a line of `ls -l`.
    Names(Vec<(&'p [u8], &'p [u8])>),
    /// Anything else.
    Other,
}

struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.0.split_first().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.number().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.number().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'p [u8], Fault> {
        let len = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(text)
    }

    /// File attributes (section 5); what they say is not looked at.
    fn attributes(&mut self) -> Result<(), Fault> {
        let flags = self.u32()?;
        for (flag, numbers) in [(0x1, 2), (0x2, 2), (0x4, 1), (0x8, 2)] {
            if flags & flag != 0 {
                for _ in 0..numbers {
                    self.u32()?;
                }
            }
        }
        if flags & 0x8000_0000 != 0 {
            for _ in 0..self.u32()?.min(1024) {
                self.text()?;
                self.text()?;
            }
        }
        Ok(())
    }
}

/// Reads a client's packet; its number is 0 where it has none.
///
/// # Errors
/// When its fields do not fit into it.
pub fn request(packet: &[u8]) -> Result<(u32, Request<'_>), Fault> {
    let mut reader = Reader(packet.get(4..).ok_or(Fault::Malformed)?);
    let kind = reader.byte()?;
    if kind == 1 {
        return Ok((0, Request::Init));
    }
    let id = reader.u32()?;
    let mut path = |verb, writes| {
        let path = reader.text()?;
        Ok(Request::OfPath { verb, path, other: None, attributes: reader.0, writes })
    };
    let request = match kind {
        7 => path("LSTAT", false)?,
        9 => path("SETSTAT", true)?,
        13 => path("REMOVE", true)?,
        14 => path("MKDIR", true)?,
        15 => path("RMDIR", true)?,
        17 => path("STAT", false)?,
        19 => path("READLINK", false)?,
        3 => {
            let path = reader.text()?;
            let attributes = reader.0;
            let flags = reader.u32()?;
            // What is opened for nothing can still be asked about, and is no less than read.
            Request::Open {
                path,
                reads: flags & READS != 0 || flags & WRITES == 0,
                writes: flags & WRITES != 0,
                attributes,
            }
        }
        4 => Request::Close(reader.text()?),
        5 => Request::Read { handle: reader.text()?, offset: reader.u64()? },
        6 => Request::Write { handle: reader.text()?, offset: reader.u64()?, data: reader.text()? },
        8 => of_handle(&mut reader, "FSTAT", false)?,
        10 => of_handle(&mut reader, "FSETSTAT", true)?,
        11 => Request::OpenDirectory(reader.text()?),
        12 => Request::ReadDirectory(reader.text()?),
        16 => Request::Resolve(reader.text()?),
        18 => two(&mut reader, "RENAME")?,
        // OpenSSH sends the target first; both are told.
        20 => two(&mut reader, "SYMLINK")?,
        200 => extended(&mut reader)?,
        _ => Request::Unknown { name: b"a packet of an unknown kind", attributes: reader.0 },
    };
    Ok((id, request))
}

fn two<'p>(reader: &mut Reader<'p>, verb: &'static str) -> Result<Request<'p>, Fault> {
    Ok(Request::OfPath { verb, path: reader.text()?, other: Some(reader.text()?), attributes: reader.0, writes: true })
}

fn one<'p>(reader: &mut Reader<'p>, verb: &'static str, writes: bool) -> Result<Request<'p>, Fault> {
    let path = reader.text()?;
    Ok(Request::OfPath { verb, path, other: None, attributes: reader.0, writes })
}

fn of_handle<'p>(reader: &mut Reader<'p>, verb: &'static str, writes: bool) -> Result<Request<'p>, Fault> {
    let handle = reader.text()?;
    Ok(Request::OfHandle { verb, handle, writes, attributes: reader.0 })
}

fn extended<'p>(reader: &mut Reader<'p>) -> Result<Request<'p>, Fault> {
    let name = reader.text()?;
    Ok(match name {
        b"posix-rename@openssh.com" => two(reader, "RENAME")?,
        b"hardlink@openssh.com" => two(reader, "HARDLINK")?,
        b"lsetstat@openssh.com" => one(reader, "SETSTAT", true)?,
        b"statvfs@openssh.com" => one(reader, "STATVFS", false)?,
        b"fstatvfs@openssh.com" => of_handle(reader, "FSTATVFS", false)?,
        b"fsync@openssh.com" => of_handle(reader, "FSYNC", false)?,
        b"expand-path@openssh.com" => Request::Resolve(reader.text()?),
        b"home-directory" | b"limits@openssh.com" | b"users-groups-by-id@openssh.com" => Request::Harmless,
        name => Request::Unknown { name, attributes: reader.0 },
    })
}

/// Reads a server's packet; its number is 0 where it has none.
///
/// # Errors
/// When its fields do not fit into it.
pub fn answer(packet: &[u8]) -> Result<(u32, Answer<'_>), Fault> {
    let mut reader = Reader(packet.get(4..).ok_or(Fault::Malformed)?);
    let kind = reader.byte()?;
    if kind == 2 {
        // Later versions have other packets under the same numbers.
        if reader.u32()? != 3 {
            return Err(Fault::Version);
        }
        return Ok((0, Answer::Version));
    }
    let id = reader.u32()?;
    let answer = match kind {
        STATUS => {
            let code = reader.u32()?;
            // Version 2 and some servers of today send no words.
            Answer::Status { code, message: reader.text().unwrap_or_default() }
        }
        102 => Answer::Handle(reader.text()?),
        103 => Answer::Data(reader.text()?),
        104 => {
            let count = reader.u32()?;
            let mut names = Vec::new();
            for _ in 0..count {
                names.push((reader.text()?, reader.text()?));
                reader.attributes()?;
            }
            Answer::Names(names)
        }
        _ => Answer::Other,
    };
    Ok((id, answer))
}

/// Attributes of a file (section 5), as a person reads them; in hexadecimal where they cannot be read.
#[must_use]
pub fn attributes_in_words(attributes: &[u8]) -> String {
    let words = || -> Result<Vec<String>, Fault> {
        let mut reader = Reader(attributes);
        let (flags, mut words) = (reader.u32()?, Vec::new());
        if flags & 0x1 != 0 {
            words.push(format!("size {}", reader.u64()?));
        }
        if flags & 0x2 != 0 {
            words.push(format!("owner {}:{}", reader.u32()?, reader.u32()?));
        }
        if flags & 0x4 != 0 {
            words.push(format!("mode {:o}", reader.u32()? & 0o7777));
        }
        if flags & 0x8 != 0 {
            words.push(format!("times {} and {}", reader.u32()?, reader.u32()?));
        }
        if !reader.0.is_empty() {
            words.push(hexadecimal(reader.0));
        }
        Ok(words)
    };
    if attributes.is_empty() {
        return String::new();
    }
    words().map_or_else(|_| hexadecimal(attributes), |words| words.join(", "))
}

/// The same of what a file is opened with.
#[must_use]
pub fn flags_in_words(attributes: &[u8]) -> String {
    let Some((flags, rest)) = attributes.split_first_chunk::<4>() else { return hexadecimal(attributes) };
    let flags = u32::from_be_bytes(*flags);
    let names =
        [(0x1, "read"), (0x2, "write"), (0x4, "append"), (0x8, "create"), (0x10, "truncate"), (0x20, "exclusive")];
    let mut words: Vec<String> =
        names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| (*name).to_owned()).collect();
    words.extend(Some(attributes_in_words(rest)).filter(|words| !words.is_empty()));
    words.join(", ")
}

/// The answer to a request that goes nowhere, because policy does not permit it.
#[must_use]
pub fn refusal(id: u32, why: &str) -> Vec<u8> {
    status(id, PERMISSION_DENIED, why)
}

/// The answer to a request for a handle that nobody has.
#[must_use]
pub fn no_such_handle(id: u32) -> Vec<u8> {
    status(id, FAILURE, "no such handle")
}

fn status(id: u32, code: u32, why: &str) -> Vec<u8> {
    let mut body = vec![STATUS];
    body.extend(id.to_be_bytes());
    body.extend(code.to_be_bytes());
    for text in [why, "en"] {
        body.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut packet = u32::try_from(body.len()).unwrap_or_default().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// A path as policies see it: absolute and without detours, `UNPARSED` where it could mean more than one file. `home`: where
/// relative paths begin, as the server has said.
#[must_use]
pub fn normal(path: &[u8], home: Option<&[u8]>) -> String {
    const UNPARSED: &str = "UNPARSED";
    let Ok(text) = std::str::from_utf8(path) else { return UNPARSED.into() };
    let home = home.map(String::from_utf8_lossy);
    let base = match (text.starts_with('/'), &home) {
        (true, _) => "",
        (false, Some(home)) if home.starts_with('/') => home,
        (false, _) => return UNPARSED.into(),
    };
    let parts = base.split('/').chain(text.split('/')).filter(|part| !part.is_empty() && *part != ".");
    let mut whole = String::new();
    for part in parts {
        // What is above a link only the server knows.
        if part == ".." || part.contains('\0') {
            return UNPARSED.into();
        }
        whole.push('/');
        whole.push_str(part);
    }
    if whole.is_empty() { "/".into() } else { whole }
}

#[cfg(test)]
mod tests;
