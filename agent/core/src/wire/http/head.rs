//! Views of request and response heads (RFC 9112 sections 3 to 5), without a copy.
//!
//! Owns start lines and what a head says of its own message. Never reads a body, never changes a byte, and takes no
//! head that two peers could read differently.

use std::fmt;

use super::fault::Fault;
use super::fields::{Fields, is_text, token};
use super::target::{self, Target};

/// The protocol version; there are two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

impl Version {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        match bytes {
            b"HTTP/1.1" => Ok(Self::Http11),
            b"HTTP/1.0" => Ok(Self::Http10),
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                Err(Fault::Version)
            }
            _ => Err(Fault::StartLine),
        }
    }
}

/// What the fields say about the length of the message's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// Nothing.
    Unsaid,
    /// So many bytes.
    Bytes(u64),
    /// Chunks that carry their own lengths.
    Chunked,
}

/// The head of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// The method, case as sent: methods are case-sensitive.
    pub method: &'a str,
    /// The request target as sent; no blanks and control characters, perhaps bytes above 0x7f.
    pub target: &'a [u8],
    /// The client's version.
    pub version: Version,
    /// The fields in their order.
    pub fields: Fields<'a>,
    /// The length of the content that follows; `Unsaid` is none.
    pub length: Length,
}

/// The head of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHead<'a> {
    /// The server's version.
    pub version: Version,
    /// The status, 100 to 999.
    pub status: u16,
    /// The reason phrase as sent, often empty.
    pub reason: &'a [u8],
    /// The fields in their order.
    pub fields: Fields<'a>,
    /// What the fields say of the content; whether there is any depends on the request's method and the status.
    pub length: Length,
}

impl<'a> RequestHead<'a> {
    /// Reads a whole head, from the request line to the empty line.
    ///
    /// # Errors
    /// For everything that RFC 9112 does not allow, or that peers are known to read differently.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (line, lines) = split(bytes)?;
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Fault::StartLine);
        };
        let method = token(method).ok_or(Fault::StartLine)?;
        let version = Version::parse(version)?;
        let form = Target::parse(method, target).ok_or(Fault::Target)?;
        let fields = Fields::parse(lines)?;
        let length = length(&fields, version)?;
        check_host(&fields, version, &form)?;
        check_connection(&fields)?;
        Ok(Self { method, target, version, fields, length })
    }

    /// The target's form.
    #[must_use]
    pub fn form(&self) -> Option<Target<'a>> {
        Target::parse(self.method, self.target)
    }

    /// The host that the request is for, with its port where one was sent: of the target, else of `Host`. A claim.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let host = match self.form() {
            Some(Target::Absolute { authority, .. }) => target::without_user(authority),
            Some(Target::Authority(authority)) => authority,
            _ => self.fields.get("host")?,
        };
        (!host.is_empty()).then(|| String::from_utf8_lossy(host).into_owned())
    }

    /// The whole URL (RFC 9112 section 3.3), with `default_host` where the request names no host.
    #[must_use]
    pub fn url(&self, scheme: &str, default_host: &str) -> String {
        let host = self.host().unwrap_or_else(|| default_host.to_owned());
        match self.form() {
            Some(Target::Origin) => format!("{scheme}://{host}{}", String::from_utf8_lossy(self.target)),
            Some(Target::Asterisk) => format!("{scheme}://{host}"),
            _ => String::from_utf8_lossy(self.target).into_owned(),
        }
    }

    /// The target's path, as sent: from its first `/` to the `?`; none where the target has no path.
    #[must_use]
    pub fn path(&self) -> Option<&'a [u8]> {
        self.split_query().map(|(path, _)| path)
    }

    /// What stands behind the target's `?`, as sent.
    #[must_use]
    pub fn query(&self) -> Option<&'a [u8]> {
        self.split_query()?.1
    }

    fn split_query(&self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let rest = match self.form()? {
            Target::Origin => self.target,
            Target::Absolute { rest, .. } => rest,
            Target::Authority(_) | Target::Asterisk => return None,
        };
        Some(match rest.iter().position(|byte| *byte == b'?') {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        })
    }

    /// Whether the client waits for 100 before it sends the content (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11 && self.fields.has_member("expect", "100-continue")
    }

    /// Whether the client asks for another protocol (RFC 9110 section 7.8). `Connection: upgrade` is not asked for:
    /// there are servers that do not ask either.
    #[must_use]
    pub fn asks_upgrade(&self) -> bool {
        self.fields.get("upgrade").is_some()
    }

    /// Whether another message may follow (RFC 9112 section 9.3).
    #[must_use]
    pub fn persists(&self) -> bool {
        persists(&self.fields, self.version)
    }
}

impl<'a> ResponseHead<'a> {
    /// Reads a whole head, from the status line to the empty line.
    ///
    /// # Errors
    /// For everything that RFC 9112 does not allow, or that peers are known to read differently.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (line, lines) = split(bytes)?;
        let (version, rest) = line.split_at_checked(8).ok_or(Fault::StartLine)?;
        let version = Version::parse(version)?;
        let (code, reason) = match rest {
            // The blank behind the status is there even without a reason, says the RFC; many servers leave it out.
            [b' ', a, b, c] => ([*a, *b, *c], &[][..]),
            [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
            _ => return Err(Fault::StartLine),
        };
        if !code.iter().all(u8::is_ascii_digit) || code.starts_with(b"0") {
            return Err(Fault::StartLine);
        }
        if !reason.iter().all(|byte| is_text(*byte)) {
            return Err(Fault::Control);
        }
        let status = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        let fields = Fields::parse(lines)?;
        let length = length(&fields, version)?;
        if length == Length::Chunked && (status < 200 || status == 204) {
            return Err(Fault::UnexpectedTransferEncoding);
        }
        Ok(Self { version, status, reason, fields, length })
    }

    /// Whether it only announces another response (RFC 9110 section 15.2). 101 is the last one of HTTP.
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether another message may follow (RFC 9112 section 9.3).
    #[must_use]
    pub fn persists(&self) -> bool {
        persists(&self.fields, self.version)
    }
}

/// Without the target and the values, which may hold credentials that must not reach a log.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target: _, version, fields, length } = self;
        write!(f, "{method} … {} {fields:?} {length:?}", version.as_str())
    }
}

/// The start line without its CRLF, and the field lines without the empty one.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let head = bytes.strip_suffix(b"\r\n").ok_or(Fault::Field)?;
    let end = head.iter().position(|byte| *byte == b'\n').ok_or(Fault::StartLine)?;
    let (line, lines) = head.split_at(end + 1);
    Ok((line.strip_suffix(b"\r\n").ok_or(Fault::BareLf)?, lines))
}

/// RFC 9112 section 6.3, without its leniency: what is forwarded untouched must be said once.
fn length(fields: &Fields<'_>, version: Version) -> Result<Length, Fault> {
    let mut lengths = fields.all("content-length");
    let mut codings = fields.all("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Length::Unsaid),
        (Some(_), Some(_)) => Err(Fault::ConflictingLength),
        (Some(value), None) => {
            if lengths.next().is_some() || value.contains(&b',') {
                return Err(Fault::ConflictingLength);
            }
            content_length(value).map(Length::Bytes).ok_or(Fault::ContentLength)
        }
        (None, Some(_)) if version == Version::Http10 => Err(Fault::UnexpectedTransferEncoding),
        (None, Some(value)) if value.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() => {
            Ok(Length::Chunked)
        }
        (None, Some(_)) => Err(Fault::TransferEncoding),
    }
}

/// Digits only, and not more than a signed integer holds: parsers with one would read another length.
fn content_length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
    u64::try_from(number).ok()
}

fn check_host(fields: &Fields<'_>, version: Version, form: &Target<'_>) -> Result<(), Fault> {
    let mut hosts = fields.all("host");
    let host = match (hosts.next(), hosts.next()) {
        (None, None) if version == Version::Http10 => return Ok(()),
        (_, Some(_)) | (None, None) => return Err(Fault::Host),
        (Some(host), None) => host,
    };
    if !target::is_host(host) {
        return Err(Fault::Host);
    }
    match form {
        Target::Absolute { scheme, authority, .. } if !target::same_host(scheme, authority, host) => {
            Err(Fault::HostMismatch)
        }
        _ => Ok(()),
    }
}

/// A proxy on the way would take these out, and the target would read another message than we did.
fn check_connection(fields: &Fields<'_>) -> Result<(), Fault> {
    let framing = ["content-length", "transfer-encoding", "host"];
    if framing.into_iter().any(|name| fields.has_member("connection", name)) {
        return Err(Fault::ConnectionOption);
    }
    Ok(())
}

fn persists(fields: &Fields<'_>, version: Version) -> bool {
    !fields.has_member("connection", "close")
        && (version == Version::Http11 || fields.has_member("connection", "keep-alive"))
}
