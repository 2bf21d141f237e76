//! The few keys of a JSON body that are judged, read so that no other reader finds something else in them.
//!
//! Never takes a key twice, in whatever case: which one counts differs from reader to reader (RFC 8259 section 4, and Go's
//! reader takes `Model` for `model`).

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Values of one body that are looked at; tools with large schemas have some thousand.
const VALUES_MAX: usize = 256 * 1024;

/// A value, as far as it is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Tree {
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    Other,
}

impl Tree {
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// What is judged of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) model: Option<Tree>,
    pub(super) tools: Option<Tree>,
    pub(super) functions: Option<Tree>,
    pub(super) tool_config: Option<Tree>,
}

impl Body {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Top)
    }
}

struct Top;

impl<'de> Visitor<'de> for Top {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut body = Body::default();
        let mut left = VALUES_MAX;
        while let Some(key) = map.next_key::<String>()? {
            let Some(place) = body.place(&key).map_err(A::Error::custom)? else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value_seed(Value(&mut left))?;
            if place.replace(value).is_some() {
                return Err(A::Error::custom("a key twice"));
            }
        }
        Ok(body)
    }
}

impl Body {
    /// Where a key's value goes; none where it is not looked at.
    fn place(&mut self, key: &str) -> Result<Option<&mut Option<Tree>>, &'static str> {
        let known = match key {
            "model" => &mut self.model,
            "modelId" if self.model.is_none() => &mut self.model,
            "tools" => &mut self.tools,
            "functions" => &mut self.functions,
            "toolConfig" | "tool_config" => &mut self.tool_config,
            // Another reader may take it for one of them.
            key if !key.is_ascii() => return Err("a key beyond ASCII"),
            key if ["model", "tools", "functions", "toolconfig"].contains(&key.to_ascii_lowercase().as_str()) => {
                return Err("a key in another case");
            }
            _ => return Ok(None),
        };
        Ok(Some(known))
    }
}

/// Reads a whole value; takes from what is left to be looked at.
struct Value<'l>(&'l mut usize);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        *self.0 = self.0.checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(Value(self.0))? {
            list.push(value);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields: Vec<(String, Tree)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.to_lowercase()) {
                return Err(A::Error::custom("a key twice"));
            }
            let value = map.next_value_seed(Value(self.0))?;
            fields.push((key, value));
        }
        Ok(Tree::Map(fields))
    }
}
