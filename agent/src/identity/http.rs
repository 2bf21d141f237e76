//! The requests of the relying party, over the TLS that is here anyway.
//!
//! Never follows a redirect, never keeps a connection, and never shows what it sent: bodies hold secrets.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::limits::{PROVIDER_ANSWER_BYTES_MAX, PROVIDER_WAIT};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::vault::store::BUNDLES;

/// A provider that does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// It cannot be reached.
    #[error("{host} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Its certificate, or the handshake.
    #[error("no TLS with {host}: {source}")]
    Tls {
        /// Host and port.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("{host} took longer than {} s", PROVIDER_WAIT.as_secs())]
    Late {
        /// Host and port.
        host: String,
    },
    /// It says too much.
    #[error("{host} answered more than {PROVIDER_ANSWER_BYTES_MAX} bytes")]
    TooLarge {
        /// Host and port.
        host: String,
    },
    /// What it says is no HTTP.
    #[error("{host} does not speak HTTP: {why}")]
    Malformed {
        /// Host and port.
        host: String,
        /// Why.
        why: String,
    },
    /// The address is none that is asked.
    #[error("\"{0}\" is not asked: it must be https://, or http:// to an address of loopback")]
    Address(String),
}

/// Asks one provider.
#[derive(Clone, Debug)]
pub struct Http {
    /// The authority of its certificate; the host's own where none is named.
    ca: Option<PathBuf>,
}

impl Http {
    /// A client that trusts this authority, or the host's.
    #[must_use]
    pub fn new(ca: Option<PathBuf>) -> Self {
        Self { ca }
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let place = Place::of(request.uri())?;
        let host = place.authority.clone();
        let asked = self.ask_place(place, request);
        tokio::time::timeout(PROVIDER_WAIT, asked).await.map_err(|_| HttpError::Late { host })?
    }

    async fn ask_place(&self, place: Place, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = || place.authority.clone();
        let request = prepared(&place, request)?;
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await;
        let stream = stream.map_err(|source| HttpError::Unreachable { host: host(), source })?;
        if !place.secure {
            return exchange(stream, request, host()).await;
        }
        let tls = |source| HttpError::Tls { host: host(), source };
        let ca = self.ca.clone();
        // Read for each request: an authority that was exchanged counts at once.
        let config = tokio::task::spawn_blocking(move || client_config(ca.as_deref()));
        let config = config.await.map_err(io::Error::other).and_then(|config| config).map_err(tls)?;
        let name = ServerName::try_from(place.host.clone()).map_err(io::Error::other).map_err(tls)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        exchange(connector.connect(name, stream).await.map_err(tls)?, request, host()).await
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}

/// Whom a URL leads to.
struct Place {
    secure: bool,
    host: String,
    port: u16,
    authority: String,
}

impl Place {
    fn of(url: &Uri) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(url.authority().map_or_else(|| "no URL".into(), ToString::to_string));
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback => false,
            _ => return Err(wrong()),
        };
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host, port, authority: authority.as_str().to_owned() })
    }
}

/// The request as it goes over the connection.
fn prepared(place: &Place, request: HttpRequest) -> Result<Request<Full<Bytes>>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    parts.uri = path.parse().map_err(|_| HttpError::Address(place.authority.clone()))?;
    let host = HeaderValue::from_str(&place.authority).map_err(|_| HttpError::Address(place.authority.clone()))?;
    parts.headers.insert(HOST, host);
    parts.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("crewtap/", env!("CARGO_PKG_VERSION"))));
    Ok(Request::from_parts(parts, Full::new(Bytes::from(body))))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, host: String) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let malformed = |error: hyper::Error| HttpError::Malformed { host: host.clone(), why: error.to_string() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(malformed)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(malformed)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, PROVIDER_ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return HttpError::TooLarge { host: host.clone() };
            }
            HttpError::Malformed { host: host.clone(), why: error.to_string() }
        })?;
        Ok(HttpResponse::from_parts(parts, body.to_bytes().to_vec()))
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => return answer,
        // An answer may have come before its end, however that was: it counts.
        ended = connection => drop(ended),
    }
    answered.await
}

/// Trusts one authority, or those of the host.
fn client_config(ca: Option<&Path>) -> io::Result<ClientConfig> {
    let bundle = ca.map(Path::to_path_buf).or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    let bundle = bundle.ok_or_else(|| io::Error::other("the host has no authorities: name them as `ca`"))?;
    let read = CertificateDer::pem_file_iter(&bundle);
    let read = read.map_err(|error| io::Error::other(format!("{}: {error}", bundle.display())))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(read.filter_map(Result::ok));
    if added == 0 {
        return Err(io::Error::other(format!("{} holds no certificate", bundle.display())));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
}
