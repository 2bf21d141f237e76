//! One message of an exchange, as a person reads it: its head as it was sent, its body without its codings.
//!
//! Knows media types and content codings, never a protocol. Never holds more of a body than is shown.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crewtap_core::limits::DECODED_BYTES_MAX;
use crewtap_core::view::coding::{Decoder, End};
use crewtap_core::view::pretty;
use serde::Serialize;

use super::screen::{Screen, Style, bytes, counted, safe};
use super::store::Store;
use super::stream::{Shown, print_bytes, print_text};
use crate::index::{Exchange, is_text};

/// One side's message.
#[derive(Debug, Serialize)]
pub struct Message {
    /// The exchange.
    pub exchange: String,
    /// `client` or `server`.
    pub side: &'static str,
    /// What comes before the body, as text; trailers and interim answers too.
    pub head: String,
    /// The body's media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// How the body's bytes were coded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coding: Option<String>,
    /// Bytes of the body in the journal, as they were sent.
    pub body_bytes: u64,
    /// The first part of the body, decoded, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The first part of the body, decoded, where it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Whether there is more of the body than is given here.
    pub more: bool,
    /// What is wrong with what is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip)]
    body: Vec<u8>,
}

/// Reads one side's message out of the journal.
///
/// # Errors
/// When the index fails; a journal that cannot be read is told in the message.
pub fn read(store: &Store, exchange: &Exchange, side: &'static str, shown: Shown) -> anyhow::Result<Message> {
    let (media_type, coding) = match side {
        "client" => (&exchange.request_type, &exchange.request_coding),
        _ => (&exchange.response_type, &exchange.response_coding),
    };
    let limit = usize::try_from(shown.limit()).unwrap_or(usize::MAX).min(DECODED_BYTES_MAX);
    let mut decoder = Decoder::of(coding.as_deref().unwrap_or_default(), limit.saturating_add(1));
    let (mut head, mut error, mut body_bytes) = (Vec::new(), None, 0);
    for place in &store.index.payloads(&exchange.session, side, Some(exchange.n))? {
        let is_body = place.part == "body";
        if is_body {
            body_bytes += place.len.unsigned_abs();
            if decoder.decoded().len() > limit {
                continue;
            }
        }
        match store.payload(place.leaf) {
            Ok(payload) if is_body => decoder.feed(&payload),
            Ok(payload) => head.extend_from_slice(&payload),
            Err(problem) => {
                error.get_or_insert(problem);
            }
        }
    }
    let decoded = decoder.finish();
    let more = decoded.bytes.len() > limit;
    let body = decoded.bytes.get(..limit).unwrap_or(&decoded.bytes).to_vec();
    let wrong = match decoded.end {
        End::Truncated if !more && body_bytes > 0 => Some("the coded body ends early"),
        End::Broken => Some("the body is not what its coding says"),
        End::Unknown if coding.is_some() => Some("its coding is not known: shown as it was sent"),
        _ => None,
    };
    let (mut text, mut base64) = (None, None);
    match std::str::from_utf8(&body) {
        Ok(clear) if is_text(&body) => text = Some(clear.to_owned()),
        _ => base64 = Some(BASE64_STANDARD.encode(&body)),
    }
    Ok(Message {
        exchange: exchange.id.clone(),
        side,
        head: String::from_utf8_lossy(&head).into_owned(),
        media_type: media_type.clone(),
        coding: coding.clone(),
        body_bytes,
        text,
        base64,
        more,
        error: error.or_else(|| wrong.map(str::to_owned)),
        body,
    })
}

impl Message {
    /// Prints it under a heading.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn print(&self, heading: &str, shown: Shown, screen: &mut Screen) -> std::io::Result<()> {
        let total = i64::try_from(self.body_bytes).unwrap_or(i64::MAX);
        let coding = self.coding.as_deref().map(|coding| format!(", sent as {}", safe(coding))).unwrap_or_default();
        let body = if self.body_bytes > 0 { format!(", body of {}{coding}", bytes(total)) } else { String::new() };
        screen.line(&screen.styled(&format!("{heading}{body}"), Style::Heading))?;
        print_text(self.head.trim_end().as_bytes(), screen)?;
        if !self.body.is_empty() {
            screen.line("")?;
            let pretty = self.text.as_deref().filter(|_| !self.more && self.is_json());
            match pretty.and_then(|text| pretty::json(text, DECODED_BYTES_MAX)) {
                Some(pretty) => print_bytes(pretty.as_bytes(), shown, screen)?,
                None => print_bytes(&self.body, shown, screen)?,
            };
        }
        if let Some(error) = &self.error {
            screen.line(&screen.styled(&format!("  ! {}", safe(error)), Style::Alarm))?;
        }
        if self.more {
            let line = format!(
                "  … more of {}: `crewtap show {} --all` shows everything",
                counted(total, "byte", "bytes"),
                self.exchange
            );
            screen.line(&screen.styled(&line, Style::Faint))?;
        }
        Ok(())
    }

    fn is_json(&self) -> bool {
        self.media_type.as_deref().is_some_and(|kind| kind.ends_with("/json") || kind.ends_with("+json"))
    }
}
