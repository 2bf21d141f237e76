//! The target's end: crewtap as a TLS client that offers what the captured client offered.
//!
//! Never fails because of what a certificate says: that is judged, reported and mirrored. The handshake's signature is
//! always checked, so that the certificate is that of whoever holds its key. Never shows a certificate of its own.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crewtap_core::limits;
use crewtap_core::wire::certificate::{self, Certificate};
use crewtap_core::wire::tls::ClientHello;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::RawPublicKeyEntity;

use super::roots::Anchors;
use super::validity::{self, Validity};
use super::{Negotiated, alert_in, is_closed, provider_for, rustls_error, versions_for};

/// Whom to reach, and how the captured client would have.
#[derive(Debug)]
pub struct Target<'a> {
    /// Host name that the certificate must be for; none where the client knows only the address.
    pub name: Option<&'a str>,
    /// The address, which the certificate must be for where there is no name.
    pub address: IpAddr,
    /// What the client sent: its versions, protocols and kinds of key exchange are offered, its name only if it sent one.
    pub hello: &'a ClientHello,
    /// The roots of the host and of the configuration: what they vouch for is proven.
    pub anchors: Arc<Anchors>,
    /// The bundles that the captured process brings itself. What only they vouch for the client may see as valid, as it
    /// would have; it proves nothing to anybody else, because the process chooses them.
    pub own: Arc<Anchors>,
    /// What is shown where the target asks for a certificate.
    pub shown: Option<Shown>,
}

/// A certificate of crewtap's own for one target of the catalog.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The certificate's chain and its key.
    pub key: Arc<CertifiedKey>,
    /// SHA-256 of certificates that the target may have without being vouched for.
    pub pins: Vec<[u8; 32]>,
}

impl Shown {
    /// Reads a chain and its key (PEM).
    ///
    /// # Errors
    /// In words, when they are not what they should be; never with a part of the key.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("there is no certificate (PEM) in it")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "there is no private key (PEM) in it")?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| format!("certificate and key: {error}"))
    }
}

/// What the handshake with a target told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What was agreed on.
    pub negotiated: Negotiated,
    /// The name or address that the certificate was judged for.
    pub name: String,
    /// SHA-256 of the target's certificate.
    pub certificate_sha256: [u8; 32],
    /// What the certificate says; none where it cannot be read.
    pub certificate: Option<Certificate>,
    /// What the captured process would have found.
    pub validity: Validity,
    /// The host's own roots, or those of the configuration, vouch for it: the name is proven.
    pub proven: bool,
    /// The target asked for a certificate, which only the client has: it must talk with the target itself.
    pub wants_client_certificate: bool,
    /// The target asked for a certificate, and has seen the one that the catalog has for it.
    pub has_seen_ours: bool,
}

/// Why a handshake with a target failed. The client would have failed too, unless it can do what this build cannot.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct HandshakeError {
    /// What went wrong.
    pub reason: Failure,
    /// The target had asked for a client certificate before: it must be reached without us.
    pub wants_client_certificate: bool,
}

/// What went wrong in a handshake with a target.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No certificate can be for this name.
    #[error("`{0}` is no name for a certificate")]
    Name(String),
    /// The target refused with an alert.
    #[error("the target sent the alert {0}")]
    Alert(String),
    /// The target closed or reset the connection.
    #[error("the target closed the connection during the handshake: {0}")]
    Closed(io::Error),
    /// The target took too long.
    #[error("the target's handshake took more than {} s", limits::HANDSHAKE_WAIT.as_secs())]
    Timeout,
    /// The target's TLS cannot be spoken here, or it broke the protocol.
    #[error("no handshake with the target: {0}")]
    Protocol(String),
    /// The connection failed.
    #[error("the connection to the target failed: {0}")]
    Io(io::Error),
}

/// Shakes hands with the target over `stream`.
///
/// # Errors
/// When there is no TLS connection; never for what the certificate says.
pub async fn handshake<S>(stream: S, target: &Target<'_>) -> Result<(TlsStream<S>, Report), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let plain = |reason| HandshakeError { reason, wants_client_certificate: false };
    let name = server_name(target).map_err(plain)?;
    let provider = provider_for(target.hello);
    let judge = Arc::new(Judge {
        provider: Arc::clone(&provider),
        anchors: Arc::clone(&target.anchors),
        own: Arc::clone(&target.own),
        name: name.clone(),
        judged: OnceLock::new(),
    });
    let asked = Arc::new(Asked {
        judge: Arc::clone(&judge),
        shown: target.shown.clone(),
        none: false.into(),
        ours: false.into(),
    });
    let config = config(provider, target.hello, Arc::clone(&judge), Arc::clone(&asked)).map_err(plain)?;
    let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let result = tokio::time::timeout(limits::HANDSHAKE_WAIT, connect).await;
    let wants_client_certificate = asked.none.load(Ordering::Relaxed);
    let failed = |reason| HandshakeError { reason, wants_client_certificate };
    let stream = match result {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(failure(error))),
        Err(_) => return Err(failed(Failure::Timeout)),
    };
    let Some(judged) = judge.judged.get().cloned() else {
        return Err(failed(Failure::Protocol("the target showed no certificate".into())));
    };
    let report = Report {
        negotiated: Negotiated::of(stream.get_ref().1),
        name: judge.name.to_str().into_owned(),
        certificate_sha256: judged.sha256,
        certificate: judged.certificate,
        validity: judged.validity,
        proven: judged.proven,
        wants_client_certificate,
        has_seen_ours: asked.ours.load(Ordering::Relaxed),
    };
    Ok((stream, report))
}

fn server_name(target: &Target<'_>) -> Result<ServerName<'static>, Failure> {
    let Some(name) = target.name else { return Ok(ServerName::IpAddress(target.address.to_canonical().into())) };
    ServerName::try_from(name.to_owned()).map_err(|_| Failure::Name(name.to_owned()))
}

fn config(
    provider: Arc<CryptoProvider>,
    hello: &ClientHello,
    judge: Arc<Judge>,
    asked: Arc<Asked>,
) -> Result<ClientConfig, Failure> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions_for(hello))
        .map_err(|error| Failure::Protocol(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_client_cert_resolver(asked);
    config.enable_sni = hello.sni.is_some();
    // A ticket of one client's session must not open another's, and the certificate is to be seen each time.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = hello.spoken().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn failure(error: io::Error) -> Failure {
    if let Some(alert) = alert_in(&error) {
        return Failure::Alert(format!("{alert:?}"));
    }
    match rustls_error(&error) {
        Some(error) => Failure::Protocol(error.to_string()),
        None if is_closed(&error) => Failure::Closed(error),
        None => Failure::Io(error),
    }
}

/// Shows the catalog's certificate to a target that has proven itself, and says where one was asked for that there is not.
#[derive(Debug)]
struct Asked {
    judge: Arc<Judge>,
    shown: Option<Shown>,
    none: AtomicBool,
    ours: AtomicBool,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The target's own certificate is judged before: a credential is never shown to one that nobody vouches for.
        let judged = self.judge.judged.get();
        let may_see =
            |shown: &&Shown| judged.is_some_and(|judged| judged.proven || shown.pins.contains(&judged.sha256));
        let shown = self.shown.as_ref().filter(may_see);
        let told = if shown.is_some() { &self.ours } else { &self.none };
        told.store(true, Ordering::Relaxed);
        shown.map(|shown| Arc::clone(&shown.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
struct Judged {
    sha256: [u8; 32],
    certificate: Option<Certificate>,
    validity: Validity,
    proven: bool,
}

/// Judges the certificate and lets the handshake go on.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    anchors: Arc<Anchors>,
    own: Arc<Anchors>,
    name: ServerName<'static>,
    judged: OnceLock<Judged>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = certificate::read(leaf);
        let judge = |anchors| validity::judge(leaf, intermediates, certificate.as_ref(), &self.name, anchors, now);
        let by_host = judge(&self.anchors);
        let proven = by_host.is_verified();
        let validity = if by_host.has_known_issuer() || self.own.is_empty() {
            by_host
        } else {
            let by_process = judge(&self.own);
            if by_process.has_known_issuer() { by_process } else { by_host }
        };
        let judged = Judged { sha256: Sha256::digest(leaf).into(), certificate, validity, proven };
        // Asked once in a handshake; a second answer would be for the same certificate.
        let _ = self.judged.set(judged);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, algorithms)
            .or_else(|error| self.by_key(message, leaf, signed, error))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, algorithms)
            .or_else(|error| self.by_key(message, leaf, signed, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Judge {
    /// Checks the handshake's signature by the public key alone, where the certificate around it is one that webpki does
    /// not read (version 1, odd extensions): a client that checks nothing talks to such servers.
    fn by_key(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        error: rustls::Error,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad_signature = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
        if webpki::EndEntityCert::try_from(leaf).is_ok() || error == bad_signature {
            return Err(error);
        }
        let key = certificate::public_key(leaf).map(SubjectPublicKeyInfoDer::from).ok_or(error)?;
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| bad_signature.clone())?;
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let mut algorithms = mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme).flat_map(|(_, all)| *all);
        algorithms
            .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok())
            .then(HandshakeSignatureValid::assertion)
            .ok_or(bad_signature)
    }
}
