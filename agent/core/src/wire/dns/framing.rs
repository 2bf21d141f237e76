//! DNS over TCP: messages behind a length of two bytes (RFC 1035 section 4.2.2).
//!
//! Owns cutting one direction of a stream into messages while its bytes pass untouched. Keeps at most one message,
//! 65,535 bytes, and reserves no room before its bytes have come.

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct Framing {
    /// The length's first byte, if only that has come.
    high: Option<u8>,
    /// Bytes of the present message that are still to come; none between two messages.
    left: Option<u16>,
    message: Vec<u8>,
}

impl Framing {
    /// Looks at the stream's next bytes, however they are cut, and hands every complete message to `on_message`. An
    /// empty message (length 0) is handed over too, and does not parse.
    pub fn feed(&mut self, bytes: &[u8], mut on_message: impl FnMut(&[u8])) {
        let mut rest = bytes;
        loop {
            let left = match (self.left, self.high) {
                (Some(left), _) => left,
                (None, high) => {
                    let Some((byte, tail)) = rest.split_first() else { return };
                    rest = tail;
                    let Some(high) = high else {
                        self.high = Some(*byte);
                        continue;
                    };
                    self.high = None;
                    u16::from_be_bytes([high, *byte])
                }
            };
            let (now, later) = rest.split_at(rest.len().min(usize::from(left)));
            self.message.extend_from_slice(now);
            rest = later;
            let left = left - u16::try_from(now.len()).unwrap_or(left);
            if left > 0 {
                self.left = Some(left);
                return;
            }
            self.left = None;
            on_message(&self.message);
            self.message.clear();
        }
    }

    /// Whether the stream has stopped inside a message.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.high.is_some() || self.left.is_some()
    }
}
