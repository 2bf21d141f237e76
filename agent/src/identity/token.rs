//! Whether a token counts: its signature, and every claim that says for whom, by whom and when.
//!
//! The one way from a token to claims. Never asks a provider: the keys are given. Never shows a token in an error.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AccessTokenHash, ClaimsVerificationError, ClientId, IssuerUrl, JsonWebTokenType, Nonce,
    SignatureVerificationError,
};
use serde_json::Value;

use super::claims::Claims;
use crate::config::oidc::Provider;

/// Longest token that is looked at, in bytes: 10,000 groups make two thirds of a megabyte.
pub(super) const TOKEN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a token must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    /// Whose token it is.
    pub kind: Kind<'e>,
    /// The time now, in seconds since the Unix epoch.
    pub now: u64,
}

/// For whom a token is, and by what it is bound to what was asked.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'e> {
    /// A person's, for us; with the nonce of the log-in where it has one, and the access token that came beside it.
    Id {
        /// What the provider was given.
        nonce: Option<&'e Nonce>,
        /// For `at_hash`.
        access: Option<&'e AccessToken>,
    },
    /// A workload's, for one of the configured audiences.
    Workload,
}

/// Claims that count, and until when.
#[derive(Clone, Debug)]
pub struct Verified {
    /// All claims.
    pub claims: Claims,
    /// When it expires, in seconds since the Unix epoch.
    pub expires: u64,
}

/// A token that does not count.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// No key that we know could have signed it: perhaps there are new ones.
    #[error("its signature is by no key of the provider ({0})")]
    Key(String),
    /// Something else is wrong with it.
    #[error("{0}")]
    Wrong(String),
}

pub(super) fn wrong(what: impl Into<String>) -> TokenError {
    // What a provider says is told in a line of its own, and to a terminal.
    TokenError::Wrong(what.into().chars().filter(|letter| !letter.is_control()).take(400).collect())
}

/// Judges a token by these keys.
///
/// # Errors
/// Why it does not count.
pub fn verify(
    provider: &Provider,
    keys: &CoreJsonWebKeySet,
    token: &str,
    expected: Expected<'_>,
) -> Result<Verified, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(wrong(format!("it has more than {TOKEN_BYTES_MAX} bytes")));
    }
    let parsed: CoreIdToken = token.trim().parse().map_err(|error| unreadable(token, &error))?;
    let verifier = verifier(provider, keys.clone(), expected)?;
    let nonce = |told: Option<&Nonce>| match expected.kind {
        Kind::Id { nonce: Some(nonce), .. } => openidconnect::NonceVerifier::verify(nonce, told),
        _ => Ok(()),
    };
    let claims = parsed.claims(&verifier, nonce).map_err(|error| judged(&error))?;
    let expires = u64::try_from(claims.expiration().timestamp()).unwrap_or_default();
    if let Kind::Id { access: Some(access), .. } = expected.kind
        && let Some(told) = claims.access_token_hash()
    {
        let of = |error: SignatureVerificationError| wrong(error.to_string());
        let (algorithm, key) = (parsed.signing_alg().map_err(of)?, parsed.signing_key(&verifier).map_err(of)?);
        let made = AccessTokenHash::from_token(access, algorithm, key);
        let made = made.map_err(|error| wrong(format!("its at_hash cannot be checked: {error}")))?;
        if made != *told {
            return Err(wrong("its at_hash is not that of the access token that came with it"));
        }
    }
    let claims = payload(token)?;
    further(provider, &claims, expected)?;
    Ok(Verified { claims, expires })
}

fn verifier<'k>(
    provider: &Provider,
    keys: CoreJsonWebKeySet,
    expected: Expected<'_>,
) -> Result<CoreIdTokenVerifier<'k>, TokenError> {
    let issuer = IssuerUrl::new(provider.issuer.clone()).map_err(|error| wrong(error.to_string()))?;
    let skew = provider.skew.as_secs();
    // An expired token counts as long as the clocks may differ; so the time is set back for that question.
    let judged_at = instant(expected.now.saturating_sub(skew))?;
    let newest = instant(expected.now.saturating_add(skew))?;
    let audience = provider.audience.clone();
    // The client's own name comes first; a workload's token is for others, and its audience is looked at afterwards.
    let verifier = CoreIdTokenVerifier::new_public_client(ClientId::new(provider.client_id.clone()), issuer, keys)
        .set_allowed_algs(provider.algorithms.iter().filter_map(|name| algorithm(name)))
        .set_allowed_jose_types(jose_types(expected.kind))
        .set_other_audience_verifier_fn(move |one| audience.iter().any(|known| **one == *known))
        .require_audience_match(matches!(expected.kind, Kind::Id { .. }))
        .set_time_fn(move || judged_at)
        .set_issue_time_verifier_fn(move |issued| {
            let why = || "it was issued in the future: is the clock of this host right?".to_owned();
            (issued <= newest).then_some(()).ok_or_else(why)
        });
    let Some(age) = provider.max_age.filter(|_| matches!(expected.kind, Kind::Id { .. })) else { return Ok(verifier) };
    let oldest = instant(expected.now.saturating_sub(age.saturating_add(Duration::from_secs(skew)).as_secs()))?;
    Ok(verifier.set_auth_time_verifier_fn(move |told| match told {
        Some(told) if told >= oldest => Ok(()),
        Some(_) => Err("the person has proven who they are longer ago than `max_age` allows".into()),
        None => Err("it does not say when the person has proven who they are, which `max_age` needs".into()),
    }))
}

/// An access token of a person must not be taken for an ID token; a workload's may be one.
fn jose_types(kind: Kind<'_>) -> Vec<openidconnect::NormalizedJsonWebTokenType> {
    let types: &[&str] = match kind {
        Kind::Id { .. } => &["JWT", "JOSE"],
        Kind::Workload => &["JWT", "JOSE", "at+jwt"],
    };
    types.iter().filter_map(|name| JsonWebTokenType::new((*name).to_owned()).normalize().ok()).collect()
}

/// What the library leaves to us.
pub(super) fn further(provider: &Provider, claims: &Claims, expected: Expected<'_>) -> Result<(), TokenError> {
    let latest = expected.now.saturating_add(provider.skew.as_secs());
    match claims.get("nbf") {
        None | Some(Value::Null) => {}
        Some(not_before) if not_before.as_f64().is_some_and(|at| at <= seconds(latest)) => {}
        Some(_) => return Err(wrong("it does not count yet (nbf)")),
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    match expected.kind {
        Kind::Id { .. } => {
            let party = claims.get("azp").and_then(Value::as_str);
            match party {
                Some(party) if party != provider.client_id => {
                    Err(wrong(format!("it was issued to {party} (azp), not to us")))
                }
                None if audiences.len() > 1 => {
                    Err(wrong("it is for several audiences and does not say to whom it was issued (azp)"))
                }
                _ => Ok(()),
            }
        }
        Kind::Workload => {
            let own = [provider.client_id.clone()];
            let wanted = if provider.audience.is_empty() { own.as_slice() } else { provider.audience.as_slice() };
            let why = || wrong(format!("it is for {}, and not for {}", audiences.join(", "), wanted.join(", ")));
            wanted.iter().any(|audience| audiences.contains(&audience.as_str())).then_some(()).ok_or_else(why)
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 have 31 bits, and a double has room for 53")]
fn seconds(time: u64) -> f64 {
    time as f64
}

fn instant(seconds: u64) -> Result<DateTime<Utc>, TokenError> {
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.ok_or_else(|| wrong("the clock of this host is not set"))
}

/// The claims as they stand in a token that was verified.
fn payload(token: &str) -> Result<Claims, TokenError> {
    let middle = token.trim().split('.').nth(1).unwrap_or_default();
    let bytes =
        BASE64_URL_SAFE_NO_PAD.decode(middle.trim_end_matches('=')).map_err(|_| wrong("its claims are no base64"))?;
    serde_json::from_slice(&bytes).map_err(|_| wrong("its claims are no object"))
}

pub(super) fn algorithm(name: &str) -> Option<CoreJwsSigningAlgorithm> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

/// A token that cannot be read at all; says which of the usual reasons it is, and nothing of its content.
fn unreadable(token: &str, error: &serde_json::Error) -> TokenError {
    let header = token.trim().split('.').next().and_then(|head| BASE64_URL_SAFE_NO_PAD.decode(head).ok());
    let header: Option<Claims> = header.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let name = header.as_ref().and_then(|header| header.get("alg")).and_then(Value::as_str);
    let is_known = |name: &str| {
        let value = || Value::String(name.to_owned());
        let encrypted = serde_json::from_value::<CoreJweContentEncryptionAlgorithm>(value()).is_ok();
        algorithm(name).is_some() || encrypted
    };
    match name {
        _ if token.trim().split('.').count() != 3 => wrong("it is no signed JWT"),
        Some(name) if !is_known(name) => {
            wrong(format!("its algorithm \"{}\" is not one that counts", name.escape_default()))
        }
        // The reader names the claim that is wrong (`missing field`), never a value.
        _ => wrong(format!("it cannot be read: {}", error.to_string().split(" at line").next().unwrap_or_default())),
    }
}

/// The library's judgement in our words. What it says of itself shows issuer, audience and algorithm only.
fn judged(error: &ClaimsVerificationError) -> TokenError {
    use SignatureVerificationError as Signature;
    match error {
        ClaimsVerificationError::SignatureVerification(signature) => match signature {
            Signature::NoMatchingKey | Signature::AmbiguousKeyId(_) | Signature::CryptoError(_) => {
                TokenError::Key(signature.to_string().to_lowercase())
            }
            Signature::NoSignature => wrong("it is not signed"),
            other => wrong(format!("its signature does not count: {other}")),
        },
        // Both times are told by the same word.
        ClaimsVerificationError::Expired(why) if why.contains("in the future") => wrong(why.clone()),
        ClaimsVerificationError::Expired(_) => wrong("it has expired"),
        ClaimsVerificationError::InvalidNonce(why) => wrong(format!("it is not the answer to this log-in ({why})")),
        other => wrong(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
