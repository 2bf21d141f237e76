//! What the claims of a verified token say: who it is, and in which groups.
//!
//! Pure: claims in, a person out, or a sentence. Never looks at a signature: it is given only what was verified.

use std::collections::BTreeSet;

use crewtap_core::identity::Kubernetes;
use crewtap_core::limits::{CLAIM_BYTES_MAX, GROUPS_MAX};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::oidc::Provider;

/// All claims of a token or of userinfo.
pub type Claims = Map<String, Value>;

/// A person or a workload, as a provider describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Person {
    /// Who it is at the issuer, for ever.
    pub subject: String,
    /// What a reader calls it.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// The provider says that the address is this person's.
    pub email_verified: bool,
    /// Groups, as the provider calls them.
    pub groups: BTreeSet<String>,
    /// Where they come from.
    pub groups_from: String,
    /// When the person proved to be who they are, in seconds since the Unix epoch.
    pub auth_time: Option<u64>,
    /// By which methods.
    pub amr: Vec<String>,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Where a workload's token was given out, if a cluster says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// What its owner should know: groups that are missing.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Claims that name nobody whom we could take.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// What a claim of groups says.
enum Told {
    /// These.
    Groups(BTreeSet<String>),
    /// Nothing.
    Nothing,
    /// That there are too many to tell, and where to ask (Azure).
    Elsewhere,
}

/// Who the claims describe. `more` is what userinfo says of the same subject.
///
/// # Errors
/// When it is nobody, or nobody that this provider may vouch for.
pub fn person(provider: &Provider, token: &Claims, more: Option<&Claims>) -> Result<Person, Unusable> {
    let subject = text(token, "sub").filter(|subject| !subject.is_empty() && subject.len() <= CLAIM_BYTES_MAX);
    let subject = subject.ok_or_else(|| Unusable("the token has no subject that could be kept".into()))?;
    if subject.chars().any(char::is_control) {
        return Err(Unusable("the token's subject has control characters".into()));
    }
    let of = |key: &str| text(token, key).or_else(|| text(more?, key));
    let email = of("email").filter(|email| email.len() <= CLAIM_BYTES_MAX);
    let vouched = |claims: &Claims| text(claims, "email") == email && is_true(claims.get("email_verified"));
    let email_verified = email.is_some() && (vouched(token) || more.is_some_and(vouched));
    hosted(provider, token, email.as_deref(), email_verified)?;
    let (mut groups, mut from, mut notes) = told_groups(provider, token, more)?;
    let by_table = by_address(provider, email.as_deref().filter(|_| email_verified));
    if !by_table.is_empty() {
        groups.extend(by_table);
        from.push("table");
    }
    if groups.is_empty() {
        notes.push(missing(provider, email.as_deref(), email_verified));
    }
    let called = provider.called.as_deref().and_then(of);
    let name = called
        .or_else(|| email.clone().filter(|_| email_verified))
        .or_else(|| of("preferred_username"))
        .or_else(|| of("name"));
    let name: String = name.unwrap_or_else(|| subject.clone()).chars().filter(|c| !c.is_control()).take(128).collect();
    Ok(Person {
        name,
        email,
        email_verified,
        groups,
        groups_from: if from.is_empty() { "none".into() } else { from.join("+") },
        auth_time: token.get("auth_time").and_then(Value::as_u64),
        amr: texts(token.get("amr")).unwrap_or_default().into_iter().filter(|one| one.len() <= 64).take(16).collect(),
        acr: text(token, "acr").filter(|acr| acr.len() <= CLAIM_BYTES_MAX),
        kubernetes: None,
        notes,
        subject,
    })
}

/// What a cluster says of whoever it gave a token to; none where it is no token of a cluster.
#[must_use]
pub fn kubernetes(token: &Claims) -> Option<Kubernetes> {
    let told = token.get("kubernetes.io")?;
    let plain = |text: &&str| !text.is_empty() && text.len() <= CLAIM_BYTES_MAX && !text.chars().any(char::is_control);
    let text = |value: Option<&Value>| Some(value?.as_str().filter(plain)?.to_owned());
    let named = |key: &str| text(told.get(key)?.get("name"));
    Some(Kubernetes {
        namespace: text(told.get("namespace"))?,
        service_account: named("serviceaccount")?,
        pod: named("pod"),
        node: named("node"),
    })
}

/// Google's hosted domain: the claim, or a verified address where the provider has no such claim.
fn hosted(provider: &Provider, token: &Claims, email: Option<&str>, verified: bool) -> Result<(), Unusable> {
    if provider.hd.is_empty() {
        return Ok(());
    }
    let claimed = text(token, "hd").map(|hd| hd.to_ascii_lowercase());
    let by_address =
        || email.filter(|_| verified).and_then(|email| Some(email.rsplit_once('@')?.1.to_ascii_lowercase()));
    // Google's own accounts can have any address: only the claim says whose organisation they belong to.
    let is_google = provider.issuer.starts_with("https://accounts.google.com");
    match claimed.or_else(|| if is_google { None } else { by_address() }) {
        Some(domain) if provider.hd.contains(&domain) => Ok(()),
        Some(domain) => Err(Unusable(format!("{domain} is none of the hosted domains of `oidc.{}.hd`", provider.name))),
        None => {
            Err(Unusable(format!("the token names no hosted domain, and `oidc.{}.hd` asks for one", provider.name)))
        }
    }
}

type Found = (BTreeSet<String>, Vec<&'static str>, Vec<String>);

/// Groups from the token, else from userinfo.
fn told_groups(provider: &Provider, token: &Claims, more: Option<&Claims>) -> Result<Found, Unusable> {
    let Some(claim) = &provider.groups else { return Ok((BTreeSet::new(), Vec::new(), Vec::new())) };
    let mut elsewhere = false;
    for (claims, from) in [(Some(token), "claim"), (more, "userinfo")] {
        let Some(claims) = claims else { continue };
        match look(claims, &claim.path).map_err(|what| Unusable(format!("the claim `{}` {what}", claim.written)))? {
            Told::Groups(groups) => return Ok((groups, vec![from], Vec::new())),
            Told::Elsewhere => elsewhere = true,
            Told::Nothing => {}
        }
    }
    if elsewhere {
        // Which groups they are is not known, and a policy may forbid what one of them does.
        return Err(Unusable(format!(
            "too many groups: instead of the claim `{}` the token has a link to ask (Azure's overage). Let the provider send \
             only the groups that are assigned to this application, or send its roles and set `groups = \"roles\"`",
            claim.written
        )));
    }
    Ok((BTreeSet::new(), Vec::new(), Vec::new()))
}

/// A text, a list of texts, or texts between blanks or commas are not told apart by guessing: a text is one group.
fn look(claims: &Claims, path: &[String]) -> Result<Told, String> {
    let Some((first, rest)) = path.split_first() else { return Ok(Told::Nothing) };
    let mut value = claims.get(first);
    for key in rest {
        value = value.and_then(|value| value.get(key));
    }
    let list = match value {
        None | Some(Value::Null) => {
            let names = claims.get("_claim_names").and_then(Value::as_object);
            let is_elsewhere = names.is_some_and(|names| names.contains_key(first)) || is_true(claims.get("hasgroups"));
            return Ok(if is_elsewhere { Told::Elsewhere } else { Told::Nothing });
        }
        Some(Value::String(one)) => vec![one.clone()],
        Some(list @ Value::Array(_)) => texts(Some(list)).ok_or("is a list with something else than texts")?,
        Some(_) => return Err("is neither a text nor a list of texts".into()),
    };
    if list.len() > GROUPS_MAX {
        return Err(format!("has {} groups: {GROUPS_MAX} are the most that are taken", list.len()));
    }
    let usable =
        |group: &String| !group.is_empty() && group.len() <= CLAIM_BYTES_MAX && !group.chars().any(char::is_control);
    match list.iter().find(|group| !usable(group)) {
        // A group that is left out may be the one that a policy forbids something to.
        Some(_) => Err(format!("has a group that is empty or longer than {CLAIM_BYTES_MAX} bytes")),
        None => Ok(Told::Groups(list.into_iter().collect())),
    }
}

/// Groups of the table, for an address that is this person's.
fn by_address(provider: &Provider, email: Option<&str>) -> BTreeSet<String> {
    let Some(email) = email.map(str::to_lowercase) else { return BTreeSet::new() };
    let is_it = |pattern: &String| match pattern.strip_prefix('*') {
        Some(domain) => email.rsplit_once('@').is_some_and(|(_, of)| domain.strip_prefix('@') == Some(of)),
        None => *pattern == email,
    };
    let members = provider.members.iter().filter(|(_, addresses)| addresses.iter().any(is_it));
    members.map(|(group, _)| group.clone()).collect()
}

/// Why somebody has no group, where one would expect some.
fn missing(provider: &Provider, email: Option<&str>, verified: bool) -> String {
    let Provider { name, issuer, .. } = provider;
    if !provider.members.is_empty() {
        return match email {
            Some(email) if !verified => format!(
                "no groups: {issuer} does not vouch for the address {email}, so `oidc.{name}.members` does not count"
            ),
            Some(email) => format!("no groups: {email} is in none of `oidc.{name}.members`"),
            None => {
                format!("no groups: the token has no e-mail address; add the scope \"email\" to `oidc.{name}.scopes`")
            }
        };
    }
    if issuer.starts_with("https://accounts.google.com") {
        return format!("no groups: Google sends none; say who is in which in [oidc.{name}.members]");
    }
    match &provider.groups {
        Some(claim) => format!(
            "no groups: neither the token nor userinfo has the claim `{}`; let the provider send it, or add a scope to \
             `oidc.{name}.scopes`",
            claim.written
        ),
        None => format!("no groups: `oidc.{name}.groups` names no claim"),
    }
}

fn text(claims: &Claims, key: &str) -> Option<String> {
    claims.get(key)?.as_str().map(str::to_owned)
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(list) => list.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Some providers write it as a text.
fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

#[cfg(test)]
mod tests;
