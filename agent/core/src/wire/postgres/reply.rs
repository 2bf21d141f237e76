//! Messages of our own: what the agent says to a client in a server's place, and to a server in a client's.
//!
//! Owns building them. Never sends one. A NUL in a text becomes `?`, because it would end the text.

use super::startup;
use crate::secret::Secret;

/// Text of a statement that no server can read. It is sent in the place of a refused one, and the server's own log shows it.
pub const REFUSED_SQL: &str = "refused by crewtap";

/// Name of the statement that a refused Parse would make. The unnamed statement would end by its own name.
pub const REFUSED_NAME: &str = "crewtap_refused";

/// An error or a notice of our own.
#[derive(Clone, Copy, Debug)]
pub struct Complaint<'t> {
    /// `ERROR`, `FATAL`, `NOTICE` or `WARNING`.
    pub severity: &'t str,
    /// SQLSTATE.
    pub code: &'t str,
    /// What happened, in one line.
    pub message: &'t str,
    /// More of it; left out when empty.
    pub detail: &'t str,
    /// What to do; left out when empty.
    pub hint: &'t str,
}

impl Complaint<'_> {
    /// `ErrorResponse`.
    #[must_use]
    pub fn error(&self) -> Vec<u8> {
        self.message(b'E')
    }

    /// `NoticeResponse`.
    #[must_use]
    pub fn notice(&self) -> Vec<u8> {
        self.message(b'N')
    }

    fn message(&self, tag: u8) -> Vec<u8> {
        let Self { severity, code, message, detail, hint } = *self;
        let fields = [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message), (b'D', detail), (b'H', hint)];
        frame(tag, |body| {
            for (kind, value) in fields.into_iter().filter(|(kind, value)| *kind == b'M' || !value.is_empty()) {
                body.push(kind);
                text(body, value.as_bytes());
            }
            body.push(0);
        })
    }
}

/// A message of this type with the body that `write` appends.
#[must_use]
pub fn frame(tag: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = vec![tag, 0, 0, 0, 0];
    write(&mut message);
    let len = u32::try_from(message.len() - 1).unwrap_or(u32::MAX);
    if let Some(place) = message.get_mut(1..5) {
        place.copy_from_slice(&len.to_be_bytes());
    }
    message
}

fn text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend(text.iter().map(|byte| if *byte == 0 { b'?' } else { *byte }));
    body.push(0);
}

/// `AuthenticationOk`.
#[must_use]
pub fn authentication_ok() -> Vec<u8> {
    frame(b'R', |body| body.extend_from_slice(&0_u32.to_be_bytes()))
}

/// `AuthenticationCleartextPassword`.
#[must_use]
pub fn authentication_cleartext_password() -> Vec<u8> {
    frame(b'R', |body| body.extend_from_slice(&3_u32.to_be_bytes()))
}

/// `ParameterStatus`.
#[must_use]
pub fn parameter_status(name: &[u8], value: &[u8]) -> Vec<u8> {
    frame(b'S', |body| {
        text(body, name);
        text(body, value);
    })
}

/// `BackendKeyData`; a key has 4 bytes in protocol 3.0, and up to 256 in 3.2.
#[must_use]
pub fn backend_key(process: u32, key: &[u8]) -> Vec<u8> {
    frame(b'K', |body| {
        body.extend_from_slice(&process.to_be_bytes());
        body.extend_from_slice(key);
    })
}

/// `NegotiateProtocolVersion`: the newest version that is taken, and the options that are not known.
#[must_use]
pub fn negotiate_version<'o>(version: u32, options: impl Iterator<Item = &'o [u8]>) -> Vec<u8> {
    frame(b'v', |body| {
        body.extend_from_slice(&version.to_be_bytes());
        let mut texts = Vec::new();
        let count = options.fold(0_u32, |count, option| {
            text(&mut texts, option);
            count + 1
        });
        body.extend_from_slice(&count.to_be_bytes());
        body.extend_from_slice(&texts);
    })
}

/// `PasswordMessage`: the password in clear, or its MD5 form. The answer is secret, too.
#[must_use]
pub fn password(password: &[u8]) -> Secret {
    secret(&[password, &[0]])
}

/// `SASLInitialResponse`.
#[must_use]
pub fn sasl_initial(mechanism: &str, response: &[u8]) -> Secret {
    let len = u32::try_from(response.len()).unwrap_or(u32::MAX).to_be_bytes();
    secret(&[mechanism.as_bytes(), &[0], &len, response])
}

/// `SASLResponse`.
#[must_use]
pub fn sasl_response(response: &[u8]) -> Secret {
    secret(&[response])
}

/// A `p`, built in one place: a buffer that grows would leave copies behind.
fn secret(parts: &[&[u8]]) -> Secret {
    let len = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut message = Vec::with_capacity(len + 1);
    message.push(b'p');
    message.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        message.extend_from_slice(part);
    }
    Secret::new(message)
}

/// `Query`.
#[must_use]
pub fn query(sql: &[u8]) -> Vec<u8> {
    frame(b'Q', |body| text(body, sql))
}

/// What is sent in the place of a refused Query or function call.
#[must_use]
pub fn refused_query() -> Vec<u8> {
    query(REFUSED_SQL.as_bytes())
}

/// What is sent in the place of a refused Parse or Bind.
#[must_use]
pub fn refused_parse() -> Vec<u8> {
    frame(b'P', |body| {
        text(body, REFUSED_NAME.as_bytes());
        text(body, REFUSED_SQL.as_bytes());
        body.extend_from_slice(&[0, 0]);
    })
}

/// `Sync`.
#[must_use]
pub fn sync() -> Vec<u8> {
    frame(b'S', |_| {})
}

/// `Terminate`.
#[must_use]
pub fn terminate() -> Vec<u8> {
    frame(b'X', |_| {})
}

/// `CancelRequest`, on a connection of its own.
#[must_use]
pub fn cancel_request(process: u32, key: &[u8]) -> Vec<u8> {
    startup::cancel(process, key)
}
