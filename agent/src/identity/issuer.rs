//! One identity provider: what it says of itself, its keys, and what is asked of it.
//!
//! Owns the copy of its discovery document and keys, and how often they are fetched. Never keeps a token.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode,
    CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, AsyncHttpClient, DiscoveryError, HttpRequest, IssuerUrl, JsonWebKeySet,
    ProviderMetadata,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::http::{Http, HttpError};
use super::token::{self, Expected, TokenError, Verified};
use crate::config::oidc::Provider;

/// How long a discovery document is believed.
const DISCOVERY_LIFE: Duration = Duration::from_hours(1);

/// Keys are fetched again for an unknown signature at most so often …
const KEYS_FETCHED_MAX: usize = 3;

/// … within so long: tokens that anybody can make up must not make us a hammer on the provider.
const KEYS_WINDOW: Duration = Duration::from_secs(30);

/// What the discovery document says beyond OpenID Connect Discovery.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Beyond {
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

impl AdditionalProviderMetadata for Beyond {}

/// A discovery document.
pub type Metadata = ProviderMetadata<
    Beyond,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// A provider that does not do what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// It does not answer, or not as a provider does.
    #[error("the identity provider {name} does not answer: {why}")]
    Down {
        /// Its name in the configuration.
        name: String,
        /// Why.
        why: String,
    },
    /// What it says of itself cannot be.
    #[error("the identity provider {name} cannot be used: {why}")]
    Unusable {
        /// Its name in the configuration.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// It says no.
    #[error("the identity provider {name} refuses: {code}{}", .text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Its name in the configuration.
        name: String,
        /// The error's code.
        code: String,
        /// What it says of it.
        text: Option<String>,
    },
    /// The token that it gave does not count.
    #[error("a token of {name} does not count: {source}")]
    Token {
        /// Its name in the configuration.
        name: String,
        /// Why.
        source: TokenError,
    },
    /// Our own secret.
    #[error("the secret of the client at {name}: {why}")]
    Secret {
        /// Its name in the configuration.
        name: String,
        /// Why.
        why: String,
    },
}

impl IssuerError {
    /// Whether it says that what we hold does not count any more, rather than that nobody answers.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code == "invalid_grant",
            Self::Token { .. } => true,
            Self::Down { .. } | Self::Unusable { .. } | Self::Secret { .. } => false,
        }
    }
}

/// What is known of a provider.
#[derive(Debug)]
struct Known {
    metadata: Arc<Metadata>,
    keys: CoreJsonWebKeySet,
    at: Instant,
}

/// One identity provider.
#[derive(Debug)]
pub struct Issuer {
    /// What the configuration says of it.
    pub config: Provider,
    pub(super) http: Http,
    known: Mutex<Option<Known>>,
    fetched: std::sync::Mutex<VecDeque<Instant>>,
}

impl Issuer {
    /// One that has not been asked anything yet.
    #[must_use]
    pub fn new(config: Provider) -> Self {
        let http = Http::new(config.ca.clone());
        Self { config, http, known: Mutex::new(None), fetched: std::sync::Mutex::default() }
    }

    pub(super) fn down(&self, why: impl std::fmt::Display) -> IssuerError {
        IssuerError::Down { name: self.config.name.clone(), why: why.to_string() }
    }

    pub(super) fn unusable(&self, why: impl std::fmt::Display) -> IssuerError {
        IssuerError::Unusable { name: self.config.name.clone(), why: why.to_string() }
    }

    fn discovered(&self, error: DiscoveryError<HttpError>) -> IssuerError {
        match error {
            DiscoveryError::Request(error) => self.down(error),
            DiscoveryError::Response(status, ..) => {
                self.down(format!("{status} in answer to discovery: is `issuer` right?"))
            }
            DiscoveryError::Parse(error) => {
                self.unusable(format!("its discovery document or keys cannot be read: {error}"))
            }
            DiscoveryError::Validation(why) => {
                self.unusable(format!("its discovery document is another issuer's: {why}"))
            }
            other => self.unusable(other),
        }
    }

    /// The discovery document, an hour old at most; an older one where the provider does not answer.
    ///
    /// # Errors
    /// When there is none, or it is another issuer's.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, IssuerError> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < DISCOVERY_LIFE) {
            return Ok(known.metadata.clone());
        }
        let url = IssuerUrl::new(self.config.issuer.clone()).map_err(|error| self.unusable(error))?;
        match Metadata::discover_async(url, &self.http).await {
            Ok(metadata) => {
                let keys = metadata.jwks().clone();
                let metadata = Arc::new(metadata);
                *known = Some(Known { metadata: metadata.clone(), keys, at: Instant::now() });
                Ok(metadata)
            }
            Err(error) => match known.as_ref() {
                Some(known) => Ok(known.metadata.clone()),
                None => Err(self.discovered(error)),
            },
        }
    }

    /// Judges a token; where no known key has signed it, the provider is asked for new ones.
    ///
    /// # Errors
    /// Why it does not count, or cannot be judged.
    pub async fn verify(&self, token: &str, expected: Expected<'_>) -> Result<Verified, IssuerError> {
        let metadata = self.metadata().await?;
        let keys = self.keys().await.unwrap_or_default();
        let wrong = |source| IssuerError::Token { name: self.config.name.clone(), source };
        match token::verify(&self.config, &keys, token, expected) {
            Err(TokenError::Key(_)) if self.may_fetch() => {
                let fetched = JsonWebKeySet::fetch_async(metadata.jwks_uri(), &self.http).await;
                let keys: CoreJsonWebKeySet = fetched.map_err(|error| self.discovered(error))?;
                if let Some(known) = self.known.lock().await.as_mut() {
                    known.keys = keys.clone();
                }
                token::verify(&self.config, &keys, token, expected).map_err(wrong)
            }
            other => other.map_err(wrong),
        }
    }

    async fn keys(&self) -> Option<CoreJsonWebKeySet> {
        self.known.lock().await.as_ref().map(|known| known.keys.clone())
    }

    /// Counts a fetch of keys, unless there were too many.
    fn may_fetch(&self) -> bool {
        let mut fetched = self.fetched.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while fetched.front().is_some_and(|at| at.elapsed() >= KEYS_WINDOW) {
            fetched.pop_front();
        }
        if fetched.len() >= KEYS_FETCHED_MAX {
            return false;
        }
        fetched.push_back(Instant::now());
        true
    }

    /// Asks for JSON with a bearer's token.
    pub(super) async fn get_json(&self, url: &str, bearer: &str) -> Result<serde_json::Value, IssuerError> {
        let request = openidconnect::http::Request::get(url)
            .header("accept", "application/json")
            .header("authorization", format!("Bearer {bearer}"))
            .body(Vec::new());
        let request: HttpRequest = request.map_err(|_| self.unusable("it has an endpoint that is no URL"))?;
        let answer = self.http.call(request).await.map_err(|error| self.down(error))?;
        if !answer.status().is_success() {
            return Err(self.down(format!("{} in answer to userinfo", answer.status())));
        }
        serde_json::from_slice(answer.body())
            .map_err(|_| self.unusable("its userinfo is no JSON (signed userinfo is not read)"))
    }
}
