//! An exchange whose recorded bytes are not their own text, as a person reads it: what was said, in its order.
//!
//! Knows media types, never a protocol. Never holds more than is shown.

use crewtap_core::limits::DECODED_BYTES_MAX;
use crewtap_core::session::Side;
use crewtap_core::view::{self, Bounds, Piece, Said};
use serde::Serialize;

use super::screen::{Screen, Style, safe};
use super::store::Store;
use super::stream::{Shown, print_text};
use crate::index::{Exchange, Payload};

/// Bytes of recorded messages that are read for a first look.
const READ_BYTES: usize = 256 * 1024;

/// Rows of each result at a first look.
const ROWS_MAX: usize = 40;

/// What both sides of an exchange said.
#[derive(Debug, Serialize)]
pub struct Dialogue {
    /// The exchange.
    pub exchange: String,
    /// What was said.
    pub said: Vec<Said>,
    /// Whether more is on record than was read for this.
    pub more: bool,
    /// What could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip)]
    transcript: String,
}

/// Reads an exchange out of the journal; none where its bytes are to be shown as they are.
///
/// # Errors
/// When the index fails; a journal that cannot be read is told in the dialogue.
pub fn read(store: &Store, exchange: &Exchange, shown: Shown) -> anyhow::Result<Option<Dialogue>> {
    let types = [("client", Side::Client, &exchange.request_type), ("server", Side::Server, &exchange.response_type)];
    let readable = |kind: &Option<String>| kind.as_deref().is_some_and(view::is_readable);
    if !types.iter().any(|(_, _, kind)| readable(kind)) {
        return Ok(None);
    }
    let mut places: Vec<(Side, &str, Payload)> = Vec::new();
    for (word, side, kind) in types {
        let kind = kind.as_deref().or(exchange.request_type.as_deref()).unwrap_or_default();
        let of_side = store.index.payloads(&exchange.session, word, Some(exchange.n))?;
        places.extend(of_side.into_iter().map(|place| (side, kind, place)));
    }
    places.sort_by_key(|(_, _, place)| place.leaf);
    let (limit, rows) = match shown {
        Shown::First => (READ_BYTES, ROWS_MAX),
        Shown::Bytes(bytes) => (usize::try_from(bytes).unwrap_or(DECODED_BYTES_MAX), usize::MAX),
        Shown::All => (DECODED_BYTES_MAX, usize::MAX),
    };
    let mut payloads: Vec<(Side, &str, Vec<u8>)> = Vec::new();
    let (mut held, mut error, mut more) = (0, None, false);
    for (side, kind, place) in &places {
        if held > limit {
            more = true;
            break;
        }
        match store.payload(place.leaf) {
            Ok(payload) => {
                held += payload.len();
                // What one side said in one go may be cut within a message.
                match payloads.last_mut() {
                    Some((last, _, said)) if last == side => said.extend_from_slice(&payload),
                    _ => payloads.push((*side, *kind, payload)),
                }
            }
            Err(problem) => {
                error.get_or_insert(problem);
            }
        }
    }
    let pieces = || payloads.iter().map(|(side, media_type, bytes)| Piece { side: *side, media_type, bytes });
    let names = exchange.facts.0.get("columns").and_then(serde_json::Value::as_str).unwrap_or_default();
    let names: Vec<String> = names.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let bounds = Bounds { rows, bytes: limit };
    let mut said = view::said(pieces(), &names, bounds);
    let mut transcript = view::transcript(pieces(), &names, bounds);
    // What was said once, and is run again by its name.
    let text = exchange.facts.0.get("text").and_then(serde_json::Value::as_str);
    if let Some(text) = text.filter(|_| !said.iter().any(|said| matches!(said, Said::Statement { .. }))) {
        said.insert(0, Said::Statement { text: text.to_owned() });
        transcript.insert_str(0, &format!("=> {text}\n"));
    }
    Ok(Some(Dialogue { exchange: exchange.id.clone(), said, more, error, transcript }))
}

impl Dialogue {
    /// Prints it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, screen: &mut Screen) -> std::io::Result<()> {
        print_text(self.transcript.as_bytes(), screen)?;
        if let Some(error) = &self.error {
            screen.line(&screen.styled(&format!("  ! {}", safe(error)), Style::Alarm))?;
        }
        if self.more {
            let line = format!("  … more is on record: `crewtap show {} --all` shows it", self.exchange);
            screen.line(&screen.styled(&line, Style::Faint))?;
        }
        Ok(())
    }
}
