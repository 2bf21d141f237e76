//! What a provider says of itself: its discovery document, and its keys.
//!
//! Pure: bytes in, a document or a sentence. Asks for no more than what is needed, because those who vouch for workloads alone
//! (Kubernetes, SPIRE) say no more; never takes the document of another issuer.

use openidconnect::core::CoreJsonWebKeySet;
use openidconnect::url::Url;
use serde::Deserialize;
use serde_json::Value;

/// Letters of what a provider says that are told where something is wrong with it.
const SHOWN: usize = 200;

/// A discovery document.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    authorization_endpoint: Option<String>,
    /// Where codes, refresh tokens and credentials are shown.
    pub token_endpoint: Option<String>,
    /// Who somebody is, by an access token.
    pub userinfo_endpoint: Option<String>,
    /// RFC 8628.
    pub device_authorization_endpoint: Option<String>,
    /// RFC 7009.
    pub revocation_endpoint: Option<String>,
    /// RFC 9207: answers say whose they are.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// RFC 7636.
    pub code_challenge_methods_supported: Option<Vec<String>>,
}

impl Document {
    /// The document of this issuer.
    ///
    /// # Errors
    /// A sentence, when it is none, or another issuer's.
    pub fn parse(bytes: &[u8], issuer: &str) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("its discovery document cannot be read: {}", short(&error)))?;
        if document.issuer != issuer {
            let other = short(&document.issuer.escape_default());
            return Err(format!("its discovery document is another issuer's: {other} instead of {issuer}"));
        }
        Ok(document)
    }

    /// The page where a person logs in.
    ///
    /// # Errors
    /// A sentence, where nobody can.
    pub fn login_page(&self) -> Result<&str, String> {
        // SPIRE's is an empty text, and Amazon's clusters have `urn:kubernetes:programmatic_authorization`.
        let page = self.authorization_endpoint.as_deref().filter(|page| !page.is_empty());
        let page = page.ok_or("it offers no log-in for persons: it vouches for workloads alone (`workload`)")?;
        // It is shown to a person, who opens it.
        match Url::parse(page) {
            Ok(url) if matches!(url.scheme(), "https" | "http") => Ok(page),
            _ => Err("it offers no log-in for persons: its authorization endpoint is no web page".into()),
        }
    }
}

/// Keys of a provider. Those that cannot be read are left out.
///
/// # Errors
/// A sentence, when it is no set of keys.
pub fn keys(bytes: &[u8]) -> Result<CoreJsonWebKeySet, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("its keys cannot be read: {}", short(&error)))
}

/// What is wrong can be told with what was found there, which may be of any length.
fn short(what: &impl std::fmt::Display) -> String {
    what.to_string().chars().take(SHOWN).collect()
}

/// Keys of a trust bundle of SPIFFE: those that sign tokens, and not those of certificates.
///
/// # Errors
/// A sentence, when it is no set of keys.
pub fn bundle(bytes: &[u8]) -> Result<CoreJsonWebKeySet, String> {
    // The file may be another one than was meant: nothing of it is told.
    let wrong = |error: serde_json::Error| format!("it is no set of keys (line {})", error.line());
    let mut whole: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    if let Some(all) = whole.get_mut("keys").and_then(Value::as_array_mut) {
        for key in all.iter_mut().filter_map(Value::as_object_mut) {
            if key.get("use").and_then(Value::as_str) == Some("jwt-svid") {
                key.insert("use".into(), "sig".into());
            }
        }
    }
    serde_json::from_value(whole).map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use openidconnect::JsonWebKey as _;
    use serde_json::json;

    use super::*;

    /// As an API server says it.
    fn kubernetes() -> Value {
        json!({
            "issuer": "https://kubernetes.default.svc.cluster.local",
            "jwks_uri": "https://10.194.230.72:6443/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    fn parse(document: &Value) -> Result<Document, String> {
        Document::parse(document.to_string().as_bytes(), "https://kubernetes.default.svc.cluster.local")
    }

    #[test]
    fn who_vouches_for_workloads_alone_is_understood_and_offers_no_login() {
        let api_server = parse(&kubernetes()).unwrap();
        assert_eq!(api_server.jwks_uri, "https://10.194.230.72:6443/openid/v1/jwks");
        assert!(api_server.login_page().unwrap_err().contains("offers no log-in"));
        for none in ["", "urn:kubernetes:programmatic_authorization", "javascript:alert(1)", "/login"] {
            let mut document = kubernetes();
            document["authorization_endpoint"] = none.into();
            assert!(parse(&document).unwrap().login_page().unwrap_err().contains("offers no log-in"), "{none}");
        }
        let mut document = kubernetes();
        document["authorization_endpoint"] = "https://id.example/login".into();
        assert_eq!(parse(&document).unwrap().login_page(), Ok("https://id.example/login"));
    }

    #[test]
    fn another_issuers_document_and_none_at_all_are_not_believed() {
        for other in ["https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local/", ""] {
            let mut document = kubernetes();
            document["issuer"] = other.into();
            assert!(parse(&document).unwrap_err().contains("another issuer's"), "{other}");
        }
        for missing in ["issuer", "jwks_uri"] {
            let mut document = kubernetes();
            document.as_object_mut().unwrap().remove(missing);
            assert!(parse(&document).unwrap_err().contains(missing));
        }
        assert!(Document::parse(b"<html>", "https://id.example").is_err());
        for long in ["issuer", "response_types_supported", "authorization_response_iss_parameter_supported"] {
            let mut document = kubernetes();
            document[long] = "x".repeat(1_000_000).into();
            assert!(parse(&document).err().is_none_or(|why| why.len() < 400), "{long}");
        }
    }

    #[test]
    fn a_bundle_has_keys_for_tokens_and_keys_for_certificates() {
        let key =
            |kid: &str, key_use: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": kid, "use": key_use });
        let text =
            json!({ "spiffe_sequence": 1, "keys": [key("a", "jwt-svid"), key("b", "x509-svid"), { "kty": "odd" }] });
        let found = bundle(text.to_string().as_bytes()).unwrap();
        let signs = |kid: &str| {
            let key = found.keys().iter().find(|key| key.key_id().is_some_and(|id| **id == *kid)).unwrap();
            key.key_use() == Some(&openidconnect::core::CoreJsonWebKeyUse::Signature)
        };
        assert_eq!((found.keys().len(), signs("a"), signs("b")), (2, true, false));
        assert!(bundle(b"{}").is_err() && bundle(b"[]").is_err());
        assert!(!bundle(b"\"hunter2\"").unwrap_err().contains("hunter2"));
    }
}
