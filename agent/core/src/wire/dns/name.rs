//! Domain names on the wire (RFC 1035 sections 3.1 and 4.1.4).
//!
//! Owns decompression and the text form. A pointer must lead to before the name that it stands in, so that every jump
//! goes back and the reading ends.

use super::DnsError;
use crate::wire::cursor::Cursor;

/// Longest name on the wire, its length bytes included.
const NAME_BYTES_MAX: usize = 255;

/// A name without compression: labels behind their lengths, without the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    wire: Vec<u8>,
}

impl Name {
    /// Lower case, without the trailing dot; dots and backslashes inside a label escaped, and every byte that is not
    /// printable ASCII, as `\DDD` (RFC 1035 section 5.1).
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut labels = Cursor::new(&self.wire);
        while let Some(label) = labels.vec8() {
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' => text.extend(['\\', char::from(*byte)]),
                    b'!'..=b'~' => text.push(char::from(byte.to_ascii_lowercase())),
                    _ => text.extend(["\\", format!("{byte:03}").as_str()]),
                }
            }
        }
        text
    }
}

/// Reads the name at the cursor, which reads from `message`, and leaves the cursor behind it.
pub(super) fn read_name<'a>(message: &'a [u8], fields: &mut Cursor<'a>) -> Result<Name, DnsError> {
    let mut wire = Vec::new();
    let mut limit = message.len() - fields.rest().len().min(message.len());
    let mut jumped: Option<Cursor<'a>> = None;
    loop {
        let reader = jumped.as_mut().unwrap_or(&mut *fields);
        let length = reader.u8().ok_or(DnsError::Truncated)?;
        match length {
            0 => return Ok(Name { wire }),
            1..=63 => {
                let label = reader.take(usize::from(length)).ok_or(DnsError::Truncated)?;
                wire.push(length);
                wire.extend_from_slice(label);
                // The root's byte counts too.
                if wire.len() + 1 > NAME_BYTES_MAX {
                    return Err(DnsError::Name);
                }
            }
            0xc0.. => {
                let low = reader.u8().ok_or(DnsError::Truncated)?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                if target >= limit {
                    return Err(DnsError::Name);
                }
                limit = target;
                jumped = Some(Cursor::new(message.get(target..).unwrap_or_default()));
            }
            _ => return Err(DnsError::Name),
        }
    }
}
