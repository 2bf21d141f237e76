//! What one side of a connection says in clear: its version (RFC 4253 section 4.2) and what it offers for the exchange of keys
//! (section 7.1).
//!
//! Owns the reading of it from a stream in pieces. Never holds more than [`SSH_OFFER_BYTES_MAX`].

use crate::limits::SSH_OFFER_BYTES_MAX;

/// `SSH_MSG_KEXINIT`.
const KEXINIT: u8 = 20;

/// Bytes of the cookie that follows it.
const COOKIE_BYTES: usize = 16;

/// What a side offers, most preferred first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Its version without the end of the line: `SSH-2.0-OpenSSH_9.2p1`.
    pub version: String,
    /// Key exchange algorithms.
    pub kex: Vec<String>,
    /// Host key algorithms.
    pub host_keys: Vec<String>,
    /// Ciphers towards the server.
    pub ciphers: Vec<String>,
}

/// What two sides agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The key exchange.
    pub kex: String,
    /// The host key algorithm.
    pub host_key: String,
    /// The cipher towards the server.
    pub cipher: String,
}

/// Reads an offer from the beginning of a stream.
#[derive(Debug, Default)]
pub struct Reading {
    bytes: Vec<u8>,
    offer: Option<Offer>,
    is_over: bool,
}

impl Reading {
    /// Takes what came next; nothing more is needed once there is an offer, or there will be none.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        let room = SSH_OFFER_BYTES_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        match read(&self.bytes) {
            Read::More if self.bytes.len() < SSH_OFFER_BYTES_MAX => return,
            Read::Is(offer) => self.offer = Some(offer),
            Read::More | Read::Wrong => {}
        }
        self.is_over = true;
        self.bytes = Vec::new();
    }

    /// Whether nothing more is needed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What was offered; none where it has not come, or could not be read.
    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }
}

impl Offer {
    /// What this client and that server agree on: the client's first of what the server has (RFC 4253 section 7.1).
    #[must_use]
    pub fn agree(&self, server: &Self) -> Option<Agreed> {
        let first = |client: &[String], server: &[String]| client.iter().find(|name| server.contains(name)).cloned();
        Some(Agreed {
            kex: first(&self.kex, &server.kex)?,
            host_key: first(&self.host_keys, &server.host_keys)?,
            cipher: first(&self.ciphers, &server.ciphers)?,
        })
    }
}

/// Whether a key exchange holds against a quantum computer: what is recorded by others today stays closed.
#[must_use]
pub fn is_post_quantum(kex: &str) -> bool {
    kex.starts_with("mlkem") || kex.starts_with("sntrup") || kex.contains("-mlkem")
}

enum Read {
    More,
    Wrong,
    Is(Offer),
}

/// Lines until the version, then the first packet: `uint32 length, byte padding, payload` (RFC 4253 sections 4.2 and 6).
fn read(bytes: &[u8]) -> Read {
    let mut rest = bytes;
    let version = loop {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Read::More };
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        if line.starts_with(b"SSH-") {
            break String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        }
    };
    let Some((len, rest)) = rest.split_first_chunk::<4>() else { return Read::More };
    let len = u32::from_be_bytes(*len) as usize;
    if len > SSH_OFFER_BYTES_MAX {
        return Read::Wrong;
    }
    let Some(packet) = rest.get(..len) else { return Read::More };
    match names(packet) {
        Some([kex, host_keys, ciphers]) => Read::Is(Offer { version, kex, host_keys, ciphers }),
        None => Read::Wrong,
    }
}

/// The first three lists of names of a packet.
fn names(packet: &[u8]) -> Option<[Vec<String>; 3]> {
    let payload = packet.get(1..)?;
    if *payload.first()? != KEXINIT {
        return None;
    }
    let mut rest = payload.get(1 + COOKIE_BYTES..)?;
    let mut next = || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (list, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        rest = after;
        let list = std::str::from_utf8(list).ok()?;
        Some(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello(version: &str, lists: [&str; 3]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend([7; COOKIE_BYTES]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        let mut bytes = version.as_bytes().to_vec();
        bytes.extend((u32::try_from(payload.len()).unwrap() + 1 + 4).to_be_bytes());
        bytes.push(4);
        bytes.extend(payload);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn lines_before_the_version_are_passed_over_and_agreement_is_the_clients_first() {
        let mut client = Reading::default();
        client.feed(&hello("SSH-2.0-OpenSSH_9.2p1\r\n", ["sntrup761x25519,curve25519", "ed25519", "aes128,chacha20"]));
        let mut server = Reading::default();
        server
            .feed(&hello("be welcome\r\nSSH-2.0-x\r\n", ["curve25519,sntrup761x25519", "ed25519", "chacha20,aes128"]));
        let (client, server) = (client.offer().unwrap(), server.offer().unwrap());
        assert_eq!((client.version.as_str(), server.version.as_str()), ("SSH-2.0-OpenSSH_9.2p1", "SSH-2.0-x"));
        let agreed = client.agree(server).unwrap();
        assert_eq!((agreed.kex.as_str(), agreed.cipher.as_str()), ("sntrup761x25519", "aes128"));
        assert!(is_post_quantum(&agreed.kex) && !is_post_quantum("curve25519-sha256"));
    }

    #[test]
    fn what_is_no_offer_ends_the_reading() {
        for bytes in [
            &b"SSH-2.0-x\r\n\xff\xff\xff\xff"[..],
            b"SSH-2.0-x\r\n\0\0\0\x02\x00\x01",
            &vec![b'x'; SSH_OFFER_BYTES_MAX],
        ] {
            let mut reading = Reading::default();
            reading.feed(bytes);
            assert!(reading.is_over() && reading.offer().is_none());
        }
    }

    proptest! {
        #[test]
        fn a_cut_changes_nothing(at in 0usize..120) {
            let bytes = hello("SSH-2.0-x\r\n", ["a,b", "c", "d"]);
            let (one, other) = bytes.split_at(at.min(bytes.len()));
            let mut reading = Reading::default();
            reading.feed(one);
            reading.feed(other);
            prop_assert_eq!(&reading.offer().unwrap().kex, &["a", "b"]);
        }

        #[test]
        fn nothing_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reading = Reading::default();
            reading.feed(b"SSH-2.0-x\n");
            reading.feed(&bytes);
        }
    }
}
