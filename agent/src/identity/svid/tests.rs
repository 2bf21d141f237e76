//! JWT-SVIDs that are right, and every way in which one can be wrong; signed with real keys.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::needless_pass_by_value, reason = "values are written where they are given")]

use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::*;
use crate::config::Config;
use crate::identity::document::bundle;

const NOW: u64 = 1_800_000_000;

fn provider(more: &str) -> Provider {
    let text = format!(
        "[oidc.spire]\nissuer = 'spiffe://example.org'\nclient_id = 'crewtap'\njwks_file = '/b'\n{more}\n[oidc.spire.workload]\ntoken_file = '/t'"
    );
    Config::parse(&text, Path::new("/c.toml")).unwrap().oidc.remove(0)
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn keys() -> CoreJsonWebKeySet {
    let jwk = |seed: u8, kid: &str, key_use: &str| {
        let public = BASE64_URL_SAFE_NO_PAD.encode(key(seed).verifying_key().to_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": public, "kid": kid, "use": key_use })
    };
    let all = json!({ "keys": [jwk(1, "one", "jwt-svid"), jwk(2, "two", "jwt-svid"), jwk(3, "three", "x509-svid")] });
    bundle(all.to_string().as_bytes()).unwrap()
}

fn signed(header: Value, changes: Value, seed: u8) -> String {
    let mut claims = json!({ "sub": "spiffe://example.org/crew", "aud": ["crewtap"], "exp": NOW + 300 });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    let said = format!("{}.{}", encoded(&header), encoded(&claims));
    format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(key(seed).sign(said.as_bytes()).to_bytes()))
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": "one", "typ": "JWT" })
}

fn judge(token: &str) -> Result<Verified, String> {
    let expected = Expected { kind: Kind::Workload, now: NOW };
    verify(&provider(""), &keys(), token, expected).map_err(|error| error.to_string())
}

fn why(changes: Value) -> String {
    judge(&signed(header(), changes, 1)).unwrap_err()
}

#[test]
fn a_right_one_counts_whether_or_not_it_says_who_issued_it_and_when() {
    let verified = judge(&signed(header(), json!({}), 1)).unwrap();
    assert_eq!((verified.expires, verified.claims["sub"].as_str()), (NOW + 300, Some("spiffe://example.org/crew")));
    assert!(judge(&signed(header(), json!({ "iat": NOW, "iss": "https://oidc.example.org" }), 1)).is_ok());
    assert!(judge(&signed(json!({ "alg": "EdDSA" }), json!({ "aud": "crewtap" }), 2)).is_ok(), "kid need not be there");
}

#[test]
fn one_of_another_trust_domain_is_not_proven_by_these_keys() {
    for subject in [
        json!("spiffe://example.com/crew"),
        json!("spiffe://example.org.evil/crew"),
        json!("spiffe://example.org"),
        json!("spiffe://example.org/"),
        json!("system:serviceaccount:crew:runner"),
        json!(7),
        Value::Null,
    ] {
        assert!(why(json!({ "sub": subject })).contains("not of the trust domain"), "{subject}");
    }
}

#[test]
fn one_counts_in_its_time_and_for_its_audience() {
    assert!(judge(&signed(header(), json!({ "exp": NOW - 59 }), 1)).is_ok());
    assert!(why(json!({ "exp": NOW - 60 })).contains("has expired"));
    for never in [Value::Null, json!("soon"), json!(-1), json!(1e300)] {
        assert!(why(json!({ "exp": never })).contains("does not say when it expires"), "{never}");
    }
    assert!(why(json!({ "iat": NOW + 61 })).contains("in the future"));
    assert!(why(json!({ "iat": "then" })).contains("in the future"));
    assert!(why(json!({ "nbf": NOW + 61 })).contains("does not count yet"));
    for other in [json!("other"), json!(["other"]), json!([]), json!(7), Value::Null] {
        assert!(why(json!({ "aud": other })).contains("not for crewtap"), "{other}");
    }
}

#[test]
fn one_that_no_key_for_tokens_has_signed_does_not_count() {
    for (head, seed) in [
        (header(), 2),
        (header(), 9),
        (json!({ "alg": "EdDSA" }), 9),
        (json!({ "alg": "EdDSA", "kid": "three" }), 3),
        (json!({ "alg": "EdDSA", "kid": "no such key" }), 1),
        (json!({ "alg": "EdDSA", "kid": 7 }), 1),
    ] {
        assert!(judge(&signed(head.clone(), json!({}), seed)).unwrap_err().contains("by no key"), "{head} {seed}");
    }
    let token = signed(header(), json!({}), 1);
    let parts: Vec<&str> = token.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], encoded(&json!({ "sub": "spiffe://example.org/root" })), parts[2]);
    assert!(judge(&swapped).unwrap_err().contains("by no key"));
    for broken in
        ["", "a.b", "a.b.c", "a.b.c.d", &format!("{}.{}.", parts[0], parts[1]), &"x".repeat(TOKEN_BYTES_MAX + 1)]
    {
        assert!(judge(broken).is_err());
    }
}

#[test]
fn none_what_is_not_configured_and_what_a_public_key_signs_do_not_count() {
    for name in ["none", "None", "HS256", "ES256K", ""] {
        let why = judge(&signed(json!({ "alg": name, "kid": "one" }), json!({}), 1)).unwrap_err();
        assert!(why.contains("not one that counts"), "{name}: {why}");
    }
    let said = format!("{}.{}", encoded(&json!({ "alg": "HS256", "kid": "one" })), encoded(&json!({ "sub": "x" })));
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(1).verifying_key().to_bytes()).unwrap();
    mac.update(said.as_bytes());
    let token = format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    assert!(judge(&token).unwrap_err().contains("not one that counts"));
    let expected = Expected { kind: Kind::Workload, now: NOW };
    let strict = provider("algorithms = ['ES256']");
    let why = verify(&strict, &keys(), &signed(header(), json!({}), 1), expected).unwrap_err().to_string();
    assert!(why.contains("\"EdDSA\" is not one that counts"), "{why}");
    // The right key, by an algorithm that is not its.
    let rsa = json!({ "alg": "RS256", "kid": "one" });
    assert!(judge(&signed(rsa, json!({}), 1)).unwrap_err().contains("by no key"));
}

#[test]
fn a_header_that_asks_for_more_is_refused_and_nothing_of_a_token_is_shown() {
    for more in [json!({ "typ": "at+jwt" }), json!({ "typ": 7 }), json!({ "crit": ["b64"] })] {
        let mut head = header();
        for (name, value) in more.as_object().unwrap() {
            head[name] = value.clone();
        }
        assert!(judge(&signed(head, json!({}), 1)).unwrap_err().contains("has not"), "{more}");
    }
    let token = signed(header(), json!({ "exp": 1, "email": "alice@secret.example" }), 1);
    let why = judge(&token).unwrap_err();
    assert!(!why.contains("secret") && !token.split('.').any(|part| why.contains(part)));
}
