//! What is asked of a provider in the course of a login: code, device, renewal, revocation, our own credentials.
//!
//! Never decides who somebody is: tokens go through [`super::token`]. Never keeps what it is given.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crewtap_core::secret::Secret;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreDeviceAuthorizationResponse, CoreErrorResponseType, CoreTokenResponse,
};
use openidconnect::http::Request as HttpRequestBuilder;
use openidconnect::url::form_urlencoded;
use openidconnect::{
    AccessToken, AsyncHttpClient as _, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    DeviceAuthorizationUrl, DeviceCodeErrorResponseType, EndpointNotSet, EndpointSet, ErrorResponse, HttpRequest,
    IssuerUrl, JsonWebKeySet, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RefreshToken, RequestTokenError, Scope, StandardErrorResponse, TokenResponse as _, TokenUrl,
};
use zeroize::Zeroizing;

use super::claims::{self, Claims, Person};
use super::document::Document;
use super::http::HttpError;
use super::issuer::{Issuer, IssuerError};
use super::token::{self, Expected, Kind};
use crate::config::oidc::Auth;
use crate::{clock, vault};

/// A client that can be sent to its provider.
type Ready = CoreClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointNotSet>;

/// How long an access token counts where its provider does not say.
const EXPIRES: Duration = Duration::from_mins(5);

/// Longest pause between two questions about a device code.
const POLL_MAX: Duration = Duration::from_secs(30);

/// What binds an answer to its question.
#[derive(Debug)]
pub struct Asked {
    /// Where the person goes.
    pub url: String,
    /// Comes back with the answer.
    pub state: CsrfToken,
    /// Comes back in the token.
    pub nonce: Nonce,
    /// Shown when the code is redeemed.
    pub verifier: PkceCodeVerifier,
    /// Where the answer goes.
    pub redirect: String,
}

/// Somebody who was vouched for, with what renews it.
#[derive(Debug)]
pub struct Vouched {
    /// Who.
    pub person: Person,
    /// Until when, in seconds since the Unix epoch.
    pub expires: u64,
    /// What renews it, and is revoked.
    pub refresh: Option<Secret>,
    /// What is revoked where nothing renews it.
    pub access: Option<Secret>,
}

/// The answer to a refresh token.
#[derive(Debug)]
pub struct Refreshed {
    /// What renews the login from now on; none where the old one still does.
    pub refresh: Option<Secret>,
    /// What is revoked where nothing renews it.
    pub access: Option<Secret>,
    response: Result<Box<CoreTokenResponse>, IssuerError>,
}

/// What is looked for in an answer that cannot be read.
#[derive(serde::Deserialize)]
struct Rotated {
    refresh_token: Option<String>,
}

fn kept(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

impl Issuer {
    fn token_error<T: ErrorResponse + 'static>(
        &self,
        error: RequestTokenError<HttpError, T>,
        told: impl FnOnce(&T) -> (String, Option<String>),
    ) -> IssuerError {
        match error {
            RequestTokenError::ServerResponse(response) => {
                let (code, text) = told(&response);
                let plain = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect();
                IssuerError::Refused { name: self.config.name.clone(), code: plain(code), text: text.map(plain) }
            }
            RequestTokenError::Request(error) => self.down(error),
            // What could not be read may be a token: it is not told.
            RequestTokenError::Parse(error, _) => {
                self.unusable(format!("its answer cannot be read (at {})", error.path()))
            }
            RequestTokenError::Other(why) => self.unusable(why),
        }
    }

    fn refused(
        &self,
        error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>,
    ) -> IssuerError {
        self.token_error(error, |told| (told.error().to_string(), told.error_description().cloned()))
    }

    async fn secret(&self) -> Result<Option<ClientSecret>, IssuerError> {
        let Some(source) = self.config.secret.clone() else { return Ok(None) };
        let failed = |why: String| IssuerError::Secret { name: self.config.name.clone(), why };
        let read = tokio::task::spawn_blocking(move || vault::read(&source)).await;
        let secret = read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        let text = std::str::from_utf8(secret.expose()).map_err(|_| failed("it is no text".into()))?;
        Ok(Some(ClientSecret::new(text.to_owned())))
    }

    async fn client(&self, document: &Document) -> Result<Ready, IssuerError> {
        let token = document.token_endpoint.clone().ok_or_else(|| self.unusable("it has no token endpoint"))?;
        let token = TokenUrl::new(token).map_err(|error| self.unusable(error))?;
        let issuer = IssuerUrl::new(self.config.issuer.clone()).map_err(|error| self.unusable(error))?;
        let client = CoreClient::new(ClientId::new(self.config.client_id.clone()), issuer, JsonWebKeySet::default())
            .set_token_uri(token)
            .set_auth_type(match self.config.auth {
                Auth::Basic => AuthType::BasicAuth,
                Auth::Post => AuthType::RequestBody,
            });
        Ok(match self.secret().await? {
            Some(secret) => client.set_client_secret(secret),
            None => client,
        })
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.config.scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new)
    }

    /// Begins a login in a browser that comes back to `redirect`.
    ///
    /// # Errors
    /// When the provider does not answer, or cannot do it safely.
    pub async fn authorize(&self, redirect: String) -> Result<Asked, IssuerError> {
        let document = self.document().await?;
        let methods = document.code_challenge_methods_supported.as_ref();
        if methods.is_some_and(|methods| !methods.iter().any(|method| method == "S256")) {
            return Err(self.unusable("it does not support PKCE with S256, without which a stolen code would do"));
        }
        let page = document.login_page().map_err(|why| self.unusable(why))?.to_owned();
        let page = AuthUrl::new(page).map_err(|error| self.unusable(error))?;
        let client = self.client(&document).await?.set_auth_uri(page);
        let back = RedirectUrl::new(redirect.clone()).map_err(|error| self.unusable(error))?;
        let client = client.set_redirect_uri(back);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let mut request = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(self.scopes())
            .set_pkce_challenge(challenge);
        if let Some(age) = self.config.max_age {
            request = request.set_max_age(age);
        }
        let (url, state, nonce) = request.url();
        Ok(Asked { url: url.into(), state, nonce, verifier, redirect })
    }

    /// Redeems the code of a login.
    ///
    /// # Errors
    /// When the provider refuses it, or what it gives does not count.
    pub async fn redeem(&self, asked: Asked, code: String) -> Result<Vouched, IssuerError> {
        let document = self.document().await?;
        let client = self.client(&document).await?;
        let back = RedirectUrl::new(asked.redirect).map_err(|error| self.unusable(error))?;
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .set_redirect_uri(Cow::Owned(back))
            .set_pkce_verifier(asked.verifier);
        let response = request.request_async(&self.http).await.map_err(|error| self.refused(error))?;
        self.vouched(&response, Some(&asked.nonce), None).await
    }

    /// Begins a login on another device.
    ///
    /// # Errors
    /// When the provider does not answer, or has no such flow.
    pub async fn device(&self) -> Result<CoreDeviceAuthorizationResponse, IssuerError> {
        let document = self.document().await?;
        let Some(endpoint) = document.device_authorization_endpoint.clone() else {
            document.login_page().map_err(|why| self.unusable(why))?;
            return Err(self.unusable("it has no device flow: log in without --device"));
        };
        let endpoint = DeviceAuthorizationUrl::new(endpoint).map_err(|error| self.unusable(error))?;
        let client = self.client(&document).await?.set_device_authorization_url(endpoint);
        let request = client.exchange_device_code().add_scopes(self.scopes());
        request.request_async(&self.http).await.map_err(|error| self.refused(error))
    }

    /// Waits until the person has logged in on the other device, as slowly as the provider wants to be asked.
    ///
    /// # Errors
    /// When the person refuses, takes too long, or what the provider gives does not count.
    pub async fn device_token(&self, details: &CoreDeviceAuthorizationResponse) -> Result<Vouched, IssuerError> {
        let document = self.document().await?;
        let client = self.client(&document).await?;
        let request = client.exchange_device_access_token(details).set_max_backoff_interval(POLL_MAX);
        let asked = request.request_async(&self.http, tokio::time::sleep, Some(details.expires_in())).await;
        let response = asked.map_err(|error| {
            self.token_error(error, |told: &StandardErrorResponse<DeviceCodeErrorResponseType>| {
                (told.error().to_string(), told.error_description().cloned())
            })
        })?;
        self.vouched(&response, None, None).await
    }

    /// Shows a refresh token. What comes in its place is told apart from whether the rest of the answer counts: where tokens are
    /// rotated, the old one has ended with this answer, whatever else is in it.
    ///
    /// # Errors
    /// When the provider refuses it, or its answer does not come.
    pub async fn refresh(&self, refresh: &Secret) -> Result<Refreshed, IssuerError> {
        let document = self.document().await?;
        let client = self.client(&document).await?;
        let token = RefreshToken::new(String::from_utf8_lossy(refresh.expose()).into_owned());
        match client.exchange_refresh_token(&token).request_async(&self.http).await {
            Ok(response) => {
                let refresh = response.refresh_token().map(|token| kept(token.secret()));
                let access = Some(kept(response.access_token().secret()));
                Ok(Refreshed { refresh, access, response: Ok(Box::new(response)) })
            }
            Err(RequestTokenError::Parse(error, body)) => {
                let told: Option<Rotated> = serde_json::from_slice(&Zeroizing::new(body)).ok();
                let why = self.refused(RequestTokenError::Parse(error, Vec::new()));
                let refresh = told.and_then(|told| told.refresh_token).map(|token| kept(&Zeroizing::new(token)));
                Ok(Refreshed { refresh, access: None, response: Err(why) })
            }
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Who a renewal is about: this subject, and nobody else.
    ///
    /// # Errors
    /// As [`Issuer::redeem`]; [`IssuerError::is_final`] tells whether it is worth trying again.
    pub async fn renewed(&self, refreshed: Refreshed, subject: &str) -> Result<Vouched, IssuerError> {
        let response = refreshed.response?;
        self.vouched(&response, None, Some(subject)).await
    }

    /// Our own credentials: what the provider says of us.
    ///
    /// # Errors
    /// When it refuses them.
    pub async fn own_credentials(&self) -> Result<Vouched, IssuerError> {
        let document = self.document().await?;
        let client = self.client(&document).await?;
        let mut request = client.exchange_client_credentials();
        for scope in self.scopes().filter(|scope| !matches!(scope.as_str(), "email" | "profile" | "offline_access")) {
            request = request.add_scope(scope);
        }
        for audience in &self.config.audience {
            request = request.add_extra_param("resource", audience).add_extra_param("audience", audience);
        }
        let response = request.request_async(&self.http).await.map_err(|error| self.refused(error))?;
        let token = response.access_token().secret();
        if token.split('.').count() == 3 {
            return self.workload(token).await;
        }
        // It says nothing that we could read; but the provider has taken our credentials for this client's.
        let mut itself = Claims::new();
        itself.insert("sub".into(), self.config.client_id.clone().into());
        let person = claims::person(&self.config, &itself, None).map_err(|error| self.unusable(error))?;
        let lasts = response.expires_in().unwrap_or(EXPIRES);
        Ok(Vouched { person, expires: now().saturating_add(lasts.as_secs()), refresh: None, access: None })
    }

    /// What a workload's token says of it.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn workload(&self, token: &str) -> Result<Vouched, IssuerError> {
        let verified = self.verify(token, Expected { kind: Kind::Workload, now: now() }).await?;
        let mut person = claims::person(&self.config, &verified.claims, None).map_err(|error| self.unusable(error))?;
        person.kubernetes = claims::kubernetes(&verified.claims);
        Ok(Vouched { person, expires: verified.expires, refresh: None, access: None })
    }

    /// Has a token of ours forgotten. False where the provider has no way to do that.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn revoke(&self, refresh: Option<&Secret>, access: Option<&Secret>) -> Result<bool, IssuerError> {
        let document = self.document().await?;
        let Some(endpoint) = document.revocation_endpoint.clone() else { return Ok(false) };
        let (hint, token) = match (refresh, access) {
            // With it, everything that came from it goes, too (RFC 7009, 2.1).
            (Some(refresh), _) => ("refresh_token", refresh),
            (None, Some(access)) => ("access_token", access),
            (None, None) => return Ok(false),
        };
        let request = self.revocation(&endpoint, hint, token).await?;
        let answer = self.http.call(request).await.map_err(|error| self.down(error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(true),
            status => Err(self.unusable(format!("it answers {status} when a token is to be revoked"))),
        }
    }

    /// The library asks only over TLS, whose place loopback may take elsewhere.
    async fn revocation(&self, endpoint: &str, hint: &str, token: &Secret) -> Result<HttpRequest, IssuerError> {
        let secret = self.secret().await?;
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", &String::from_utf8_lossy(token.expose())).append_pair("token_type_hint", hint);
        let mut request =
            HttpRequestBuilder::post(endpoint).header("content-type", "application/x-www-form-urlencoded");
        match (secret, self.config.auth) {
            (Some(secret), Auth::Basic) => {
                let pair = format!("{}:{}", encoded(&self.config.client_id), encoded(secret.secret()));
                request = request.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(pair)));
            }
            (Some(secret), Auth::Post) => {
                form.append_pair("client_id", &self.config.client_id).append_pair("client_secret", secret.secret());
            }
            (None, _) => drop(form.append_pair("client_id", &self.config.client_id)),
        }
        let request = request.body(form.finish().into_bytes());
        request.map_err(|_| self.unusable("its revocation endpoint is no URL"))
    }

    /// What a token response says. `subject` is whom it must be about, where that is known.
    async fn vouched(
        &self,
        response: &CoreTokenResponse,
        nonce: Option<&Nonce>,
        subject: Option<&str>,
    ) -> Result<Vouched, IssuerError> {
        let access = response.access_token();
        let (token, expires) = match response.id_token() {
            Some(token) => {
                let kind = Kind::Id { nonce, access: Some(access) };
                let verified = self.verify(&token.to_string(), Expected { kind, now: now() }).await?;
                (Some(verified.claims), verified.expires)
            }
            // A renewal may come without one; then userinfo says who it is.
            None if subject.is_some() => {
                (None, now().saturating_add(response.expires_in().unwrap_or(EXPIRES).as_secs()))
            }
            None => return Err(self.unusable("it gave no ID token: is the scope \"openid\" allowed for this client?")),
        };
        let about = token.as_ref().and_then(|claims| claims.get("sub")?.as_str()).or(subject).unwrap_or_default();
        let more = match &token {
            Some(claims) if !self.lacks(claims) => None,
            // Groups that nobody tells are not the same as no groups: a policy may forbid what one of them does.
            told => self.userinfo(access, about, told.as_ref().is_none_or(|claims| self.lacks_groups(claims))).await?,
        };
        let described = token.as_ref().or(more.as_ref()).ok_or_else(|| self.unusable("it does not say who it is"))?;
        let person = claims::person(&self.config, described, more.as_ref()).map_err(|error| self.unusable(error))?;
        if subject.is_some_and(|subject| subject != person.subject) {
            // Final: what renews it from here on is another person's.
            let source = token::wrong("it renews the login of one person with another one's");
            return Err(IssuerError::Token { name: self.config.name.clone(), source });
        }
        let refresh = response.refresh_token().map(|token| kept(token.secret()));
        Ok(Vouched { person, expires, refresh, access: Some(kept(access.secret())) })
    }

    /// Whether a token leaves out what userinfo might say.
    fn lacks(&self, token: &Claims) -> bool {
        let config = &self.config;
        self.lacks_groups(token)
            || !token.contains_key("email")
                && (!config.members.is_empty() || config.scopes.iter().any(|one| one == "email"))
            || config.called.as_ref().is_some_and(|claim| !token.contains_key(claim))
    }

    fn lacks_groups(&self, token: &Claims) -> bool {
        let key = self.config.groups.as_ref().and_then(|claim| claim.path.first());
        key.is_some_and(|key| !token.contains_key(key))
    }

    /// What userinfo says of this subject, and of no other (OpenID Connect Core, 5.3.2).
    async fn userinfo(&self, access: &AccessToken, about: &str, needed: bool) -> Result<Option<Claims>, IssuerError> {
        let document = self.document().await?;
        let Some(endpoint) = &document.userinfo_endpoint else { return Ok(None) };
        let told = match self.get_json(endpoint, access.secret()).await {
            Ok(told) => told,
            Err(error) if needed => return Err(error),
            // A name and an address can be done without.
            Err(error) => {
                tracing::warn!(provider = self.config.name, %error, "userinfo");
                return Ok(None);
            }
        };
        match told {
            serde_json::Value::Object(claims)
                if claims.get("sub").and_then(serde_json::Value::as_str) == Some(about) =>
            {
                Ok(Some(claims))
            }
            _ => Err(self.unusable("its userinfo is about somebody else")),
        }
    }
}

/// Seconds since the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    clock::now().wall_ns / 1_000_000_000
}
