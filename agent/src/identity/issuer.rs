//! One identity provider: what it says of itself, its keys, and what is asked of it.
//!
//! Owns the copy of its discovery document and keys, and how often they are fetched. Never keeps a token.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::CoreJsonWebKeySet;
use openidconnect::http::header::{ACCEPT, AUTHORIZATION};
use openidconnect::http::{HeaderValue, Request};
use openidconnect::{AsyncHttpClient as _, HttpResponse};
use tokio::sync::Mutex;

use super::document::{self, Document};
use super::http::{Http, HttpError};
use super::token::{self, Expected, TokenError, Verified};
use super::{file, svid};
use crate::config::oidc::Provider;

/// How long a discovery document is believed.
const DISCOVERY_LIFE: Duration = Duration::from_hours(1);

/// How long an older one is used on where the provider does not give a newer one.
const DISCOVERY_REST: Duration = Duration::from_secs(20);

/// Keys are fetched again for an unknown signature at most so often …
const KEYS_FETCHED_MAX: usize = 3;

/// … within so long: tokens that anybody can make up must not make us a hammer on the provider.
const KEYS_WINDOW: Duration = Duration::from_secs(30);

/// A provider that does not do what is asked of it.
#[derive(Clone, Debug, thiserror::Error)]
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
            // By a key that is not told yet, or that may not be asked for just now: nothing is known of the token, good or bad.
            Self::Token { source, .. } => !matches!(source, TokenError::Key(_)),
            Self::Down { .. } | Self::Unusable { .. } | Self::Secret { .. } => false,
        }
    }
}

/// What is known of a provider.
#[derive(Debug)]
struct Known {
    document: Arc<Document>,
    keys: CoreJsonWebKeySet,
    until: Instant,
}

/// What its last answers were.
#[derive(Debug, Default)]
struct Memory {
    known: Option<Known>,
    failed: Option<(Instant, IssuerError)>,
}

/// One identity provider.
#[derive(Debug)]
pub struct Issuer {
    /// What the configuration says of it.
    pub config: Provider,
    pub(super) http: Http,
    memory: Mutex<Memory>,
    fetched: std::sync::Mutex<VecDeque<Instant>>,
}

impl Issuer {
    /// One that has not been asked anything yet.
    #[must_use]
    pub fn new(config: Provider) -> Self {
        let http = Http::new(config.ca.clone());
        Self { config, http, memory: Mutex::default(), fetched: std::sync::Mutex::default() }
    }

    pub(super) fn down(&self, why: impl std::fmt::Display) -> IssuerError {
        IssuerError::Down { name: self.config.name.clone(), why: why.to_string() }
    }

    pub(super) fn unusable(&self, why: impl std::fmt::Display) -> IssuerError {
        IssuerError::Unusable { name: self.config.name.clone(), why: why.to_string() }
    }

    /// The discovery document, an hour old at most; an older one where the provider does not answer.
    ///
    /// # Errors
    /// When there is none, or it is another issuer's.
    pub async fn document(&self) -> Result<Arc<Document>, IssuerError> {
        if self.config.jwks_file.is_some() {
            let why = "it offers no log-in for persons: its keys are a file (`jwks_file`), and it vouches for workloads alone";
            return Err(self.unusable(why));
        }
        let asked = Instant::now();
        let mut memory = self.memory.lock().await;
        if let Some(known) = memory.known.as_ref().filter(|known| Instant::now() < known.until) {
            return Ok(known.document.clone());
        }
        // Whoever waited while somebody else's question failed need not wait for another one.
        if let Some((_, error)) = memory.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        match self.discover().await {
            Ok((document, keys)) => {
                let document = Arc::new(document);
                let known = Known { document: document.clone(), keys, until: Instant::now() + DISCOVERY_LIFE };
                *memory = Memory { known: Some(known), failed: None };
                Ok(document)
            }
            Err(error) => {
                if let Some(known) = memory.known.as_mut() {
                    known.until = Instant::now() + DISCOVERY_REST;
                    return Ok(known.document.clone());
                }
                memory.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn discover(&self) -> Result<(Document, CoreJsonWebKeySet), IssuerError> {
        let issuer = &self.config.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
        let told = self.told(&url, "application/json", "discovery").await?;
        let document = Document::parse(&told, issuer).map_err(|why| self.unusable(why))?;
        let keys = self.fetch_keys(&document).await?;
        Ok((document, keys))
    }

    async fn fetch_keys(&self, document: &Document) -> Result<CoreJsonWebKeySet, IssuerError> {
        // Kubernetes answers 406 to whoever wants plain JSON.
        let wanted = "application/jwk-set+json, application/json";
        let told = self.told(&document.jwks_uri, wanted, "a question for its keys").await?;
        document::keys(&told).map_err(|why| self.unusable(why))
    }

    /// What it tells whoever asks, or whoever shows the token that is configured for that.
    async fn told(&self, url: &str, wanted: &'static str, what: &str) -> Result<Vec<u8>, IssuerError> {
        let mut request = Request::get(url).header(ACCEPT, HeaderValue::from_static(wanted));
        if let Some(path) = &self.config.discovery_token {
            let token =
                file::read_token(path).await.map_err(|why| self.unusable(format!("`discovery_token`: {why}")))?;
            request = request.header(AUTHORIZATION, self.bearer(&token)?);
        }
        let answer = self.ask(request).await?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            status @ (401 | 403) if self.config.discovery_token.is_none() => Err(self.down(format!(
                "{status} in answer to {what}: does it tell that only to whoever shows a token (`discovery_token`)?"
            ))),
            status => Err(self.down(format!("{status} in answer to {what}: is `issuer` right?"))),
        }
    }

    /// A header that no log of the library shows.
    fn bearer(&self, token: &str) -> Result<HeaderValue, IssuerError> {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| self.unusable("a token of it cannot be shown: it has blanks or worse"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn ask(&self, request: openidconnect::http::request::Builder) -> Result<HttpResponse, IssuerError> {
        let request = request.body(Vec::new()).map_err(|_| self.unusable("it has an endpoint that is no URL"))?;
        self.http.call(request).await.map_err(|error: HttpError| self.down(error))
    }

    /// Judges a token; where no known key has signed it, the provider is asked for new ones.
    ///
    /// # Errors
    /// Why it does not count, or cannot be judged.
    pub async fn verify(&self, token: &str, expected: Expected<'_>) -> Result<Verified, IssuerError> {
        let wrong = |source| IssuerError::Token { name: self.config.name.clone(), source };
        if self.config.jwks_file.is_some() {
            let keys = self.keys_of_file().await?;
            let judged = if svid::is_domain(&self.config) {
                svid::verify(&self.config, &keys, token, expected)
            } else {
                token::verify(&self.config, &keys, token, expected)
            };
            return judged.map_err(wrong);
        }
        let document = self.document().await?;
        let keys = self.keys().await.unwrap_or_default();
        match token::verify(&self.config, &keys, token, expected) {
            Err(TokenError::Key(_)) if self.may_fetch() => {
                let keys = self.fetch_keys(&document).await?;
                if let Some(known) = self.memory.lock().await.known.as_mut() {
                    known.keys = keys.clone();
                }
                token::verify(&self.config, &keys, token, expected).map_err(wrong)
            }
            other => other.map_err(wrong),
        }
    }

    /// Read for each token, so that keys which were replaced or taken away do not count any more.
    async fn keys_of_file(&self) -> Result<CoreJsonWebKeySet, IssuerError> {
        let failed = |why: String| self.unusable(format!("`jwks_file`: {why}"));
        let Some(path) = &self.config.jwks_file else { return Ok(CoreJsonWebKeySet::default()) };
        let bytes = file::read(path, file::Of::Root).await.map_err(failed)?;
        document::bundle(&bytes).map_err(failed)
    }

    async fn keys(&self) -> Option<CoreJsonWebKeySet> {
        self.memory.lock().await.known.as_ref().map(|known| known.keys.clone())
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
        let request = Request::get(url).header(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.ask(request.header(AUTHORIZATION, self.bearer(bearer)?)).await?;
        if !answer.status().is_success() {
            return Err(self.down(format!("{} in answer to userinfo", answer.status())));
        }
        serde_json::from_slice(answer.body())
            .map_err(|_| self.unusable("its userinfo is no JSON (signed userinfo is not read)"))
    }
}
