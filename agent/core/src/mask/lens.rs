//! What of a stream is text, and how it is written there.
//!
//! Owns the forms: loose text, HTTP heads, JSON, event streams, `PostgreSQL` frames. A lens that meets what it does not
//! understand reads it as loose text: nothing is passed over because of what it claims to be. Never looks for values.

mod json;
mod loose;
mod postgres;

use std::ops::Range;

use super::flow::Sink;
use crate::wire::postgres::MEDIA_TYPE as POSTGRES;
use json::Json;
use postgres::Frames;

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
    /// `PostgreSQL`'s messages.
    Postgres(Frames),
}

/// Reads one whole text of any kind.
pub(super) fn loose(all: &[u8], text: Range<usize>, sink: &mut Sink<'_>) {
    loose::read(all, text, true, sink);
}

impl Lens {
    pub(super) fn of(media_type: &str) -> Self {
        let plain = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match plain.as_str() {
            POSTGRES => Self::Postgres(Frames::new(media_type)),
            "message/http" => Self::Head,
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
            Self::Head => loose::head(all, from, ends, sink),
            Self::Json(json) => json.read(all, from..all.len(), ends, sink),
            Self::Events(json) => json.events(all, from, ends, sink),
            Self::Postgres(frames) => frames.read(all, from, ends, sink),
        }
    }
}
