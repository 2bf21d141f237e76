//! The client's end: crewtap as the TLS server that the captured client meant.
//!
//! Never shows a better certificate than the target's, never agrees on another version or protocol than the target did,
//! never resumes a session (a ticket could cross targets) and takes no early data.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crewtap_core::limits;
use crewtap_core::wire::certificate::SubjectName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::Report;
use super::{HYBRID, Negotiated, Prefixed, alert_in, is_closed, rustls_error};
use crate::authority::{Authority, Dates, Generation, LeafError, LeafSpec, SignedBy};

/// How a client shows that it does not take what it is shown here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// It sent this alert (RFC 8446 section 6.2), `UnknownCA` for instance.
    #[error("it sent the alert {0}")]
    Alert(String),
    /// It offers nothing that this build can do with our leaf, or broke the protocol.
    #[error("no handshake with it: {0}")]
    Incompatible(String),
    /// It closed or reset the connection when it had seen our certificate, before its part of the handshake was done.
    #[error("it closed the connection during the handshake")]
    ClosedInHandshake,
    /// It ended the handshake and closed before it sent a byte: so do clients that judge a certificate afterwards, and
    /// also those that only wanted to know whether somebody is there.
    #[error("it closed the connection after the handshake, without a byte")]
    ClosedAfterHandshake,
}

/// Why a client's TLS was not ended here.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The client does not take it. Where the target's own certificate was verified, this is worth learning.
    #[error("the client rejected the connection: {0}")]
    Rejected(Rejection),
    /// No leaf could be made.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The client took too long.
    #[error("the client's handshake took more than {} s", limits::HANDSHAKE_WAIT.as_secs())]
    Timeout,
    /// The connection failed.
    #[error("the connection to the client failed: {0}")]
    Io(io::Error),
}

/// Ends the client's TLS: `first` is what it has sent already, from the first byte of its hello on; `report` is what the
/// handshake with the target told; `held` is the authority that the run's overlay holds.
///
/// # Errors
/// When there is no TLS connection to the client; it has then been told so as TLS tells it.
pub async fn end<S>(
    authority: &Authority,
    held: Generation,
    report: &Report,
    first: Vec<u8>,
    stream: S,
) -> Result<ClientStream<S>, EndError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let leaf = authority.leaf(&leaf_for(report, held))?;
    let config = config(&report.negotiated, leaf)
        .map_err(|error| EndError::Rejected(Rejection::Incompatible(error.to_string())))?;
    let accept = TlsAcceptor::from(Arc::new(config)).accept(Prefixed::new(first, stream));
    let stream = match tokio::time::timeout(limits::HANDSHAKE_WAIT, accept).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(end_error(error)),
        Err(_) => return Err(EndError::Timeout),
    };
    let negotiated = Negotiated::of(stream.get_ref().1);
    Ok(ClientStream { stream, negotiated, heard: false, rejection: None })
}

/// The leaf that stands for the target: signed by whom the client trusts only where the target's own issuer is one that the
/// process trusts, and with the target's own names and dates where it is not verified.
fn leaf_for(report: &Report, held: Generation) -> LeafSpec {
    let signed_by = if report.validity.has_known_issuer() { SignedBy::Trusted { held } } else { SignedBy::Untrusted };
    let certificate = report.certificate.clone().unwrap_or_default();
    let mut names = certificate.names;
    let mut dates = report
        .certificate
        .as_ref()
        .map(|_| Dates { not_before: certificate.not_before, not_after: certificate.not_after });
    if report.validity.is_verified() {
        dates = None;
        let own =
            report.name.parse::<IpAddr>().map_or_else(|_| SubjectName::Dns(report.name.clone()), SubjectName::Address);
        if !names.contains(&own) {
            names.insert(0, own);
        }
    }
    LeafSpec { names, common_name: certificate.common_name, dates, signed_by }
}

fn config(target: &Negotiated, leaf: Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    // The target's own choice: the client offered it, since no other versions than the client's were offered.
    let version = if target.version == "TLSv1_2" { &version::TLS12 } else { &version::TLS13 };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&HYBRID))
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = target.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn end_error(error: io::Error) -> EndError {
    match rejection_in(&error) {
        Some(rejection) => EndError::Rejected(rejection),
        None if is_closed(&error) => EndError::Rejected(Rejection::ClosedInHandshake),
        None => EndError::Io(error),
    }
}

/// What the client or its bytes said against us; none where the connection just failed.
fn rejection_in(error: &io::Error) -> Option<Rejection> {
    match (alert_in(error), rustls_error(error)?) {
        (Some(alert), _) => Some(Rejection::Alert(format!("{alert:?}"))),
        (None, other) => Some(Rejection::Incompatible(other.to_string())),
    }
}

/// The client's bytes in clear.
#[derive(Debug)]
pub struct ClientStream<S> {
    stream: TlsStream<Prefixed<S>>,
    negotiated: Negotiated,
    heard: bool,
    rejection: Option<Rejection>,
}

impl<S> ClientStream<S> {
    /// What was agreed on with the client.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Whether the client has turned out not to take our leaf: known once the first read has ended, since an alert may
    /// come after the handshake. None once it has sent a byte.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// The client has sent data: it takes our leaf.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// The connection below.
    pub fn get_ref(&self) -> &S {
        self.stream.get_ref().0.get_ref()
    }

    /// The connection below, to end it beneath TLS.
    pub fn get_mut(&mut self) -> &mut S {
        self.stream.get_mut().0.get_mut()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (into.filled().len(), into.remaining());
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, into));
        if into.filled().len() > before {
            self.heard = true;
        } else if !self.heard && self.rejection.is_none() && room > 0 {
            self.rejection = match &result {
                Ok(()) => Some(Rejection::ClosedAfterHandshake),
                Err(error) if is_closed(error) => Some(Rejection::ClosedAfterHandshake),
                Err(error) => rejection_in(error),
            };
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
