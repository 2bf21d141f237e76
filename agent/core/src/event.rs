//! One entry of the journal and its CBOR form.
//!
//! Never changes what it does not know: unknown kinds and keys survive a decode and encode.

mod cbor;

use std::collections::BTreeMap;
use std::fmt;

use ciborium::Value;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bodies;
use crate::id::{RunId, SessionId};
use crate::limits;

/// Version of the event format.
pub const VERSION: u8 = 1;

/// When something happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`; comparable within one boot.
    pub mono_ns: u64,
}

/// One entry of the journal. Its number (`seq`, the leaf number) is given by the journal's record.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// The run it belongs to; none for events of the agent itself.
    pub run: Option<RunId>,
    /// The session it belongs to.
    pub session: Option<SessionId>,
    /// Number of the exchange in the session, from 1.
    pub exchange: Option<u32>,
    /// When.
    pub at: Stamp,
    /// What.
    pub body: Body,
    /// Keys of a later version, kept as they were.
    pub extra: BTreeMap<String, Value>,
}

/// An event that cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The bytes are not an event.
    #[error("not an event: {0}")]
    Malformed(String),
    /// The event is larger than a record may be.
    #[error("the event has {0} bytes, more than {max}", max = limits::EVENT_BYTES_MAX)]
    TooLarge(usize),
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident = $kind:literal),+ $(,)?) => {
        /// What happened.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Body {
            $($(#[$doc])* $name(bodies::$name),)+
            /// A kind of a later version, kept as it was.
            Unknown {
                /// The kind's name.
                kind: String,
                /// Its body.
                body: Value,
            },
        }

        $(impl From<bodies::$name> for Body {
            fn from(body: bodies::$name) -> Self {
                Self::$name(body)
            }
        })+

        impl Body {
            /// The kind as it is spelled in the journal.
            #[must_use]
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$name(_) => $kind,)+
                    Self::Unknown { kind, .. } => kind,
                }
            }

            fn from_value(kind: String, body: Value) -> Result<Self, String> {
                match kind.as_str() {
                    $($kind => body.deserialized().map(Self::$name).map_err(|e| format!("{kind}: {e}")),)+
                    _ => Ok(Self::Unknown { kind, body }),
                }
            }

            fn next_from<'de, A: MapAccess<'de>>(kind: &str, map: &mut A) -> Result<Self, A::Error> {
                Ok(match kind {
                    $($kind => Self::$name(map.next_value()?),)+
                    _ => Self::Unknown { kind: kind.into(), body: map.next_value()? },
                })
            }

            fn serialize_entry<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self {
                    $(Self::$name(body) => map.serialize_entry("body", body),)+
                    Self::Unknown { body, .. } => map.serialize_entry("body", body),
                }
            }
        }
    };
}

bodies! {
    /// See [`bodies::RunStarted`].
    RunStarted = "run_started",
    /// See [`bodies::ProcessStarted`].
    ProcessStarted = "process_started",
    /// See [`bodies::ProcessExited`].
    ProcessExited = "process_exited",
    /// See [`bodies::RunEnded`].
    RunEnded = "run_ended",
    /// See [`bodies::SessionOpened`].
    SessionOpened = "session_opened",
    /// See [`bodies::Classified`].
    Classified = "classified",
    /// See [`bodies::Tls`].
    Tls = "tls",
    /// See [`bodies::Decided`].
    Decided = "decided",
    /// See [`bodies::ApprovalAsked`].
    ApprovalAsked = "approval_asked",
    /// See [`bodies::ApprovalAnswered`].
    ApprovalAnswered = "approval_answered",
    /// See [`bodies::Override`].
    Override = "override",
    /// See [`bodies::PolicyLoaded`].
    PolicyLoaded = "policy_loaded",
    /// See [`bodies::Injected`].
    Injected = "injected",
    /// See [`bodies::Request`].
    Request = "request",
    /// See [`bodies::Response`].
    Response = "response",
    /// See [`bodies::Chunk`].
    Chunk = "chunk",
    /// See [`bodies::Resized`].
    Resized = "resized",
    /// See [`bodies::Masked`].
    Masked = "masked",
    /// See [`bodies::Note`].
    Note = "note",
    /// See [`bodies::SessionClosed`].
    SessionClosed = "session_closed",
    /// See [`bodies::Accepted`].
    Accepted = "accepted",
    /// See [`bodies::Dns`].
    Dns = "dns",
    /// See [`bodies::Bypass`].
    Bypass = "bypass",
    /// See [`bodies::Reconciled`].
    Reconciled = "reconciled",
    /// See [`bodies::Checkpoint`].
    Checkpoint = "checkpoint",
    /// See [`bodies::Recovered`].
    Recovered = "recovered",
}

impl Event {
    /// An event of the agent itself.
    pub fn new(at: Stamp, body: impl Into<Body>) -> Self {
        Self { run: None, session: None, exchange: None, at, body: body.into(), extra: BTreeMap::new() }
    }

    /// The same event, as part of a run.
    #[must_use]
    pub fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// The same event, as part of a session.
    #[must_use]
    pub fn in_session(mut self, run: RunId, session: SessionId) -> Self {
        self.run = Some(run);
        self.session = Some(session);
        self
    }

    /// The same event, as part of an exchange of its session.
    #[must_use]
    pub fn in_exchange(mut self, exchange: u32) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// The journal's form.
    ///
    /// # Errors
    /// When the event is larger than [`limits::EVENT_BYTES_MAX`].
    pub fn to_cbor(&self) -> Result<Vec<u8>, EventError> {
        let mut bytes = Vec::with_capacity(256);
        ciborium::into_writer(self, &mut bytes).map_err(|e| EventError::Malformed(e.to_string()))?;
        if bytes.len() > limits::EVENT_BYTES_MAX {
            return Err(EventError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads the journal's form.
    ///
    /// # Errors
    /// When the bytes are not one whole event.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, EventError> {
        let mut reader = cbor::Reader::new(bytes);
        if let Ok(event) = Self::deserialize(&mut reader)
            && reader.is_at_end()
        {
            return Ok(event);
        }
        let mut rest = bytes;
        let event = ciborium::from_reader(&mut rest).map_err(|e| EventError::Malformed(e.to_string()))?;
        if rest.is_empty() {
            Ok(event)
        } else {
            Err(EventError::Malformed(format!("{} bytes after its end", rest.len())))
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let optional = [self.run.is_some(), self.session.is_some(), self.exchange.is_some()];
        let keys = 5 + optional.iter().filter(|is| **is).count() + self.extra.len();
        let mut map = to.serialize_map(Some(keys))?;
        map.serialize_entry("v", &VERSION)?;
        if let Some(run) = &self.run {
            map.serialize_entry("run", run)?;
        }
        if let Some(session) = &self.session {
            map.serialize_entry("session", session)?;
        }
        if let Some(exchange) = &self.exchange {
            map.serialize_entry("exchange", exchange)?;
        }
        map.serialize_entry("wall_ns", &self.at.wall_ns)?;
        map.serialize_entry("mono_ns", &self.at.mono_ns)?;
        map.serialize_entry("kind", self.body.kind())?;
        self.body.serialize_entry(&mut map)?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut version, mut kind) = (None::<u8>, None::<String>);
        let (mut run, mut session, mut exchange) = (None, None, None);
        let (mut wall_ns, mut mono_ns) = (None, None);
        let (mut body, mut early) = (None, None::<Value>);
        let mut extra = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "v" => version = Some(map.next_value()?),
                "run" => run = Some(map.next_value()?),
                "session" => session = Some(map.next_value()?),
                "exchange" => exchange = Some(map.next_value()?),
                "wall_ns" => wall_ns = Some(map.next_value()?),
                "mono_ns" => mono_ns = Some(map.next_value()?),
                "kind" => kind = Some(map.next_value()?),
                "body" => match &kind {
                    Some(kind) => body = Some(Body::next_from(kind, &mut map)?),
                    None => early = Some(map.next_value()?),
                },
                _ => {
                    extra.insert(key, map.next_value()?);
                }
            }
        }
        if version.is_none_or(|version| version == 0) {
            return Err(A::Error::custom("no version"));
        }
        let body = match (body, early, kind) {
            (Some(body), _, _) => body,
            (None, Some(early), Some(kind)) => Body::from_value(kind, early).map_err(A::Error::custom)?,
            _ => return Err(A::Error::missing_field("kind and body")),
        };
        let at = Stamp {
            wall_ns: wall_ns.ok_or_else(|| A::Error::missing_field("wall_ns"))?,
            mono_ns: mono_ns.ok_or_else(|| A::Error::missing_field("mono_ns"))?,
        };
        Ok(Event { run, session, exchange, at, body, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Event {
        let stamp = Stamp { wall_ns: 1_700_000_000_000_000_000, mono_ns: 5 };
        let body = bodies::Note { code: "torn".into(), text: "a torn end".into() };
        Event::new(stamp, body).in_run(RunId(crate::id::Ulid::from_bytes([7; 16])))
    }

    #[test]
    fn an_event_survives_its_journal_form() {
        let event = note();
        assert_eq!(Event::from_cbor(&event.to_cbor().unwrap()).unwrap(), event);
    }

    #[test]
    fn unknown_kinds_and_keys_are_kept() {
        let value = Value::Map(vec![
            (Value::from("v"), Value::from(9)),
            (Value::from("body"), Value::from("later")),
            (Value::from("kind"), Value::from("teleported")),
            (Value::from("mono_ns"), Value::from(1)),
            (Value::from("wall_ns"), Value::from(2)),
            (Value::from("colour"), Value::from("blue")),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).unwrap();
        let event = Event::from_cbor(&bytes).unwrap();
        assert_eq!(event.body.kind(), "teleported");
        assert_eq!(Event::from_cbor(&event.to_cbor().unwrap()).unwrap(), event);
        assert_eq!(event.extra["colour"], Value::from("blue"));
    }

    #[test]
    fn bytes_after_an_event_are_refused() {
        let mut bytes = note().to_cbor().unwrap();
        bytes.push(0);
        assert!(Event::from_cbor(&bytes).is_err());
    }
}
