//! What an entry's credentials are: where each secret is, and where it goes.
//!
//! Never holds a secret, and never repeats a text that may be one.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::policy::keys::{Fault, Value, in_order, table, text, unknown};

/// Keys of a credential.
const KEYS: [&str; 11] =
    ["user", "secret", "token", "header", "scheme", "query", "placeholder", "ca", "key", "passphrase", "certificate"];

/// Fields that say how a message is read or led: a secret has no place in them.
const FRAMING: [&str; 15] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "keep-alive",
    "proxy-connection",
    "content-encoding",
    "content-type",
    "accept-encoding",
    "range",
    "date",
];

/// What crewtap logs in with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// The user.
    pub user: String,
    /// Where the secret is; none for users that need none.
    pub secret: Option<Source>,
    /// The private key to log in with, in place of a secret; for SSH.
    pub key: Option<KeyFile>,
}

/// A private key, and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFile {
    /// Where the key is.
    pub key: Source,
    /// Where the passphrase is that it is encrypted with.
    pub passphrase: Option<Source>,
    /// The certificate for it, as `ssh-keygen -s` writes it.
    pub certificate: Option<PathBuf>,
}

impl Credential {
    /// Where its secrets are.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let key = self.key.iter().flat_map(|key| std::iter::once(&key.key).chain(&key.passphrase));
        self.secret.iter().chain(key)
    }

    /// The place of what is logged in with, for the record.
    #[must_use]
    pub fn place(&self) -> Option<&Source> {
        self.secret.as_ref().or(self.key.as_ref().map(|key| &key.key))
    }
}

/// What crewtap puts into each HTTP request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Injection {
    /// Where it goes.
    pub form: Form,
    /// Where the secret is.
    pub secret: Source,
}

/// Where a secret goes in an HTTP request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// `Authorization: Basic`, with this user.
    Basic {
        /// The user.
        user: String,
    },
    /// A header field, set or replaced.
    Header {
        /// Its name.
        name: String,
        /// A word before the secret: `Bearer`.
        scheme: Option<String>,
    },
    /// A parameter of the query, set or replaced.
    Query {
        /// Its name.
        name: String,
    },
    /// In the place of a text that the client writes, anywhere in values of header fields.
    Placeholder {
        /// The text.
        text: String,
    },
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user } => write!(f, "{user} (basic)"),
            Self::Header { name, scheme: Some(scheme) } => write!(f, "header {name} ({})", scheme.to_ascii_lowercase()),
            Self::Header { name, scheme: None } => write!(f, "header {name}"),
            Self::Query { name } => write!(f, "query {name}"),
            Self::Placeholder { text } => write!(f, "placeholder {text}"),
        }
    }
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The content of a file, without a line break at its end.
    File(PathBuf),
    /// A variable of the agent's environment.
    Env(String),
    /// What a program prints, without a line break at its end.
    Command {
        /// The program; absolute.
        program: PathBuf,
        /// Its arguments, as they are: no shell reads them.
        arguments: Vec<String>,
    },
    /// A credential that systemd has given to the agent.
    Systemd(String),
    /// A field of a secret in a store with the interface of Vault's KV version 2.
    Vault {
        /// The secret's URL: `https://HOST:PORT/v1/MOUNT/data/PATH`.
        url: String,
        /// The field.
        field: String,
        /// Where the token is.
        token: Box<Self>,
        /// Authorities (PEM) that vouch for the store, instead of the host's.
        ca: Option<PathBuf>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
            // Arguments can be anything.
            Self::Command { program, .. } => write!(f, "cmd:{}", program.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
            Self::Vault { url, field, .. } => write!(f, "vault:{url}#{field}"),
        }
    }
}

impl Source {
    /// The variable of the agent's environment that it needs.
    #[must_use]
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Env(name) => Some(name),
            Self::Vault { token, .. } => token.variable(),
            Self::File(_) | Self::Command { .. } | Self::Systemd(_) => None,
        }
    }
}

/// What the keys of one credential say.
#[derive(Default)]
struct Keys {
    user: Option<String>,
    secret: Option<Source>,
    header: Option<String>,
    scheme: Option<String>,
    query: Option<String>,
    placeholder: Option<String>,
    key: Option<Source>,
    passphrase: Option<Source>,
    certificate: Option<PathBuf>,
}

impl Keys {
    fn is_of_ssh(&self) -> bool {
        self.key.is_some() || self.passphrase.is_some() || self.certificate.is_some()
    }
}

/// Reads a credential of SSH: a password, or a private key with what belongs to it.
pub(super) fn ssh_log_in(value: &Value<'_>, beside: &Path) -> Result<Credential, Fault> {
    let keys = read(value, beside)?;
    let key = match (keys.key.clone(), keys.passphrase.clone(), keys.certificate.clone()) {
        (Some(_), ..) if keys.secret.is_some() => {
            return Err(Fault::of(
                value,
                "`credential` has a `secret` and a `key`: one is logged in with, leave one out",
            ));
        }
        (Some(key), passphrase, certificate) => Some(KeyFile { key, passphrase, certificate }),
        (None, None, None) if keys.secret.is_some() => None,
        (None, None, None) => {
            let what = "`credential` has neither a `secret` (a password) nor a `key` (a private key): SSH needs one";
            return Err(Fault::of(value, what));
        }
        _ => return Err(Fault::of(value, "`passphrase` and `certificate` belong to a `key`")),
    };
    Ok(Credential { key, ..credential(keys, value)? })
}

/// Reads a credential that a protocol's log-in uses.
pub(super) fn log_in(value: &Value<'_>, beside: &Path) -> Result<Credential, Fault> {
    let keys = read(value, beside)?;
    refuse_ssh(&keys, value)?;
    credential(keys, value)
}

fn refuse_ssh(keys: &Keys, value: &Value<'_>) -> Result<(), Fault> {
    if keys.is_of_ssh() {
        return Err(Fault::of(value, "`key`, `passphrase` and `certificate` are for protocol \"ssh\""));
    }
    Ok(())
}

fn credential(keys: Keys, value: &Value<'_>) -> Result<Credential, Fault> {
    let Keys { user, secret, header, scheme, query, placeholder, .. } = keys;
    if header.or(scheme).or(query).or(placeholder).is_some() {
        return Err(Fault::of(value, "`header`, `scheme`, `query` and `placeholder` are for protocol \"http\""));
    }
    let user = user.filter(|user| !user.contains('\0'));
    let user = user.ok_or_else(|| Fault::of(value, "`credential` has no `user`: name who crewtap logs in as"))?;
    Ok(Credential { user, secret, key: None })
}

/// Reads what goes into HTTP requests: one credential, or a list of them.
pub(super) fn injections(value: &Value<'_>, beside: &Path) -> Result<Vec<Injection>, Fault> {
    let Some(list) = value.get_ref().as_array() else { return Ok(vec![injection(value, beside)?]) };
    let mut injections: Vec<Injection> = Vec::new();
    for value in list {
        let injection = injection(value, beside)?;
        if injections.iter().any(|other| place(&other.form) == place(&injection.form)) {
            return Err(Fault::of(value, "two credentials would go to the same place: leave one out"));
        }
        injections.push(injection);
    }
    Ok(injections)
}

/// Two secrets cannot go to the same.
fn place(form: &Form) -> (u8, String) {
    match form {
        Form::Basic { .. } => (0, "authorization".into()),
        Form::Header { name, .. } => (0, name.to_ascii_lowercase()),
        Form::Query { name } => (1, name.clone()),
        Form::Placeholder { text } => (2, text.clone()),
    }
}

fn injection(value: &Value<'_>, beside: &Path) -> Result<Injection, Fault> {
    let fault = |what: String| Fault::of(value, what);
    let keys = read(value, beside)?;
    refuse_ssh(&keys, value)?;
    let Keys { user, secret, header, scheme, query, placeholder, .. } = keys;
    let secret = secret.ok_or_else(|| fault("`credential` has no `secret`: say where it is".into()))?;
    let form = match (user, header, query, placeholder) {
        (Some(user), None, None, None) => Form::Basic { user: user_of_basic(user).map_err(fault)? },
        (None, Some(name), None, None) => {
            let scheme = scheme.as_deref().map(|scheme| scheme_of(scheme).map_err(fault)).transpose()?;
            return Ok(Injection { form: Form::Header { name: field_name(name).map_err(fault)?, scheme }, secret });
        }
        (None, None, Some(name), None) => Form::Query { name: query_name(name).map_err(fault)? },
        (None, None, None, Some(text)) => Form::Placeholder { text: placeholder_text(text).map_err(fault)? },
        _ => return Err(fault("`credential` needs one of `user`, `header`, `query` and `placeholder`".into())),
    };
    if scheme.is_some() {
        return Err(fault("`scheme` belongs to `header`".into()));
    }
    Ok(Injection { form, secret })
}

fn user_of_basic(user: String) -> Result<String, String> {
    // RFC 7617 section 2.
    if user.contains(':') || user.chars().any(char::is_control) {
        return Err("`user` of a basic log-in can have no colon and no control characters".into());
    }
    Ok(user)
}

/// Whether it is a token of RFC 9110 section 5.6.2, as names of header fields are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn field_name(name: String) -> Result<String, String> {
    if !is_token(&name) {
        return Err("`header` is no name of a header field".into());
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("`header` cannot be \"{name}\": it says how the message is read or led"));
    }
    Ok(name)
}

fn scheme_of(scheme: &str) -> Result<String, String> {
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok("Bearer".into()),
        "basic" => Err("a basic log-in is `{ user = \"…\", secret = \"…\" }`".into()),
        _ if is_token(scheme) => Ok(scheme.to_owned()),
        _ => Err("`scheme` is one word: \"bearer\", \"token\"".into()),
    }
}

fn query_name(name: String) -> Result<String, String> {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
        return Ok(name);
    }
    Err("`query` is a name of letters, digits, `-`, `.`, `_` and `~`".into())
}

fn placeholder_text(text: String) -> Result<String, String> {
    if text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err("`placeholder` is a text of at least 4 letters, without blanks".into())
}

fn read(value: &Value<'_>, beside: &Path) -> Result<Keys, Fault> {
    let (mut keys, mut token, mut ca) = (Keys::default(), None, None);
    for (key, value) in in_order(table("credential", value)?) {
        let name: &str = key.get_ref().as_ref();
        let owned = || text(name, value).map(str::to_owned).map(Some);
        match name {
            "user" => keys.user = owned()?,
            "header" => keys.header = owned()?,
            "scheme" => keys.scheme = owned()?,
            "query" => keys.query = owned()?,
            "placeholder" => keys.placeholder = owned()?,
            "ca" => ca = Some(beside.join(text("ca", value)?)),
            "certificate" => keys.certificate = Some(beside.join(text("certificate", value)?)),
            "secret" | "token" | "key" | "passphrase" => {
                let source = source(value, beside);
                let source = source.map_err(|what| Fault::of(value, format!("`{name}`: {what}")))?;
                let place = match name {
                    "secret" => &mut keys.secret,
                    "key" => &mut keys.key,
                    "passphrase" => &mut keys.passphrase,
                    _ => &mut token,
                };
                *place = Some(source);
            }
            other => return Err(Fault { at: key.span(), what: unknown(other, &KEYS) }),
        }
    }
    let has_more = token.is_some() || ca.is_some();
    if matches!(keys.passphrase, Some(Source::Vault { .. })) {
        return Err(Fault::of(value, "`passphrase` cannot be of `vault:`: its token is that of `key`"));
    }
    let of_vault = if keys.key.is_some() { &mut keys.key } else { &mut keys.secret };
    match (of_vault, token) {
        (Some(Source::Vault { token: place, ca: authority, .. }), Some(token @ (Source::File(_) | Source::Env(_)))) => {
            **place = token;
            *authority = ca;
        }
        (Some(Source::Vault { .. }), _) => {
            return Err(Fault::of(value, "`vault:` needs a `token`, as \"file:PATH\" or \"env:NAME\""));
        }
        _ if has_more => return Err(Fault::of(value, "`token` and `ca` belong to a secret of `vault:`")),
        _ => {}
    }
    Ok(keys)
}

/// Where a secret is. Never repeats the text: somebody may have written the secret itself there.
///
/// # Errors
/// A sentence, where it is no place.
pub fn source(value: &Value<'_>, beside: &Path) -> Result<Source, String> {
    if let Some(list) = value.get_ref().as_array() {
        let words: Option<Vec<&str>> = list.iter().map(|word| word.get_ref().as_str()).collect();
        let words = words.unwrap_or_default();
        let program = words.first().and_then(|first| first.strip_prefix("cmd:"));
        let program = program.ok_or("a list is for a command: [\"cmd:/PROGRAM\", \"ARGUMENT\"]")?;
        return command(program, words.get(1..).unwrap_or_default());
    }
    let text = value.get_ref().as_str().ok_or("say where the secret is, as a text in quotes")?;
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Source::File(beside.join(path))),
        Some(("env", name)) if is_variable(name) => Ok(Source::Env(name.to_owned())),
        Some(("cmd", words)) => {
            let words: Vec<&str> = words.split_ascii_whitespace().collect();
            let (program, arguments) = words.split_first().ok_or("cmd: needs a program")?;
            command(program, arguments)
        }
        Some(("systemd", name)) if is_credential(name) => Ok(Source::Systemd(name.to_owned())),
        Some(("vault", url)) => vault(url),
        _ => {
            Err("say where the secret is, as \"file:PATH\", \"env:NAME\", \"cmd:/PROGRAM ARGUMENT\", \"systemd:NAME\" \
                  or \"vault:URL#FIELD\"; never write the secret here"
                .to_owned())
        }
    }
}

fn command(program: &str, arguments: &[&str]) -> Result<Source, String> {
    if !program.starts_with('/') || program.contains('\0') || arguments.iter().any(|word| word.contains('\0')) {
        return Err("cmd: needs the whole path of a program: no shell and no PATH looks for it".into());
    }
    if arguments.iter().any(|word| word.starts_with(['"', '\''])) {
        return Err("cmd: knows no quotes; write [\"cmd:/PROGRAM\", \"an argument with blanks\"]".into());
    }
    Ok(Source::Command { program: program.into(), arguments: arguments.iter().map(|&word| word.into()).collect() })
}

fn vault(url: &str) -> Result<Source, String> {
    let wrong = "vault: is followed by http(s)://HOST:PORT/v1/MOUNT/data/PATH#FIELD";
    let (url, field) = url.rsplit_once('#').ok_or(wrong)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or(wrong)?;
    let (authority, path) = rest.split_once('/').ok_or(wrong)?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || authority.contains('@') || path.is_empty() || field.is_empty() || !plain(url) {
        return Err(wrong.into());
    }
    // The token's place is put in by who reads the other keys.
    let token = Box::new(Source::Env(String::new()));
    Ok(Source::Vault { url: url.to_owned(), field: field.to_owned(), token, ca: None })
}

fn is_variable(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(fits) && !name.starts_with(|letter: char| letter.is_ascii_digit())
}

/// As systemd itself wants it: a file's name.
fn is_credential(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0'])
}
