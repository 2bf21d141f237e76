//! crewtap's own log-in to a target, by every method, against both releases. A relay that only passes the proof on would
//! fail at channel binding.

use std::sync::Arc;

use crewtap::leg::Leg;
use crewtap::proto::postgres::authenticate::{Answer, Login, LoginError, authenticate};
use crewtap::tls::Prefixed;
use crewtap_core::secret::Secret;
use crewtap_core::wire::end_point::end_point;
use crewtap_tests::host::Host;
use crewtap_tests::postgres::{Certificates, DATABASE, PASSWORD, Postgres, Release, user};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One log-in: as whom, with what, over what.
#[derive(Clone, Copy, Debug)]
struct Try {
    user: &'static str,
    password: Option<&'static str>,
    tls: bool,
    clear: bool,
    /// Shows our binding the certificate of somebody else, as a man in the middle would.
    foreign: bool,
}

fn a_try(user: &'static str, tls: bool) -> Try {
    Try { user, password: Some(PASSWORD), tls, clear: false, foreign: false }
}

/// The startup packet of protocol 3.0.
fn startup(user: &str) -> Vec<u8> {
    let words = format!("user\0{user}\0database\0{DATABASE}\0\0");
    let len = u32::try_from(words.len() + 8).unwrap();
    [len.to_be_bytes().as_slice(), &196_608_u32.to_be_bytes(), words.as_bytes()].concat()
}

/// SHA-1 in a certificate is nothing that rustls would take; what is bound is the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn connected(port: u16, tls: bool) -> (Leg, Option<Vec<u8>>) {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if !tls {
        return (Leg::new(tcp), None);
    }
    tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'S');
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().unwrap().dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth();
    let name = ServerName::try_from("pg.target.test").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, Prefixed::new(Vec::new(), tcp)).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (Leg::new(stream), Some(certificate))
}

/// What comes of it, and the first message behind the log-in.
async fn attempt(port: u16, tried: Try) -> Result<(Answer, Option<u8>), LoginError> {
    let (leg, mut certificate) = connected(port, tried.tls).await;
    let mut packet = startup(tried.user);
    while !packet.is_empty() {
        let written = leg.write(&packet).await.unwrap();
        packet.drain(..written);
    }
    leg.flush().await.unwrap();
    if tried.foreign {
        certificate = Some(include_bytes!("../../corpus/certificate/san.der").to_vec());
        assert!(end_point(certificate.as_deref().unwrap()).is_some());
    }
    let secret = tried.password.map(|password| Secret::new(password.into()));
    let (user, readable) = (tried.user, tried.clear || tried.tls);
    let login = Login { user, password: secret.as_ref(), certificate: certificate.as_deref(), readable };
    let answer = authenticate(&leg, &login, None).await?;
    if matches!(answer, Answer::Refused(_)) {
        return Ok((answer, None));
    }
    let mut next = [0];
    std::future::poll_fn(|cx| leg.poll_read(cx, &mut next)).await.unwrap();
    Ok((answer, Some(next[0])))
}

struct Target {
    host: Host,
    server: Postgres,
}

fn target(release: Release, digest: &str) -> Target {
    let host = Host::new();
    let certificates = Certificates::new(&host.path("certificates"));
    let shown = certificates.leaf("pg.target.test", digest);
    let server = Postgres::on(&host).release(release).tls(&shown).start();
    Target { host, server }
}

impl Target {
    fn log_in(&self, tried: Try) -> Result<(Answer, Option<u8>), LoginError> {
        let port = self.server.port();
        let inside = self.host.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(attempt(port, tried))
        });
        inside.join().unwrap()
    }

    #[track_caller]
    fn admits(&self, tried: Try) {
        // `S`: the first ParameterStatus is still there to be relayed.
        let expected = match tried.user {
            user::TRUSTED => "trust",
            user::CLEAR => "password",
            user::MD5 => "md5",
            _ if tried.tls => "scram-sha-256-plus",
            _ => "scram-sha-256",
        };
        let admitted = Answer::Admitted { before: vec![], method: expected };
        assert_eq!(self.log_in(tried).unwrap(), (admitted, Some(b'S')), "{tried:?}");
    }

    #[track_caller]
    fn refuses(&self, tried: Try, code: &str) {
        let (answer, _) = self.log_in(tried).unwrap();
        let Answer::Refused(error) = answer else { panic!("{tried:?}: {answer:?}") };
        let text = String::from_utf8_lossy(&error).into_owned();
        assert!(text.starts_with('E') && text.contains(code), "{tried:?}: {text:?}");
    }
}

#[test]
fn every_method_of_both_releases_lets_us_in() {
    for release in Release::ALL {
        let target = target(release, "sha256");
        for tls in [false, true] {
            target.admits(a_try(user::MD5, tls));
            target.admits(a_try(user::SCRAM, tls));
            target.admits(Try { password: None, ..a_try(user::TRUSTED, tls) });
        }
        target.admits(a_try(user::CLEAR, true));
        target.admits(Try { clear: true, ..a_try(user::CLEAR, false) });
        assert!(matches!(target.log_in(a_try(user::CLEAR, false)), Err(LoginError::Readable(_))));
    }
}

#[test]
fn wrong_passwords_are_refused_in_the_targets_own_words() {
    let target = target(Release::Debian, "sha256");
    for user in [user::MD5, user::SCRAM, user::CLEAR] {
        target.refuses(Try { password: Some("wrong"), ..a_try(user, true) }, "28P01");
    }
    target.refuses(a_try("nobody_here", true), "28");
    let missing = target.log_in(Try { password: None, ..a_try(user::SCRAM, true) });
    assert!(matches!(missing, Err(LoginError::NoPassword(_))));
}

/// The server compares what we bind to with its own certificate, whatever it is signed with.
#[test]
fn the_log_in_is_bound_to_the_targets_certificate() {
    for (release, digest) in [
        (Release::Debian, "sha256"),
        (Release::Debian, "sha384"),
        (Release::Eighteen, "sha512"),
        (Release::Eighteen, "sha1"),
    ] {
        let target = target(release, digest);
        target.admits(a_try(user::SCRAM, true));
        // A proof for another channel is worth nothing: this is what shows that binding was used above.
        target.refuses(Try { foreign: true, ..a_try(user::SCRAM, true) }, "28000");
    }
}
