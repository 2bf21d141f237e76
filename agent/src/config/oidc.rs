//! What `crewtap.toml` says of identity providers: `[oidc.NAME]`.
//!
//! Never reads a secret and never asks a provider: it names the places.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crewtap_core::policy::catalog::{self, Source};
use crewtap_core::policy::keys::{self, Fault, Value, one_of, text, texts};

use super::approvals::duration;
use crate::identity::login::OnExpiry;
use crate::identity::svid;

/// Keys of `[oidc.NAME]`.
pub(super) const KEYS: [&str; 21] = [
    "issuer",
    "client_id",
    "secret",
    "auth",
    "scopes",
    "groups",
    "members",
    "hd",
    "algorithms",
    "ca",
    "discovery_token",
    "jwks_file",
    "audience",
    "redirect",
    "skew",
    "lasts",
    "renew",
    "on_expiry",
    "max_age",
    "name",
    "workload",
];

/// Keys of `[oidc.NAME.workload]`.
const WORKLOAD_KEYS: [&str; 4] = ["token_file", "client_credentials", "units", "users"];

/// How long a login counts at most, whatever tokens say, unless the file says otherwise.
const LASTS: Duration = Duration::from_hours(24);

/// How old what is known of a person may be when a run starts, where it can be renewed.
const RENEW: Duration = Duration::from_mins(5);

/// By how much clocks may differ.
const SKEW: Duration = Duration::from_mins(1);

/// The most that may be configured for it: beyond it, an expired token is a valid one.
const SKEW_MAX: Duration = Duration::from_mins(10);

/// Signature algorithms that can be configured. None is symmetric: what a client's secret signs, whoever knows the secret can
/// sign; and none is `none`.
pub const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// One identity provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provider {
    /// What it is called here: in identities, `oidc:NAME:SUBJECT`, and in groups, `oidc:NAME:GROUP`.
    pub name: String,
    /// Its identifier, exactly as its discovery document and its tokens have it.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// Where our secret is; none for a public client.
    pub secret: Option<Source>,
    /// How the secret is shown.
    pub auth: Auth,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where groups are in the claims: a path of keys, or a name that has the dots in it. None: nowhere.
    pub groups: Option<GroupsClaim>,
    /// Groups by e-mail address, where the provider tells none.
    pub members: BTreeMap<String, Vec<String>>,
    /// Hosted domains of which the person must be in one (Google); empty: all.
    pub hd: Vec<String>,
    /// Signature algorithms that count.
    pub algorithms: Vec<String>,
    /// The authority of the provider's certificate; the host's own where none is named.
    pub ca: Option<PathBuf>,
    /// A file with a token that the provider wants to see before it tells of itself (Kubernetes does).
    pub discovery_token: Option<PathBuf>,
    /// A file with the provider's keys, where it tells nothing of itself; for workloads alone.
    pub jwks_file: Option<PathBuf>,
    /// Audiences that a token may name beside us; that a workload's token must name one of.
    pub audience: Vec<String>,
    /// Where the browser is sent back to on loopback: port (0: any that is free) and path.
    pub redirect: Redirect,
    /// By how much clocks may differ.
    pub skew: Duration,
    /// How long a login counts at most.
    pub lasts: Duration,
    /// How old what is known of a person may be when a run starts.
    pub renew: Duration,
    /// What a run whose login has expired may do.
    pub on_expiry: OnExpiry,
    /// How long ago the person may have proven who they are.
    pub max_age: Option<Duration>,
    /// The claim that says how a person is called; where there is none, `email`, `preferred_username`, `name` or the subject.
    pub called: Option<String>,
    /// Runs that have no person.
    pub workload: Option<Workload>,
}

/// How a client shows its secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Auth {
    /// `client_secret_basic`.
    #[default]
    Basic,
    /// `client_secret_post`.
    Post,
}

/// Where the groups of a person are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupsClaim {
    /// The keys, from the top.
    pub path: Vec<String>,
    /// As it is written in the file.
    pub written: String,
}

/// Where a browser is sent back to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Redirect {
    /// 0: any that is free.
    pub port: u16,
    /// With its slash at the beginning.
    pub path: String,
}

/// Runs that have no person, and what says who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Workload {
    /// What says it.
    pub proof: WorkloadProof,
    /// Units of systemd that they are started in; with `users` empty and this empty, all runs behind which nobody has logged in.
    pub units: Vec<String>,
    /// Users that they are started by: names or numbers.
    pub users: Vec<String>,
}

/// What says who a workload is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkloadProof {
    /// A file with a token, that somebody keeps fresh.
    TokenFile(PathBuf),
    /// Our own credentials at the provider.
    ClientCredentials,
}

/// Reads `[oidc]`; paths are relative to `beside`.
///
/// # Errors
/// When it has an unknown key or an impossible value.
pub fn providers(value: &Value<'_>, beside: &Path) -> Result<Vec<Provider>, Fault> {
    let mut all: Vec<Provider> = Vec::new();
    for (key, value) in keys::in_order(keys::table("oidc", value)?) {
        let name: &str = key.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            let what = format!("`oidc.{name}`: a provider's name has letters, digits, - and _ only");
            return Err(Fault { at: key.span(), what });
        }
        if value.get_ref().as_table().is_none() {
            return Err(Fault::of(value, format!("write each provider as [oidc.NAME]: `{name}` is no table")));
        }
        let provider = provider(name, value, beside)?;
        // Its tokens could be taken for the other's.
        if let Some(other) =
            all.iter().find(|other| other.issuer == provider.issuer && other.client_id == provider.client_id)
        {
            let what = format!("`oidc.{name}` and `oidc.{}` are the same client of the same issuer", other.name);
            return Err(Fault { at: key.span(), what });
        }
        // Where both come back to one page, the code of the one could be taken to the other (RFC 9700, 4.4).
        if let Some(other) =
            all.iter().find(|other| other.issuer != provider.issuer && other.redirect.path == provider.redirect.path)
        {
            let what =
                format!("`oidc.{name}` and `oidc.{}` have one `redirect`: give each a path of its own", other.name);
            return Err(Fault { at: key.span(), what });
        }
        all.push(provider);
    }
    Ok(all)
}

fn provider(name: &str, value: &Value<'_>, beside: &Path) -> Result<Provider, Fault> {
    let mut provider = Provider::new(name);
    for (key, value) in keys::in_order(keys::table(name, value)?) {
        provider.set(key.get_ref(), value, beside).map_err(|fault| match fault {
            Some(fault) => fault,
            None => Fault { at: key.span(), what: keys::unknown(key.get_ref(), &KEYS) },
        })?;
    }
    let missing = |key: &str| Fault::of(value, format!("`oidc.{name}` needs `{key}`"));
    if provider.issuer.is_empty() {
        return Err(missing("issuer"));
    }
    if provider.client_id.is_empty() {
        return Err(missing("client_id"));
    }
    let by_secret = matches!(&provider.workload, Some(workload) if workload.proof == WorkloadProof::ClientCredentials);
    if by_secret && provider.secret.is_none() {
        return Err(Fault::of(value, format!("`oidc.{name}.workload`: client credentials need `secret`")));
    }
    let by_file = matches!(&provider.workload, Some(Workload { proof: WorkloadProof::TokenFile(_), .. }));
    if provider.jwks_file.is_some() && !by_file {
        let what = "is for workloads alone: it needs [oidc.NAME.workload] with `token_file`";
        return Err(Fault::of(value, format!("`oidc.{name}.jwks_file` {what}")));
    }
    if provider.jwks_file.is_none() && svid::is_domain(&provider) {
        return Err(Fault::of(
            value,
            format!("`oidc.{name}`: a trust domain as issuer needs `jwks_file`, its bundle of keys"),
        ));
    }
    if provider.jwks_file.is_some() && provider.discovery_token.is_some() {
        return Err(Fault::of(
            value,
            format!("`oidc.{name}` has `jwks_file`: nothing is asked for with `discovery_token`"),
        ));
    }
    Ok(provider)
}

impl Provider {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            issuer: String::new(),
            client_id: String::new(),
            secret: None,
            auth: Auth::default(),
            scopes: vec!["email".into(), "profile".into()],
            groups: None,
            members: BTreeMap::new(),
            hd: Vec::new(),
            algorithms: ALGORITHMS.map(str::to_owned).into(),
            ca: None,
            discovery_token: None,
            jwks_file: None,
            audience: Vec::new(),
            // Each provider has a path of its own: an answer of the one is none of the other (RFC 9700, 4.4).
            redirect: Redirect { port: 0, path: format!("/oidc/{name}") },
            skew: SKEW,
            lasts: LASTS,
            renew: RENEW,
            on_expiry: OnExpiry::default(),
            max_age: None,
            called: None,
            workload: None,
        }
    }

    /// Takes one key; no fault at all where it is unknown.
    fn set(&mut self, key: &str, value: &Value<'_>, beside: &Path) -> Result<(), Option<Fault>> {
        match key {
            "issuer" => self.issuer = issuer(value)?,
            "client_id" => text(key, value)?.clone_into(&mut self.client_id),
            "secret" => self.secret = Some(secret(value, beside)?),
            "auth" => self.auth = one_of(key, value, &[("basic", Auth::Basic), ("post", Auth::Post)])?,
            "scopes" => self.scopes = texts(key, value, scope)?,
            "groups" => self.groups = Some(groups(value)?),
            "members" => self.members = members(value)?,
            "hd" => self.hd = texts(key, value, |domain| Ok(domain.to_ascii_lowercase()))?,
            "algorithms" => self.algorithms = algorithms(value)?,
            "ca" => self.ca = Some(beside.join(text(key, value)?)),
            "discovery_token" => self.discovery_token = Some(beside.join(text(key, value)?)),
            "jwks_file" => self.jwks_file = Some(beside.join(text(key, value)?)),
            "audience" => self.audience = texts(key, value, |audience| Ok(audience.to_owned()))?,
            "redirect" => self.redirect = redirect(value)?,
            "skew" => self.skew = time(key, value, Some(SKEW_MAX))?,
            "lasts" => self.lasts = time(key, value, None)?,
            // Before each run.
            "renew" if text(key, value)? == "0s" => self.renew = Duration::ZERO,
            "renew" => self.renew = time(key, value, None)?,
            "max_age" => self.max_age = Some(time(key, value, None)?),
            "name" => self.called = Some(text(key, value)?.to_owned()),
            "on_expiry" => {
                let kinds = [("continue", OnExpiry::Continue), ("refuse", OnExpiry::Refuse)];
                self.on_expiry = one_of(key, value, &kinds)?;
            }
            "workload" => self.workload = Some(workload(value, beside)?),
            _ => return Err(None),
        }
        Ok(())
    }

    /// Variables of the agent's environment that are named as places of secrets.
    pub fn variable(&self) -> Option<&str> {
        self.secret.as_ref().and_then(Source::variable)
    }
}

/// `https`, or `http` to this host's loopback; no query, no fragment, no credentials. Or a trust domain of SPIFFE.
fn issuer(value: &Value<'_>) -> Result<String, Fault> {
    let url = text("issuer", value)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if let Some(domain) = url.strip_prefix("spiffe://") {
        return match domain {
            "" => Err(Fault::of(value, "`issuer` names no trust domain")),
            domain if domain.bytes().all(plain) => Ok(url.to_owned()),
            _ => Err(Fault::of(value, "`issuer` must be a trust domain alone, such as spiffe://example.org")),
        };
    }
    let wrong = |what: &str| Fault::of(value, format!("`issuer` {what}"));
    let parsed = url.parse::<hyper::Uri>().map_err(|_| wrong("is no URL"))?;
    if url.contains(['?', '#', '@']) || url.chars().any(char::is_whitespace) {
        return Err(wrong("must be a URL without query, fragment and credentials"));
    }
    let host = parsed.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match parsed.scheme_str() {
        Some("https") if !host.is_empty() => Ok(url.to_owned()),
        Some("http") if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) => Ok(url.to_owned()),
        _ => Err(wrong(
            "must be an https:// URL (http:// only for an address of loopback, such as http://127.0.0.1:9000)",
        )),
    }
}

fn secret(value: &Value<'_>, beside: &Path) -> Result<Source, Fault> {
    match catalog::source(value, beside) {
        Ok(Source::Vault { .. }) => {
            Err(Fault::of(value, "`secret` cannot be in a vault here: use file:, env:, cmd: or systemd:"))
        }
        Ok(source) => Ok(source),
        Err(what) => Err(Fault::of(value, format!("`secret`: {what}"))),
    }
}

/// A scope's characters (RFC 6749, appendix A.4).
fn scope(text: &str) -> Result<String, String> {
    let plain = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(format!("\"{text}\" is no scope: write each one as a text of its own"));
    }
    Ok(text.to_owned())
}

/// A name, `a.b.c` as a path, or a list of keys where a key has dots itself.
fn groups(value: &Value<'_>) -> Result<GroupsClaim, Fault> {
    if value.get_ref().as_array().is_some() {
        let path = texts("groups", value, |key| Ok(key.to_owned()))?;
        if path.is_empty() {
            return Err(Fault::of(value, "`groups` names no claim: leave it out where the provider sends no groups"));
        }
        return Ok(GroupsClaim { written: path.join("."), path });
    }
    let written = text("groups", value)?.to_owned();
    // A claim of one's own is named by a URL, which has dots (`https://example.com/groups`).
    let is_url = written.contains("://");
    let path: Vec<String> =
        if is_url { vec![written.clone()] } else { written.split('.').map(str::to_owned).collect() };
    if path.iter().any(String::is_empty) {
        return Err(Fault::of(
            value,
            "`groups` must be a claim's name, a path such as \"realm_access.roles\", or a list of keys",
        ));
    }
    Ok(GroupsClaim { path, written })
}

fn members(value: &Value<'_>) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let address = |text: &str| match text.split_once('@') {
        Some((name, domain)) if !name.is_empty() && domain.contains('.') => Ok(text.to_lowercase()),
        _ => Err(format!("\"{text}\" is no e-mail address; *@example.com stands for all of a domain")),
    };
    let table = keys::in_order(keys::table("members", value)?);
    table
        .into_iter()
        .map(|(group, value)| Ok((group.get_ref().to_string(), texts(group.get_ref(), value, address)?)))
        .collect()
}

fn algorithms(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    let all = texts("algorithms", value, |name| match ALGORITHMS.contains(&name) {
        true => Ok(name.to_owned()),
        false if name.eq_ignore_ascii_case("none") || name.starts_with("HS") => {
            Err(format!("\"{name}\" proves nothing: anybody, or whoever has the client's secret, could sign with it"))
        }
        false => Err(format!("\"{name}\" is not one of {}", ALGORITHMS.join(", "))),
    })?;
    if all.is_empty() {
        return Err(Fault::of(value, "`algorithms` is empty: no token would count"));
    }
    Ok(all)
}

/// `http://127.0.0.1:PORT/PATH`.
fn redirect(value: &Value<'_>) -> Result<Redirect, Fault> {
    let url = text("redirect", value)?;
    let wrong = || Fault::of(value, "`redirect` must be http://127.0.0.1:PORT/PATH; port 0 takes any that is free");
    let rest = url.strip_prefix("http://127.0.0.1:").ok_or_else(wrong)?;
    let (port, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let port = port.parse().ok().filter(|_| path.bytes().all(plain)).ok_or_else(wrong)?;
    Ok(Redirect { port, path: format!("/{path}") })
}

fn time(key: &str, value: &Value<'_>, most: Option<Duration>) -> Result<Duration, Fault> {
    let time = duration(text(key, value)?).map_err(|why| Fault::of(value, format!("`{key}`: {why}")))?;
    match most {
        Some(most) if time > most => Err(Fault::of(value, format!("`{key}` can be {} s at most", most.as_secs()))),
        _ => Ok(time),
    }
}

fn workload(value: &Value<'_>, beside: &Path) -> Result<Workload, Fault> {
    let (mut file, mut by_secret, mut units, mut users) = (None, false, Vec::new(), Vec::new());
    for (key, value) in keys::in_order(keys::table("workload", value)?) {
        match key.get_ref().as_ref() {
            "token_file" => file = Some(beside.join(text("token_file", value)?)),
            "client_credentials" => {
                let flag = value.get_ref().as_bool();
                by_secret = flag.ok_or_else(|| Fault::of(value, "`client_credentials` must be true or false"))?;
            }
            "units" => units = texts("units", value, unit)?,
            "users" => users = texts("users", value, |user| Ok(user.to_owned()))?,
            other => return Err(Fault { at: key.span(), what: keys::unknown(other, &WORKLOAD_KEYS) }),
        }
    }
    let proof = match (file, by_secret) {
        (Some(file), false) => WorkloadProof::TokenFile(file),
        (None, true) => WorkloadProof::ClientCredentials,
        _ => return Err(Fault::of(value, "`workload` needs either `token_file` or `client_credentials = true`")),
    };
    Ok(Workload { proof, units, users })
}

fn unit(text: &str) -> Result<String, String> {
    match text.strip_suffix(".service").or_else(|| text.strip_suffix(".scope")) {
        Some(name) if !name.is_empty() && !text.contains('/') => Ok(text.to_owned()),
        _ => Err(format!("\"{text}\" is no unit: write crew.service")),
    }
}

#[cfg(test)]
mod tests;
