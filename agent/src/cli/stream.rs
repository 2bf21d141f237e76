//! The payload of one side of a session: its first part as text or as hex, and how much more there is.
//!
//! Never holds more of a stream than is shown, and never sends a recorded byte to the terminal as it is.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crewtap_core::limits::{SHOWN_BYTES_MAX, SHOWN_LINES_MAX};
use serde::Serialize;

use super::screen::{Screen, Style, bytes, counted, safe};
use super::store::Store;
use crate::index::is_text;

/// Bytes of one line of hex.
const HEX_LINE: usize = 16;

/// How much of each payload is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// The first 4 KiB or 100 lines.
    #[default]
    First,
    /// So many bytes.
    Bytes(u64),
    /// Everything.
    All,
}

/// One side's payload.
#[derive(Debug, Serialize)]
pub struct Stream {
    #[allow(missing_docs)]
    pub session: String,
    /// `client` or `server`.
    pub side: String,
    /// Bytes in the journal.
    pub total: u64,
    /// The first part, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The first part, where it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Why it ends before `total`, when not because enough is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip)]
    head: Vec<u8>,
}

impl Shown {
    pub(super) fn limit(self) -> u64 {
        match self {
            Self::First => SHOWN_BYTES_MAX as u64,
            Self::Bytes(limit) => limit,
            Self::All => u64::MAX,
        }
    }
}

/// Reads the first part of what a side said outside of exchanges out of the journal.
///
/// # Errors
/// When the index fails; a journal that cannot be read is told in the stream.
pub fn read(store: &Store, session: &str, side: &str, shown: Shown) -> anyhow::Result<Stream> {
    let mut places = store.index.payloads(session, side, None)?;
    places.retain(|place| place.n.is_none());
    let total = places.iter().map(|place| place.len.unsigned_abs()).sum();
    let mut stream = Stream {
        session: session.into(),
        side: side.into(),
        total,
        text: None,
        base64: None,
        error: None,
        head: Vec::new(),
    };
    for place in &places {
        let room = shown.limit().saturating_sub(stream.head.len() as u64);
        if room == 0 {
            break;
        }
        match store.payload(place.leaf) {
            Ok(payload) => {
                let take = usize::try_from(room).unwrap_or(usize::MAX).min(payload.len());
                stream.head.extend_from_slice(payload.get(..take).unwrap_or_default());
            }
            Err(error) => stream.error = Some(error),
        }
        if stream.error.is_some() {
            break;
        }
    }
    match std::str::from_utf8(&stream.head) {
        Ok(text) if is_text(&stream.head) => stream.text = Some(text.into()),
        _ => stream.base64 = Some(BASE64_STANDARD.encode(&stream.head)),
    }
    Ok(stream)
}

impl Stream {
    /// Prints it under a heading, and how much more there is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, heading: &str, id: &str, shown: Shown, screen: &mut Screen) -> std::io::Result<()> {
        let total = i64::try_from(self.total).unwrap_or(i64::MAX);
        let heading = screen.styled(&format!("{heading}, {}", bytes(total)), Style::Heading);
        screen.line(&heading)?;
        let head = print_bytes(&self.head, shown, screen)?;
        if let Some(error) = &self.error {
            let line = format!("  the rest cannot be shown: {}", safe(error));
            return screen.line(&screen.styled(&line, Style::Alarm));
        }
        let more = self.total.saturating_sub(head as u64);
        if more > 0 {
            let next = head.saturating_mul(16);
            let line = format!(
                "  … {} more: `crewtap show {id} --all` shows everything, `--bytes {next}` the first {next}",
                counted(i64::try_from(more).unwrap_or(i64::MAX), "byte", "bytes")
            );
            screen.line(&screen.styled(&line, Style::Faint))?;
        }
        Ok(())
    }
}

/// Prints bytes as text or as hex; as many of them as a reader is shown, which it returns.
pub(super) fn print_bytes(bytes: &[u8], shown: Shown, screen: &mut Screen) -> std::io::Result<usize> {
    if !is_text(bytes) {
        print_hex(bytes, screen)?;
        return Ok(bytes.len());
    }
    let head = if shown == Shown::First { first_lines(bytes) } else { bytes };
    print_text(head, screen)?;
    Ok(head.len())
}

/// As much as a reader is shown unasked.
fn first_lines(text: &[u8]) -> &[u8] {
    let mut newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    match newlines.nth(SHOWN_LINES_MAX - 1) {
        Some((at, _)) => text.get(..=at).unwrap_or(text),
        None => text,
    }
}

pub(super) fn print_text(text: &[u8], screen: &mut Screen) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(text);
    for line in text.lines() {
        // A tab and the CR of a line's end do no harm; everything else that is not text is spelled out.
        let line = line.strip_suffix('\r').unwrap_or(line);
        let cells: Vec<_> = line.split('\t').map(safe).collect();
        screen.line(&format!("  {}", cells.join("\t")))?;
    }
    Ok(())
}

fn print_hex(bytes: &[u8], screen: &mut Screen) -> std::io::Result<()> {
    for (at, line) in bytes.chunks(HEX_LINE).enumerate() {
        let mut hex = String::with_capacity(HEX_LINE * 3 + 1);
        for at in 0..HEX_LINE {
            if at == HEX_LINE / 2 {
                hex.push(' ');
            }
            match line.get(at) {
                // Writing to a String does not fail.
                Some(byte) => drop(write!(hex, "{byte:02x} ")),
                None => hex.push_str("   "),
            }
        }
        let text: String =
            line.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        screen.line(&format!("  {:08x}  {hex} |{text}|", at * HEX_LINE))?;
    }
    Ok(())
}
