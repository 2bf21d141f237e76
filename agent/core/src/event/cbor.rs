//! The journal's form of an event, read from where it lies.
//!
//! Reads what this program writes: lengths that are told in advance, no tags, no floating-point numbers. Everything else is
//! left to `ciborium`, which takes all of CBOR and five times as long; what both read they read alike (a test compares).

use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Values within values: more than any event of ours has.
const DEPTH_MAX: u8 = 64;

/// Not of the form that is read here.
#[derive(Debug)]
pub(super) struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not read")
    }
}

impl std::error::Error for Unread {}

impl de::Error for Unread {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Reads one value from the front of some bytes.
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    depth: u8,
}

impl<'de> Reader<'de> {
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    /// Nothing follows.
    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'de [u8], Unread> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Unread)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The major type of the next item and its argument (RFC 8949 section 3).
    fn head(&mut self) -> Result<(u8, u64), Unread> {
        let (first, rest) = self.rest.split_first().ok_or(Unread)?;
        self.rest = rest;
        let bytes = match first & 0x1f {
            small @ 0..=23 => return Ok((first >> 5, small.into())),
            // Floating-point numbers and odd simple values stand behind these, too.
            _ if first >> 5 == 7 => return Err(Unread),
            size @ 24..=27 => self.take(1 << (size - 24))?,
            _ => return Err(Unread),
        };
        Ok((first >> 5, bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))))
    }

    fn text(&mut self, len: u64) -> Result<&'de str, Unread> {
        let bytes = self.take(usize::try_from(len).map_err(|_| Unread)?)?;
        std::str::from_utf8(bytes).map_err(|_| Unread)
    }

    /// Whether the next item is null or undefined, which is then passed.
    fn is_none(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0xf6 | 0xf7, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Visits what has `left` items, all of which must be taken.
    fn within<T>(
        &mut self,
        left: u64,
        visit: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, Unread>,
    ) -> Result<T, Unread> {
        if self.depth >= DEPTH_MAX {
            return Err(Unread);
        }
        self.depth += 1;
        let mut items = Items { reader: self, left };
        let value = visit(&mut items)?;
        let left = items.left;
        self.depth -= 1;
        if left == 0 { Ok(value) } else { Err(Unread) }
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.head()? {
            (0, value) => visitor.visit_u64(value),
            (1, value) => visitor.visit_i64(-1 - i64::try_from(value).map_err(|_| Unread)?),
            (2, len) => visitor.visit_borrowed_bytes(self.take(usize::try_from(len).map_err(|_| Unread)?)?),
            (3, len) => visitor.visit_borrowed_str(self.text(len)?),
            (4, len) => self.within(len, |items| visitor.visit_seq(items)),
            (5, len) => self.within(len, |items| visitor.visit_map(items)),
            (7, 20) => visitor.visit_bool(false),
            (7, 21) => visitor.visit_bool(true),
            (7, 22) => visitor.visit_none(),
            _ => Err(Unread),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        if self.is_none() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        match self.head()? {
            (3, len) => visitor.visit_enum(BorrowedStrDeserializer::new(self.text(len)?)),
            (5, 1) => visitor.visit_enum(self),
            _ => Err(Unread),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// What is left of an array or a map.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    left: u64,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Unread;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Unread> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Unread;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unread> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unread> {
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant with content is a map of one: its name and that.
impl<'de> EnumAccess<'de> for &mut Reader<'de> {
    type Error = Unread;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Unread> {
        let variant = seed.deserialize(&mut *self)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = Unread;

    fn unit_variant(self) -> Result<(), Unread> {
        Err(Unread)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Unread> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unread> {
        de::Deserializer::deserialize_any(self, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Unread> {
        de::Deserializer::deserialize_any(self, visitor)
    }
}

#[cfg(test)]
mod tests {
    use ciborium::Value;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::super::{Event, Stamp};
    use super::Reader;
    use crate::action::Fact;
    use crate::bodies::{Chunk, Part, Request, SessionClosed};
    use crate::id::{RunId, SessionId, Ulid};
    use crate::session::{Outcome, Side};

    fn read(bytes: &[u8]) -> Option<Event> {
        let mut reader = Reader::new(bytes);
        let event = Event::deserialize(&mut reader).ok()?;
        reader.is_at_end().then_some(event)
    }

    fn both(event: Event) {
        let id = Ulid::from_bytes([7; 16]);
        let event = event.in_session(RunId(id), SessionId(id)).in_exchange(70_000);
        let bytes = event.to_cbor().unwrap();
        assert_eq!(read(&bytes).as_ref(), Some(&event), "it is read here, and not only by the other");
        assert_eq!(ciborium::from_reader::<Event, _>(bytes.as_slice()).unwrap(), event);
    }

    #[test]
    fn what_is_written_is_read() {
        let at = Stamp { wall_ns: u64::MAX, mono_ns: 23 };
        let facts = [("host", Fact::Text("ä".repeat(300))), ("port", Fact::Int(-7)), ("sent", Fact::Bool(true))];
        let facts = facts.map(|(name, fact)| (name.to_owned(), fact)).into();
        let part = Part { name: "body".into(), media_type: "text/plain".into(), len: 5, coding: None, follows: true };
        both(Event::new(
            at,
            Request { verb: "GET".into(), facts, parts: vec![part], wire: Some(5), ..Request::default() },
        ));
        both(Event::new(at, Chunk { end: true, ..Chunk::new(Side::Server, 1 << 40) }));
        both(Event::new(
            at,
            SessionClosed {
                outcome: Outcome::UpstreamReset,
                bytes_up: 1,
                bytes_down: 2,
                duration_us: 3,
                first_byte_us: None,
                dialled_from: Some("[::1]:443".parse().unwrap()),
                error: Some("x".into()),
            },
        ));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::from),
                inner.prop_map(|value| Value::Tag(9, Box::new(value))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_both_read_they_read_alike(value in any_value(), at in 0usize..40, flip: u8) {
            let body = Value::Map(vec![(Value::from("kind"), Value::from("later")), (Value::from("body"), value)]);
            let head = [("v", 1), ("wall_ns", 5), ("mono_ns", 6)];
            let Value::Map(mut entries) = body else { unreachable!() };
            entries.extend(head.map(|(key, number)| (Value::from(key), Value::from(number))));
            let mut bytes = Vec::new();
            ciborium::into_writer(&Value::Map(entries), &mut bytes).unwrap();
            let len = bytes.len();
            bytes[at % len] ^= flip;
            if let Some(event) = read(&bytes) {
                let mut rest = bytes.as_slice();
                let other = ciborium::from_reader::<Event, _>(&mut rest);
                prop_assert_eq!(other.ok(), Some(event));
                prop_assert!(rest.is_empty());
            }
        }
    }
}
