//! The `ClientHello` of a TLS connection, as far as it can be read from the first bytes (RFC 8446 section 4.1.2).
//!
//! Owns names, application protocols and versions that a client offers: all of them claims. Never terminates
//! TLS, never answers, and never takes a name that is not a plain host name.

use std::net::IpAddr;

use crate::limits;
use crate::wire::cursor::Cursor;

/// What the first bytes of a client are, seen as TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hello {
    /// It may be a `ClientHello`; more bytes are needed to tell.
    NeedMore,
    /// It is one.
    Is(ClientHello),
    /// It is no TLS.
    NotTls,
    /// It begins like TLS and breaks the format.
    Malformed,
}

/// What a client offers. Nothing here is proven.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientHello {
    /// Host name asked for (RFC 6066 section 3): lower case, without the trailing dot. None where there was
    /// none, or where it is no host name (an IP literal, non-ASCII, empty labels); then see `sni_refused`.
    pub sni: Option<String>,
    /// A name was sent that is not taken as a claim.
    pub sni_refused: bool,
    /// Application protocols (RFC 7301) in the client's order, without GREASE; unprintable bytes escaped.
    pub alpn: Vec<String>,
    /// Versions offered (0x0304 is TLS 1.3), without GREASE.
    pub versions: Vec<u16>,
    /// Key exchange groups (RFC 8446 section 4.2.7) in the client's order, without GREASE.
    pub groups: Vec<u16>,
    /// The hello carries an `encrypted_client_hello` extension (RFC 9849): `sni` is then the outer, public
    /// name. Browsers also send a random one (GREASE), and the two cannot be told apart.
    pub ech: bool,
    /// The hello is larger than what is peeked at: it is TLS, and nothing else is known of it.
    pub too_large: bool,
}

/// Whether bytes are those of a TLS record that carries a handshake (RFC 8446 section 5.1), as far as they have come: who sends
/// its first byte alone, and waits, has begun nothing else.
#[must_use]
pub fn begins_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16] | [0x16, 3] | [0x16, 3, 0..=4, ..])
}

/// TLS 1.2 (RFC 5246).
pub const TLS_1_2: u16 = 0x0303;
/// TLS 1.3 (RFC 8446).
pub const TLS_1_3: u16 = 0x0304;

/// Why a TLS connection is passed on unopened, in words short enough for a `Note`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unopened {
    /// The client offers application protocols, and none that is spoken here is among them.
    Alpn,
    /// The client offers no version from TLS 1.2 on.
    Old,
    /// The hello is larger than what is peeked at, so that what it offers is not known.
    TooLarge,
    /// The target asks for a certificate that only the client could show.
    ClientCertificate,
    /// The program has rejected a leaf of ours for this name before.
    Rejected,
}

impl Unopened {
    /// The code of the note.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Alpn => "tls_alpn",
            Self::Old => "tls_old",
            Self::TooLarge => "tls_too_large",
            Self::ClientCertificate => "tls_client_certificate",
            Self::Rejected => "tls_rejected",
        }
    }
}

/// Application protocols that are spoken here inside of TLS; others pass unopened.
const SPOKEN: [&str; 2] = ["http/1.1", "postgresql"];

impl ClientHello {
    /// The application protocols of this hello that are spoken here, in its order.
    pub fn spoken(&self) -> impl Iterator<Item = &str> {
        self.alpn.iter().map(String::as_str).filter(|protocol| SPOKEN.contains(protocol))
    }

    /// What in this hello forbids to end the connection here; none where it may be tried. A hello with ECH may: the
    /// extension is mostly GREASE, and where it is not, the client sees an outer name that we prove, and retries.
    #[must_use]
    pub fn unopened(&self) -> Option<Unopened> {
        if self.too_large {
            Some(Unopened::TooLarge)
        } else if !self.alpn.is_empty() && self.spoken().next().is_none() {
            Some(Unopened::Alpn)
        } else if !self.versions.iter().any(|version| [TLS_1_2, TLS_1_3].contains(version)) {
            Some(Unopened::Old)
        } else {
            None
        }
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Largest plaintext of one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// Reads the `ClientHello` at the start of `bytes`, everything that the client has sent so far. It may be split
/// over records and packets at any byte. Once `bytes` holds [`limits::PEEK_BYTES_MAX`] the answer is final.
#[must_use]
pub fn client_hello(bytes: &[u8]) -> Hello {
    let bytes = bytes.get(..limits::PEEK_BYTES_MAX).unwrap_or(bytes);
    let message = match handshake_message(bytes) {
        Ok(message) => message,
        Err(Hello::NeedMore) if bytes.len() >= limits::PEEK_BYTES_MAX => return too_large(),
        Err(other) => return other,
    };
    match parse(&message) {
        Some(hello) => Hello::Is(hello),
        None => Hello::Malformed,
    }
}

fn too_large() -> Hello {
    Hello::Is(ClientHello { too_large: true, ..ClientHello::default() })
}

/// The body of the first handshake message, put together from its records.
fn handshake_message(bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut records = Cursor::new(bytes);
    let mut message = Vec::new();
    loop {
        let first = records.rest().len() == bytes.len();
        let fragment = record(&mut records, if first { Hello::NotTls } else { Hello::Malformed })?;
        message.extend_from_slice(fragment);
        let mut header = Cursor::new(&message);
        if header.u8().is_some_and(|kind| kind != CLIENT_HELLO) {
            return Err(Hello::Malformed);
        }
        let Some(len) = header.u24() else { continue };
        let len = len as usize;
        if len + 9 > limits::PEEK_BYTES_MAX {
            return Err(too_large());
        }
        if let Some(body) = header.take(len) {
            return Ok(body.to_vec());
        }
    }
}

/// The next record's fragment, possibly still incomplete; `NeedMore` once nothing is left.
fn record<'a>(records: &mut Cursor<'a>, otherwise: Hello) -> Result<&'a [u8], Hello> {
    let prefix_fits = records.rest().iter().zip([Some(HANDSHAKE), Some(3), None]).all(|(byte, expected)| {
        // The minor version is 1 to 4 in the field; the major one never changed since SSL 3.0.
        expected.map_or(*byte <= 4, |expected| *byte == expected)
    });
    if !prefix_fits {
        return Err(otherwise);
    }
    let mut ahead = *records;
    let (Some(_), Some(len)) = (ahead.array::<3>(), ahead.u16()) else { return Err(Hello::NeedMore) };
    let len = usize::from(len);
    if len == 0 || len > RECORD_BYTES_MAX {
        return Err(otherwise);
    }
    let available = len.min(ahead.rest().len());
    if available == 0 {
        return Err(Hello::NeedMore);
    }
    let fragment = ahead.take(available).unwrap_or_default();
    *records = ahead;
    Ok(fragment)
}

fn parse(message: &[u8]) -> Option<ClientHello> {
    let mut body = Cursor::new(message);
    let legacy_version = body.u16()?;
    body.take(32)?;
    let session_id = body.vec8()?;
    let suites = body.vec16()?;
    let compression = body.vec8()?;
    if session_id.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    let mut hello = ClientHello { versions: vec![legacy_version], ..ClientHello::default() };
    if body.is_empty() {
        return Some(hello);
    }
    let mut extensions = Cursor::new(body.vec16()?);
    if !body.is_empty() {
        return None;
    }
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vec16()?;
        match kind {
            SERVER_NAME => server_name(content, &mut hello)?,
            ALPN => hello.alpn = application_protocols(content)?,
            SUPPORTED_VERSIONS => hello.versions = numbers(Cursor::new(content).vec8()?, content.len() - 1)?,
            SUPPORTED_GROUPS => hello.groups = groups(content),
            ENCRYPTED_CLIENT_HELLO => hello.ech = true,
            _ => continue,
        }
        // RFC 8446 section 4.2: no extension twice. Only those are compared that could change the view.
        if seen.contains(&kind) {
            return None;
        }
        seen.push(kind);
    }
    Some(hello)
}

fn server_name(content: &[u8], hello: &mut ClientHello) -> Option<()> {
    const HOST_NAME: u8 = 0;
    let mut outer = Cursor::new(content);
    let mut list = Cursor::new(outer.vec16()?);
    if list.is_empty() || !outer.is_empty() {
        return None;
    }
    let mut named = false;
    while !list.is_empty() {
        let kind = list.u8()?;
        let name = list.vec16()?;
        if kind == HOST_NAME {
            if named {
                return None;
            }
            named = true;
            hello.sni = host_name(name);
            hello.sni_refused = hello.sni.is_none();
        }
    }
    Some(())
}

fn application_protocols(content: &[u8]) -> Option<Vec<String>> {
    let mut outer = Cursor::new(content);
    let mut list = Cursor::new(outer.vec16()?);
    if list.is_empty() || !outer.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        match list.vec8()? {
            [] => return None,
            [a, b] if is_grease(u16::from_be_bytes([*a, *b])) => {}
            name => protocols.push(name.escape_ascii().to_string()),
        }
    }
    Some(protocols)
}

/// The groups; none where the list is broken, since nothing is decided by them that a broken list could turn.
fn groups(content: &[u8]) -> Vec<u16> {
    let list = Cursor::new(content).vec16().unwrap_or_default();
    numbers(list, content.len().saturating_sub(2)).unwrap_or_default()
}

/// A list of 16-bit numbers without GREASE, which must be all of the `len` bytes that its extension has for it.
fn numbers(list: &[u8], len: usize) -> Option<Vec<u16>> {
    if list.is_empty() || list.len() != len || !list.len().is_multiple_of(2) {
        return None;
    }
    let numbers = list.as_chunks().0.iter().map(|number| u16::from_be_bytes(*number));
    Some(numbers.filter(|number| !is_grease(*number)).collect())
}

/// Values that clients send so that nobody gets used to their absence (RFC 8701).
const fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// `name` as a host name: ASCII letters, digits, `-` and `_` in labels of 1 to 63, 253 in all, lower case, without the
/// trailing dot. None for anything else: IP literals, and names whose last label is a number (resolvers read
/// `127.1` as an address).
#[must_use]
pub fn host_name(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > 253 || text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    if !text.split('.').all(label_fits)
        || last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// Fuzz entry: the answer for a prefix may only turn from `NeedMore` into something, and then stays.
///
/// # Panics
/// Where that does not hold; the fuzzer and the tests look for it.
pub fn fuzz_client_hello(data: &[u8]) {
    let whole = client_hello(data);
    let half = client_hello(data.get(..data.len() / 2).unwrap_or_default());
    assert!(half == Hello::NeedMore || half == whole, "{half:?} became {whole:?}");
}

#[cfg(test)]
mod tests;
