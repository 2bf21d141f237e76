//! The webhook: every question that begins to wait is posted, signed, to who is configured.
//!
//! Never holds anybody up, and never sends what is in clear. What cannot be delivered is noted, and waits as it did.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crewtap_core::secret::Secret;
use crewtap_core::view::hexadecimal;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Daemon;
use crate::approvals::{Page, Waiting};
use crate::clock;
use crate::config::approvals::WebhookConfig;
use crate::tls::roots::SYSTEM_BUNDLES;
use crate::vault;

/// Pauses between the attempts to deliver: about a minute in all.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(7),
    Duration::from_secs(15),
    Duration::from_secs(30),
];

/// How long one attempt may take.
const ATTEMPT_WAIT: Duration = Duration::from_secs(10);

/// Deliveries under way at one time; what comes beyond is noted and not sent.
const DELIVERIES_MAX: usize = 32;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What is posted.
#[derive(Serialize)]
struct Posted<'w> {
    event: &'static str,
    #[serde(flatten)]
    waiting: &'w Waiting,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    content: Page,
}

impl Daemon {
    /// Posts every question as it begins to wait. Without a webhook it never does anything.
    pub(super) async fn tell_webhook(&self) {
        let Some(config) = &self.config.approvals.webhook else { return std::future::pending().await };
        let mut changes = self.approvals.changes();
        let (mut told, mut deliveries) = (HashSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return std::future::pending().await },
                Some(delivered) = deliveries.join_next() => {
                    if let Ok(Err(failed)) = delivered {
                        self.recorder.note("webhook_failed", failed);
                    }
                    continue;
                }
            }
            let waiting = self.approvals.waiting();
            told.retain(|id| waiting.iter().any(|one| one.id == *id));
            for one in waiting {
                if !told.insert(one.id.clone()) {
                    continue;
                }
                if deliveries.len() >= DELIVERIES_MAX {
                    let text = format!("approval {} was not posted: {DELIVERIES_MAX} deliveries are under way", one.id);
                    self.recorder.note("webhook_full", text);
                    continue;
                }
                // Answered in this very moment: nobody needs to be told.
                let Ok(content) = self.approvals.shown(&one.id, 0) else { continue };
                let link = config.link.as_ref().map(|link| link.replace("{id}", &one.id));
                let posted = Posted { event: "asked", waiting: &one, link, content };
                let body = Bytes::from(serde_json::to_vec(&posted).unwrap_or_default());
                deliveries.spawn(deliver(config.clone(), self.config.tls_authorities.clone(), one.id, body));
            }
        }
    }
}

/// Tries until it is taken. The sentence says what the last attempt met, and never what the URL or the secret is.
async fn deliver(
    config: WebhookConfig,
    authorities: Vec<std::path::PathBuf>,
    id: String,
    body: Bytes,
) -> Result<(), String> {
    let mut pauses = PAUSES.iter();
    loop {
        let attempt = tokio::time::timeout(ATTEMPT_WAIT, post(&config, &authorities, body.clone())).await;
        let failed = match attempt {
            Ok(Ok(status)) if status.is_success() => return Ok(()),
            Ok(Ok(status)) => format!("it answered {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it took more than {} s", ATTEMPT_WAIT.as_secs()),
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => {
                return Err(format!("approval {id} could not be posted to the webhook: {failed}"));
            }
        }
    }
}

/// Signs anew for every attempt, so that the receiver can refuse what is old.
async fn post(config: &WebhookConfig, authorities: &[std::path::PathBuf], body: Bytes) -> io::Result<StatusCode> {
    let source = config.secret.clone();
    let secret = tokio::task::spawn_blocking(move || vault::read(&source)).await?.map_err(io::Error::other)?;
    let seconds = clock::now().wall_ns / 1_000_000_000;
    let signature = signature(&secret, seconds, &body)?;
    drop(secret);
    let url = &config.url;
    let (host, is_tls) = (url.host().unwrap_or_default(), url.scheme_str() == Some("https"));
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority(url))
        .header(USER_AGENT, concat!("crewtap/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_LENGTH, body.len())
        .header("X-Crewtap-Timestamp", seconds)
        .header("X-Crewtap-Signature", signature)
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await?;
    if !is_tls {
        return send(stream, request).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(authorities)?));
    send(connector.connect(name, stream).await?, request).await
}

/// The host and port that were configured, as a `Host` field has them.
fn authority(url: &Uri) -> String {
    url.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default()
}

/// `sha256=` and the HMAC over the time, a point and the body.
fn signature(secret: &Secret, seconds: u64, body: &[u8]) -> io::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).map_err(io::Error::other)?;
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    Ok(format!("sha256={}", hexadecimal(&mac.finalize().into_bytes())))
}

/// The host's roots, and those of the configuration.
fn tls(authorities: &[std::path::PathBuf]) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let bundle = SYSTEM_BUNDLES.iter().map(std::path::PathBuf::from).find(|path| path.is_file());
    for path in bundle.iter().chain(authorities) {
        let certificates = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        // Read, so that the receiver is not cut off; of no interest.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(status)
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answered = &mut exchange => return answered,
        // An answer may have come before its end, however that was: it counts.
        ended = connection => drop(ended),
    }
    exchange.await
}

#[cfg(test)]
mod tests;
