//! What crewtap puts into requests in the place of what their client sends.
//!
//! Owns the rewriting of a head, which changes nothing else in it. Never records what it makes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crewtap_core::policy::catalog::Form;
use crewtap_core::secret::Secret;
use zeroize::Zeroizing;

use super::scrub::Scrub;
use crate::lease::LeasedInjection;

/// Asked for in the place of codings, so that a secret which comes back can be seen.
const IDENTITY: &[u8] = b"identity";

/// Everything that goes into the requests of one session.
pub(super) struct Injections {
    parts: Vec<Part>,
    pub(super) scrub: Scrub,
}

/// One secret, as it goes into a request.
struct Part {
    form: Form,
    value: Secret,
}

impl Injections {
    /// What was leased, in the form in which it is sent; none where nothing was.
    ///
    /// # Errors
    /// Where a secret cannot stand in a head: it would be more than one line of it.
    pub(super) fn new(leased: Vec<LeasedInjection>) -> Result<Option<Self>, &'static str> {
        let mut parts = Vec::new();
        let mut secrets = Vec::new();
        for LeasedInjection { form, secret } in leased {
            let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | 0x80..);
            let bytes = secret.expose();
            if !bytes.iter().all(is_text) || bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ') {
                return Err(
                    "a secret has control characters, or blanks around it, and cannot stand in an HTTP request",
                );
            }
            let value = value_of(&form, bytes);
            secrets.push(Secret::new(bytes.to_vec()));
            secrets.push(Secret::new(value.expose().to_vec()));
            if let Form::Basic { .. } = form {
                secrets.push(Secret::new(value.expose().strip_prefix(b"Basic ").unwrap_or_default().to_vec()));
            }
            parts.push(Part { form, value });
        }
        Ok((!parts.is_empty()).then(|| Self { parts, scrub: Scrub::new(&secrets) }))
    }

    /// A request's head, from its request line to its empty line, as it goes to the target.
    pub(super) fn rewrite(&self, head: &[u8]) -> Zeroizing<Vec<u8>> {
        let room = self.parts.iter().map(|part| part.value.expose().len() + 64).sum::<usize>();
        let mut rewritten = Zeroizing::new(Vec::with_capacity(head.len() + room * 4));
        let mut lines = head.split_inclusive(|byte| *byte == b'\n');
        rewritten.extend_from_slice(&self.request_line(lines.next().unwrap_or_default()));
        let mut set = Vec::new();
        for line in lines {
            if line == b"\r\n" {
                for part in self.parts.iter().filter(|part| part.field().is_some_and(|name| !has(&set, name))) {
                    part.write_field(&mut rewritten);
                }
                rewritten.extend_from_slice(line);
            } else {
                self.field(line, &mut set, &mut rewritten);
            }
        }
        rewritten
    }

    fn field<'l>(&self, line: &'l [u8], set: &mut Vec<&'l [u8]>, rewritten: &mut Vec<u8>) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let ours = self.parts.iter().find(|part| part.field().is_some_and(|field| same(field, name)));
        match ours {
            // Several of one name would be several answers to who asks.
            Some(_) if has(set, name) => {}
            Some(part) => {
                set.push(name);
                part.write_field(rewritten);
            }
            None if same(b"accept-encoding", name) => {
                rewritten.extend_from_slice(&[name, b": ", IDENTITY, b"\r\n"].concat());
            }
            None => {
                rewritten.extend_from_slice(name);
                self.replace_placeholders(value, rewritten);
            }
        }
    }

    fn replace_placeholders(&self, value: &[u8], rewritten: &mut Vec<u8>) {
        let placeholders = || {
            self.parts.iter().filter_map(|part| match &part.form {
                Form::Placeholder { text } => Some((text.as_bytes(), &part.value)),
                _ => None,
            })
        };
        let mut rest = value;
        while let Some((first, behind)) = rest.split_first() {
            if let Some((text, secret)) = placeholders().find(|(text, _)| rest.starts_with(text)) {
                rewritten.extend_from_slice(secret.expose());
                rest = rest.get(text.len()..).unwrap_or_default();
            } else {
                rewritten.push(*first);
                rest = behind;
            }
        }
    }

    /// The request line with the parameters of its query set.
    fn request_line(&self, line: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Zeroizing::new(line.to_vec());
        };
        let mut target = Zeroizing::new(target.to_vec());
        for part in &self.parts {
            if let Form::Query { name } = &part.form
                && method != b"CONNECT"
                && target.as_slice() != b"*"
            {
                target = with_parameter(&target, name.as_bytes(), part.value.expose());
            }
        }
        Zeroizing::new([method, b" ", &target, b" ", version].concat())
    }
}

impl Part {
    /// The field that it sets.
    fn field(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Basic { .. } => Some(b"authorization"),
            Form::Header { name, .. } => Some(name.as_bytes()),
            Form::Query { .. } | Form::Placeholder { .. } => None,
        }
    }

    fn write_field(&self, rewritten: &mut Vec<u8>) {
        let name = self.field().unwrap_or_default();
        for piece in [name, b": ", self.value.expose(), b"\r\n"] {
            rewritten.extend_from_slice(piece);
        }
    }
}

/// A secret, as it stands in a request.
fn value_of(form: &Form, secret: &[u8]) -> Secret {
    match form {
        Form::Basic { user } => {
            let plain = Zeroizing::new([user.as_bytes(), b":", secret].concat());
            Secret::new(format!("Basic {}", STANDARD.encode(&*plain)).into_bytes())
        }
        Form::Header { scheme: Some(scheme), .. } => Secret::new([scheme.as_bytes(), b" ", secret].concat()),
        Form::Query { .. } => Secret::new(percent_encoded(secret)),
        Form::Header { scheme: None, .. } | Form::Placeholder { .. } => Secret::new(secret.to_vec()),
    }
}

/// RFC 3986 section 2.3: everything but what is never encoded.
pub(super) fn percent_encoded(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(3 * bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(*byte),
            byte => encoded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    encoded
}

/// A request target with one parameter of this name and no other.
fn with_parameter(target: &[u8], name: &[u8], value: &[u8]) -> Zeroizing<Vec<u8>> {
    let at = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(at);
    let others = query.get(1..).unwrap_or_default().split(|byte| *byte == b'&');
    let mut whole = Zeroizing::new(Vec::with_capacity(target.len() + name.len() + value.len() + 2));
    whole.extend_from_slice(path);
    let mut separator = b'?';
    for other in others.filter(|other| !other.is_empty() && !is_named(other, name)) {
        whole.push(separator);
        whole.extend_from_slice(other);
        separator = b'&';
    }
    whole.push(separator);
    whole.extend_from_slice(name);
    whole.push(b'=');
    whole.extend_from_slice(value);
    whole
}

fn is_named(parameter: &[u8], name: &[u8]) -> bool {
    let written = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
    let mut decoded = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((byte, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        let value = (*byte == b'%').then(|| u8::try_from(digit(0)? * 16 + digit(1)?).ok()).flatten();
        decoded.push(value.unwrap_or(*byte));
        rest = if value.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    decoded == name
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn has(set: &[&[u8]], name: &[u8]) -> bool {
    set.iter().any(|one| same(one, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injections(forms: Vec<(Form, &str)>) -> Injections {
        let leased = forms.into_iter();
        let leased =
            leased.map(|(form, secret)| LeasedInjection { form, secret: Secret::new(secret.into()) }).collect();
        Injections::new(leased).unwrap().unwrap()
    }

    fn header(name: &str, scheme: Option<&str>) -> Form {
        Form::Header { name: name.into(), scheme: scheme.map(str::to_owned) }
    }

    fn rewritten(injections: &Injections, head: &str) -> String {
        let head = head.replace('\n', "\r\n");
        String::from_utf8(injections.rewrite(head.as_bytes()).to_vec()).unwrap().replace("\r\n", "\n")
    }

    #[test]
    fn fields_are_set_or_replaced_where_they_stand() {
        let bearer = injections(vec![(header("authorization", Some("Bearer")), "s3cret")]);
        let told = rewritten(&bearer, "GET / HTTP/1.1\nHost: a\nAUTHORIZATION: Bearer x\nX: 1\nAuthorization: y\n\n");
        assert_eq!(told, "GET / HTTP/1.1\nHost: a\nauthorization: Bearer s3cret\nX: 1\n\n");
        let told = rewritten(&bearer, "GET / HTTP/1.1\nHost: a\nAccept-Encoding: gzip\n\n");
        assert_eq!(told, "GET / HTTP/1.1\nHost: a\nAccept-Encoding: identity\nauthorization: Bearer s3cret\n\n");
        let basic = injections(vec![(Form::Basic { user: "u".into() }, "p"), (header("X-Api-Key", None), "k")]);
        let told = rewritten(&basic, "GET / HTTP/1.0\n\n");
        assert_eq!(told, "GET / HTTP/1.0\nauthorization: Basic dTpw\nX-Api-Key: k\n\n");
    }

    #[test]
    fn parameters_and_placeholders_are_replaced_and_nothing_else() {
        let query = injections(vec![(Form::Query { name: "key".into() }, "a/b c")]);
        for (target, wanted) in [
            ("/x", "/x?key=a%2Fb%20c"),
            ("/x?", "/x?key=a%2Fb%20c"),
            ("/x?a=1&key=old&b&k%65y=z", "/x?a=1&b&key=a%2Fb%20c"),
            ("http://h/x?key", "http://h/x?key=a%2Fb%20c"),
            ("*", "*"),
        ] {
            assert_eq!(
                rewritten(&query, &format!("OPTIONS {target} HTTP/1.1\nHost: h\n\n")),
                format!("OPTIONS {wanted} HTTP/1.1\nHost: h\n\n")
            );
        }
        let placeholder = injections(vec![(Form::Placeholder { text: "crewtap".into() }, "s3cret")]);
        let told =
            rewritten(&placeholder, "GET /crewtap HTTP/1.1\nHost: crewtap.a\nX-crewtap: Bearer crewtap,crewtap\n\n");
        assert_eq!(told, "GET /crewtap HTTP/1.1\nHost: s3cret.a\nX-crewtap: Bearer s3cret,s3cret\n\n");
    }

    #[test]
    fn a_secret_that_would_be_lines_of_its_own_is_refused() {
        for secret in ["a\r\nX: 1", "a\n", "\0", " a", "a\t"] {
            let leased = LeasedInjection { form: header("x", None), secret: Secret::new(secret.into()) };
            assert!(Injections::new(vec![leased]).is_err(), "{secret:?}");
        }
        assert!(Injections::new(Vec::new()).unwrap().is_none());
    }
}
