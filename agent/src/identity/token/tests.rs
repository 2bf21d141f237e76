//! Tokens that are right, and every way in which one can be wrong; signed with real keys.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::needless_pass_by_value, reason = "values are written where they are given")]

use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Digest, Sha256, Sha512};

use super::*;
use crate::config::Config;

const NOW: u64 = 1_800_000_000;

fn provider(more: &str) -> Provider {
    let text = format!("[oidc.corp]\nissuer = 'https://id.example'\nclient_id = 'crewtap'\n{more}");
    Config::parse(&text, Path::new("/c.toml")).unwrap().oidc.remove(0)
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap())
}

fn jwk(seed: u8, kid: &str) -> Value {
    let public = BASE64_URL_SAFE_NO_PAD.encode(key(seed).verifying_key().to_bytes());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": public, "kid": kid, "use": "sig", "alg": "EdDSA" })
}

fn keys(all: &[Value]) -> CoreJsonWebKeySet {
    serde_json::from_value(json!({ "keys": all })).unwrap()
}

fn known() -> CoreJsonWebKeySet {
    keys(&[jwk(1, "one")])
}

fn signed(header: &Value, claims: &Value, seed: u8) -> String {
    let said = format!("{}.{}", encoded(header), encoded(claims));
    let signature = key(seed).sign(said.as_bytes());
    format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn header() -> Value {
    json!({ "alg": "EdDSA", "kid": "one", "typ": "JWT" })
}

fn right() -> Value {
    json!({ "iss": "https://id.example", "aud": "crewtap", "sub": "a1", "exp": NOW + 300, "iat": NOW - 10, "nonce": "n" })
}

/// The right claims with some changed; null takes one away.
fn with(changes: Value) -> Value {
    let mut claims = right();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn judge_as(provider: &Provider, keys: &CoreJsonWebKeySet, token: &str, kind: Kind<'_>) -> Result<Verified, String> {
    verify(provider, keys, token, Expected { kind, now: NOW }).map_err(|error| error.to_string())
}

fn judge(claims: &Value) -> Result<Verified, String> {
    let nonce = Nonce::new("n".into());
    let kind = Kind::Id { nonce: Some(&nonce), access: None };
    judge_as(&provider(""), &known(), &signed(&header(), claims, 1), kind)
}

fn why(changes: Value) -> String {
    judge(&with(changes)).unwrap_err()
}

#[test]
fn a_right_token_counts_and_all_its_claims_are_told() {
    let verified = judge(&with(json!({ "groups": ["sre"] }))).unwrap();
    assert_eq!((verified.expires, &verified.claims["groups"]), (NOW + 300, &json!(["sre"])));
}

#[test]
fn a_token_for_somebody_else_does_not_count() {
    assert!(why(json!({ "aud": "other" })).contains("must contain `crewtap`"));
    assert!(why(json!({ "aud": [] })).contains("must contain"));
    assert!(why(json!({ "aud": null })).contains("must contain"));
    assert!(why(json!({ "aud": ["crewtap", "other"] })).contains("`other` is not a trusted audience"));
    assert!(why(json!({ "azp": "other" })).contains("issued to other (azp)"));
    let trusting = provider("audience = ['api']");
    let both = |azp: Value| {
        let token = signed(&header(), &with(json!({ "aud": ["crewtap", "api"], "azp": azp })), 1);
        judge_as(&trusting, &known(), &token, Kind::Id { nonce: None, access: None })
    };
    assert!(both(json!("crewtap")).is_ok());
    assert!(both(Value::Null).unwrap_err().contains("does not say to whom"));
    assert!(both(json!("api")).unwrap_err().contains("issued to api"));
}

#[test]
fn a_token_of_another_issuer_does_not_count() {
    for other in ["https://evil.example", "https://id.example/", "http://id.example", "https://ID.example"] {
        assert!(why(json!({ "iss": other })).contains("expected `https://id.example`"), "{other}");
    }
    assert!(why(json!({ "iss": null })).contains("missing field `iss`"));
}

#[test]
fn a_token_counts_in_its_time_and_as_long_as_clocks_may_differ() {
    assert!(judge(&with(json!({ "exp": NOW - 59 }))).is_ok());
    assert!(why(json!({ "exp": NOW - 60 })).contains("has expired"));
    assert!(why(json!({ "exp": null })).contains("missing field `exp`"));
    assert!(judge(&with(json!({ "iat": NOW + 60 }))).is_ok());
    assert!(why(json!({ "iat": NOW + 61 })).contains("issued in the future"));
    assert!(judge(&with(json!({ "nbf": NOW + 60 }))).is_ok());
    assert!(why(json!({ "nbf": NOW + 61 })).contains("does not count yet"));
    assert!(why(json!({ "nbf": "now" })).contains("does not count yet"));
}

#[test]
fn the_answer_to_another_log_in_does_not_count() {
    assert!(why(json!({ "nonce": "other" })).contains("nonce mismatch"));
    assert!(why(json!({ "nonce": null })).contains("missing nonce"));
    assert!(why(json!({ "nonce": "" })).contains("nonce mismatch"));
}

#[test]
fn a_person_must_have_proven_it_as_lately_as_was_asked_for() {
    let strict = provider("max_age = '1h'");
    let judge = |auth_time: Value| {
        let token = signed(&header(), &with(json!({ "auth_time": auth_time })), 1);
        judge_as(&strict, &known(), &token, Kind::Id { nonce: None, access: None })
    };
    assert!(judge(json!(NOW - 3600)).is_ok());
    assert!(judge(json!(NOW - 3700)).unwrap_err().contains("longer ago than `max_age`"));
    assert!(judge(Value::Null).unwrap_err().contains("does not say when"));
}

#[test]
fn what_is_not_signed_by_the_provider_does_not_count() {
    let kind = Kind::Id { nonce: None, access: None };
    let judge = |token: &str| judge_as(&provider(""), &known(), token, kind).unwrap_err();
    assert!(judge(&signed(&header(), &right(), 2)).contains("by no key of the provider"));
    let other = json!({ "alg": "EdDSA", "kid": "two" });
    assert!(judge(&signed(&other, &right(), 1)).contains("by no key of the provider (no matching key"));
    let token = signed(&header(), &right(), 1);
    let parts: Vec<&str> = token.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], encoded(&with(json!({ "sub": "root" }))), parts[2]);
    assert!(judge(&swapped).contains("by no key of the provider"));
    let renamed = format!("{}.{}.{}", encoded(&json!({ "alg": "EdDSA", "kid": "one", "x": 1 })), parts[1], parts[2]);
    assert!(judge(&renamed).contains("by no key"));
    for broken in
        [format!("{}.{}.", parts[0], parts[1]), format!("{}.{}", parts[0], parts[1]), String::new(), "a.b.c".into()]
    {
        assert!(!judge(&broken).is_empty());
    }
    let ambiguous = keys(&[jwk(1, "one"), jwk(2, "two")]);
    let unnamed = signed(&json!({ "alg": "EdDSA" }), &right(), 1);
    assert!(judge_as(&provider(""), &ambiguous, &unnamed, kind).unwrap_err().contains("ambiguous"));
}

#[test]
fn none_and_what_the_public_key_signs_do_not_count() {
    let kind = Kind::Id { nonce: None, access: None };
    let judge = |token: &str, keys: &CoreJsonWebKeySet| judge_as(&provider(""), keys, token, kind).unwrap_err();
    for none in ["none", "None", "NONE", "nOnE"] {
        let said = format!("{}.{}", encoded(&json!({ "alg": none, "kid": "one" })), encoded(&right()));
        for signature in ["", "AA"] {
            let why = judge(&format!("{said}.{signature}"), &known());
            assert!(why.contains("not signed") || why.contains("not one that counts"), "{none}: {why}");
        }
    }
    // The confusion of a public key with a shared secret, whatever form of the key is the secret.
    let public = key(1).verifying_key().to_bytes();
    let spelled = jwk(1, "one").to_string();
    for secret in [&public[..], spelled.as_bytes(), b"crewtap"] {
        let said = format!("{}.{}", encoded(&json!({ "alg": "HS256", "kid": "one" })), encoded(&right()));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
        mac.update(said.as_bytes());
        let token = format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        let symmetric = json!({ "kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(secret), "kid": "one", "use": "sig" });
        for keys in [known(), keys(&[symmetric])] {
            assert!(judge(&token, &keys).contains("algorithm `HS256` is not one of"), "{}", judge(&token, &keys));
        }
    }
}

#[test]
fn only_configured_algorithms_count() {
    let token = signed(&header(), &right(), 1);
    let strict = provider("algorithms = ['ES256', 'RS256']");
    let why = judge_as(&strict, &known(), &token, Kind::Id { nonce: None, access: None }).unwrap_err();
    assert!(why.contains("algorithm `EdDSA` is not one of"), "{why}");
}

#[test]
fn a_key_in_the_token_itself_is_not_asked() {
    let header = json!({ "alg": "EdDSA", "kid": "evil", "jwk": jwk(9, "evil"), "jku": "https://evil.example/keys" });
    let kind = Kind::Id { nonce: None, access: None };
    let why = judge_as(&provider(""), &known(), &signed(&header, &right(), 9), kind).unwrap_err();
    assert!(why.contains("by no key of the provider"), "{why}");
    let critical = json!({ "alg": "EdDSA", "kid": "one", "crit": ["b64"], "b64": false });
    let why = judge_as(&provider(""), &known(), &signed(&critical, &right(), 1), kind).unwrap_err();
    assert!(why.contains("critical"), "{why}");
}

#[test]
fn an_access_token_is_no_id_token() {
    let kind = Kind::Id { nonce: None, access: None };
    for typ in ["at+jwt", "application/at+jwt", "logout+jwt", "secevent+jwt"] {
        let header = json!({ "alg": "EdDSA", "kid": "one", "typ": typ });
        let why = judge_as(&provider(""), &known(), &signed(&header, &right(), 1), kind).unwrap_err();
        assert!(why.contains("unsupported JWT type"), "{typ}: {why}");
    }
}

#[test]
fn the_access_token_beside_it_must_be_its_own() {
    let access = AccessToken::new("the access token".into());
    // EdDSA hashes with SHA-512; the left half counts.
    let half = BASE64_URL_SAFE_NO_PAD.encode(&Sha512::digest("the access token")[..32]);
    let kind = Kind::Id { nonce: None, access: Some(&access) };
    let judge = |claims: &Value| judge_as(&provider(""), &known(), &signed(&header(), claims, 1), kind);
    assert!(judge(&with(json!({ "at_hash": half }))).is_ok());
    let other = BASE64_URL_SAFE_NO_PAD.encode(&Sha512::digest("another")[..32]);
    assert!(judge(&with(json!({ "at_hash": other }))).unwrap_err().contains("at_hash"));
    assert!(judge(&right()).is_ok(), "it is optional in this flow");
}

#[test]
fn a_workloads_token_is_for_a_configured_audience() {
    let k8s = provider("audience = ['crewtap-hosts']");
    let judge = |provider: &Provider, audience: Value, header: &Value| {
        let claims = with(json!({ "aud": audience, "sub": "system:serviceaccount:crew:runner", "nonce": null }));
        judge_as(provider, &known(), &signed(header, &claims, 1), Kind::Workload)
    };
    assert!(judge(&k8s, json!(["crewtap-hosts", "other"]), &header()).is_ok());
    assert!(judge(&k8s, json!("other"), &header()).unwrap_err().contains("it is for other, and not for crewtap-hosts"));
    assert!(judge(&k8s, json!("crewtap"), &header()).is_err(), "another audience is configured");
    assert!(judge(&provider(""), json!("crewtap"), &header()).is_ok());
    assert!(judge(&k8s, json!("crewtap-hosts"), &json!({ "alg": "EdDSA", "kid": "one", "typ": "at+jwt" })).is_ok());
}

#[test]
fn ten_thousand_groups_fit_and_a_token_without_end_does_not() {
    let groups: Vec<String> = (0..10_000).map(|n| format!("6f9619ff-8b86-d011-b42d-{n:012}")).collect();
    assert_eq!(judge(&with(json!({ "groups": groups }))).unwrap().claims["groups"].as_array().unwrap().len(), 10_000);
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    assert!(judge_as(&provider(""), &known(), &long, Kind::Workload).unwrap_err().contains("more than"));
}

#[test]
fn what_is_said_of_a_token_never_shows_it() {
    let token = signed(&header(), &with(json!({ "exp": 1, "email": "alice@secret.example" })), 1);
    let why = judge_as(&provider(""), &known(), &token, Kind::Workload).unwrap_err();
    assert!(!why.contains("secret") && !token.split('.').any(|part| why.contains(part)));
    let odd = format!("{}.{}.AA", encoded(&header()), encoded(&json!({ "iss": 7, "email": "alice@secret.example" })));
    let why = judge_as(&provider(""), &known(), &odd, Kind::Workload).unwrap_err();
    assert!(!why.contains("alice"), "{why}");
}
