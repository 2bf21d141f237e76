//! Names of runs and sessions: ULIDs, so that they sort by time and any unique prefix is enough to type.
//!
//! Never says anything about what is named; equality and order are all that an id has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use ulid::Ulid;

/// A text that is not a ULID.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an id: 26 characters of Crockford base 32 are expected")]
pub struct NotAnId(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub Ulid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.array_to_str(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                Ulid::from_string(text).map(Self).map_err(|_| NotAnId(text.into()))
            }
        }

        /// Text towards people (JSON), 16 bytes in the journal (CBOR).
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    to.collect_str(self)
                } else {
                    to.serialize_bytes(&self.0.to_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                if from.is_human_readable() {
                    String::deserialize(from)?.parse().map_err(D::Error::custom)
                } else {
                    let bytes = serde_bytes::ByteArray::<16>::deserialize(from)?;
                    Ok(Self(Ulid::from_bytes(*bytes)))
                }
            }
        }
    };
}

id! {
    /// One captured program invocation.
    RunId
}
id! {
    /// One intercepted connection.
    SessionId
}
