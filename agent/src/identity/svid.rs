//! Whether a JWT-SVID counts: a token of SPIFFE, which need not say who issued it, nor when.
//!
//! The way from such a token to claims where the trust domain's keys are a file; every other token goes through
//! [`super::token`]. Pure: never asks anybody, and never shows a token in an error.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey as _;
use openidconnect::core::CoreJsonWebKeySet;
use serde_json::Value;

use super::claims::Claims;
use super::token::{self, Expected, Kind, TOKEN_BYTES_MAX, TokenError, Verified, wrong};
use crate::config::oidc::Provider;

/// What the issuer is called whose keys are those of a trust domain.
const SCHEME: &str = "spiffe://";

/// Whether this provider is a trust domain.
#[must_use]
pub fn is_domain(provider: &Provider) -> bool {
    provider.issuer.starts_with(SCHEME)
}

/// Judges a token by the keys of the provider's trust domain.
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
    let mut parts = token.trim().split('.');
    let (Some(head), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong("it is no signed JWT"));
    };
    let header = object(head).ok_or_else(|| wrong("its header cannot be read"))?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong("its signature is no base64"))?;
    signed(provider, keys, &header, format!("{head}.{body}").as_bytes(), &signature)?;
    let claims = object(body).ok_or_else(|| wrong("its claims are no object"))?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    // The keys prove what their own trust domain says, and nothing of another one's.
    let path = subject.strip_prefix(provider.issuer.as_str()).and_then(|path| path.strip_prefix('/'));
    if path.is_none_or(str::is_empty) {
        let subject = subject.escape_default();
        return Err(wrong(format!("its subject \"{subject}\" is not of the trust domain {}", provider.issuer)));
    }
    let expires = in_time(provider, &claims, expected.now)?;
    token::further(provider, &claims, Expected { kind: Kind::Workload, ..expected })?;
    Ok(Verified { claims, expires })
}

fn object(part: &str) -> Option<Claims> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// By a key of the set, with an algorithm that is configured; whatever the header says beside that.
fn signed(
    provider: &Provider,
    keys: &CoreJsonWebKeySet,
    header: &Claims,
    said: &[u8],
    signature: &[u8],
) -> Result<(), TokenError> {
    let text = |key: &str| header.get(key).map(|value| value.as_str().unwrap_or_default());
    let name = text("alg").unwrap_or_default();
    let algorithm = provider.algorithms.iter().any(|one| one == name).then(|| token::algorithm(name)).flatten();
    let algorithm = algorithm
        .ok_or_else(|| wrong(format!("its algorithm \"{}\" is not one that counts", name.escape_default())))?;
    if text("typ").is_some_and(|kind| !matches!(kind, "JWT" | "JOSE")) || header.contains_key("crit") {
        return Err(wrong("its header asks for something that a JWT-SVID has not"));
    }
    let wanted = text("kid");
    let mut named = keys.keys().iter().filter(|key| match wanted {
        Some(wanted) => key.key_id().is_some_and(|id| id.as_str() == wanted),
        None => true,
    });
    if named.any(|key| key.verify_signature(&algorithm, said, signature).is_ok()) {
        return Ok(());
    }
    Err(TokenError::Key("none of the file signs it".into()))
}

/// When it expires; `exp` must be there, `iat` may be.
fn in_time(provider: &Provider, claims: &Claims, now: u64) -> Result<u64, TokenError> {
    let time = |key: &str| claims.get(key).map(|value| value.as_u64().or_else(|| whole(value.as_f64()?)));
    let expires = time("exp").flatten().ok_or_else(|| wrong("it does not say when it expires"))?;
    let skew = provider.skew.as_secs();
    if expires <= now.saturating_sub(skew) {
        return Err(wrong("it has expired"));
    }
    match time("iat") {
        Some(issued) if issued.is_none_or(|issued| issued > now.saturating_add(skew)) => {
            Err(wrong("it was issued in the future: is the clock of this host right?"))
        }
        _ => Ok(expires),
    }
}

/// Seconds with a fraction count as the second that they are in.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at before")]
fn whole(seconds: f64) -> Option<u64> {
    (seconds.is_finite() && (0.0..1e15).contains(&seconds)).then_some(seconds as u64)
}

#[cfg(test)]
mod tests;
