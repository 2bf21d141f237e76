//! The four forms of a request target (RFC 9112 section 3.2).
//!
//! Owns their shapes and the comparison of hosts. Never normalises a path: that is policy's.

use crate::wire::tls::host_name;

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A path on the connection's host.
    Origin,
    /// A whole URL: to a forward proxy, or to any server.
    Absolute {
        /// `http`, `https`, or another.
        scheme: &'a [u8],
        /// Host and port, perhaps with a user's name and password.
        authority: &'a [u8],
        /// Path and query.
        rest: &'a [u8],
    },
    /// Host and port of a tunnel.
    Authority(&'a [u8]),
    /// The server as a whole.
    Asterisk,
}

impl<'a> Target<'a> {
    /// The form that `target` has for `method`; none where it has none, or holds blanks or control characters.
    #[must_use]
    pub fn parse(method: &str, target: &'a [u8]) -> Option<Self> {
        // Bytes above 0x7f are not allowed either, but clients send them, and no peer reads another message from them.
        if !target.iter().all(|byte| matches!(byte, b'!'..=b'~' | 0x80..)) {
            return None;
        }
        if method == "CONNECT" {
            return (is_host(target) && port(target).is_some_and(|port| !port.is_empty()))
                .then_some(Self::Authority(target));
        }
        match target {
            [b'/', ..] => Some(Self::Origin),
            b"*" => (method == "OPTIONS").then_some(Self::Asterisk),
            _ => absolute(target),
        }
    }
}

fn absolute(target: &[u8]) -> Option<Target<'_>> {
    let colon = target.windows(3).position(|window| window == b"://")?;
    let (scheme, rest) = (target.get(..colon)?, target.get(colon + 3..)?);
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let fits = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(letters)
        && !without_user(authority).is_empty()
        && is_host(without_user(authority));
    fits.then_some(Target::Absolute { scheme, authority, rest })
}

/// The authority without a user's name and password (RFC 3986 section 3.2.1).
#[must_use]
pub fn without_user(authority: &[u8]) -> &[u8] {
    let at = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    authority.get(at..).unwrap_or_default()
}

/// Whether `host` may be the value of `Host`: a name or an address, perhaps with a port; or nothing.
#[must_use]
pub fn is_host(host: &[u8]) -> bool {
    let (name, port) = split_port(host);
    if !port.is_none_or(|port| port.iter().all(u8::is_ascii_digit) && port.len() <= 5) {
        return false;
    }
    match name {
        [b'[', address @ .., b']'] => {
            address.contains(&b':')
                && address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        [] => port.is_none(),
        // Wider than a host name, and narrower than RFC 3986: what stands in names that people use.
        name => name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')),
    }
}

/// Whether an absolute target's authority and a `Host` are the same, with the scheme's own port left in or out.
#[must_use]
pub fn same_host(scheme: &[u8], authority: &[u8], host: &[u8]) -> bool {
    let usual: &[u8] = match scheme.to_ascii_lowercase().as_slice() {
        b"http" | b"ws" => b"80",
        b"https" | b"wss" => b"443",
        _ => b"",
    };
    let whole = |text| {
        let (name, port) = split_port(text);
        (name.to_ascii_lowercase(), port.filter(|port| !port.is_empty()).unwrap_or(usual).to_vec())
    };
    whole(without_user(authority)) == whole(host)
}

/// The host of an authority without its port and brackets, in lower case; none where it is no name and no address.
#[must_use]
pub fn name_of(host: &[u8]) -> Option<String> {
    let (name, _) = split_port(without_user(host));
    let bare = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
    let text = std::str::from_utf8(bare).ok()?;
    host_name(bare).or_else(|| text.parse::<std::net::IpAddr>().ok().map(|address| address.to_string()))
}

fn port(host: &[u8]) -> Option<&[u8]> {
    split_port(host).1
}

/// The name, and what stands behind the last `:` outside of brackets.
fn split_port(host: &[u8]) -> (&[u8], Option<&[u8]>) {
    match host.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if host.get(at) == Some(&b':') => (host.get(..at).unwrap_or_default(), host.get(at + 1..)),
        _ => (host, None),
    }
}
