//! What of a stream is text, and how it is written there.
//!
//! Owns the forms: loose text, HTTP heads, JSON, event streams, `PostgreSQL` frames. A lens that meets what it does not
//! understand reads it as loose text: nothing is passed over because of what it claims to be. Never looks for values.

mod copied;
mod dns;
mod json;
mod loose;
mod postgres;

use std::ops::Range;

use super::flow::{How, Sink};
use crate::wire::postgres::MEDIA_TYPE as POSTGRES;
use crate::wire::postgres::facts::named;
use json::Json;
use postgres::Frames;

/// Longest name of a host, in bytes, with the dot at its end.
const HOST_BYTES_MAX: usize = 254;

/// How one stream is read.
#[derive(Debug)]
pub(super) enum Lens {
    /// Text of any kind, and bytes of any other.
    Loose,
    /// A form (WHATWG URL section 5), where a plus sign is a blank.
    Form,
    /// A head of HTTP, in one piece.
    Head,
    /// JSON, one value or many.
    Json(Json),
    /// `text/event-stream`.
    Events(Json),
    /// One message of DNS; what stands between the labels of a name.
    Dns(u8),
    /// `PostgreSQL`'s messages.
    Postgres(Frames),
}

/// Reads one whole text that may be a statement, whose values can be of columns that rules are about.
pub(super) fn statement(all: &[u8], text: Range<usize>, sink: &mut Sink<'_>) {
    let mut at = text.start;
    if sink.plan.has_columns()
        && let Ok(sql) = std::str::from_utf8(all.get(text.clone()).unwrap_or_default())
    {
        for (value, column) in named(sql).values {
            let Some(place) = sink.plan.columns.get(&column).copied() else { continue };
            let value = text.start + value.start..text.start + value.end;
            loose::read(all, at..value.start, true, sink);
            sink.begin(place);
            loose::read(all, value.clone(), true, sink);
            sink.end();
            at = value.end;
        }
    }
    loose::read(all, at..text.end, true, sink);
}

/// Whether a text can be the name of a host.
pub(super) fn is_host(text: &[u8]) -> bool {
    let last = text.rsplit(|byte| *byte == b'.').find(|label| !label.is_empty()).unwrap_or_default();
    text.len() <= HOST_BYTES_MAX
        && text.contains(&b'.')
        && last.iter().any(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*'))
}

/// Reads the name of a host with blanks for its dots: what is behind a dot could be a fraction.
pub(super) fn labels(all: &[u8], text: Range<usize>, sink: &mut Sink<'_>) {
    for at in text {
        match all.get(at..=at) {
            Some(b".") => sink.written(b" ", at, 1, How::Nothing),
            letter => sink.plain(letter.unwrap_or_default(), at, How::Plain),
        }
    }
}

impl Lens {
    pub(super) fn of(media_type: &str) -> Self {
        let plain = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match plain.as_str() {
            POSTGRES => Self::Postgres(Frames::new(media_type)),
            "message/http" => Self::Head,
            "application/dns-message" => Self::Dns(b'.'),
            "application/x-www-form-urlencoded" => Self::Form,
            "text/event-stream" => Self::Events(Json::default()),
            kind if kind.ends_with("json") || kind.ends_with("jsonl") => Self::Json(Json::default()),
            _ => Self::Loose,
        }
    }

    /// What follows is described anew.
    pub(super) fn describe(&mut self, media_type: &str) {
        if let Self::Postgres(frames) = self {
            frames.describe(media_type);
        }
    }

    /// Reads on; up to where. What it leaves has to come again with what follows.
    pub(super) fn read(&mut self, all: &[u8], from: usize, ends: bool, sink: &mut Sink<'_>) -> usize {
        match self {
            Self::Loose => loose::read(all, from..all.len(), ends, sink),
            Self::Form => loose::form(all, from..all.len(), ends, sink),
            Self::Dns(joint) => dns::read(all, from, ends, *joint, sink),
            Self::Head => loose::head(all, from, ends, sink),
            Self::Json(json) => json.read(all, from..all.len(), ends, sink),
            Self::Events(json) => json.events(all, from, ends, sink),
            Self::Postgres(frames) => frames.read(all, from, ends, sink),
        }
    }
}
