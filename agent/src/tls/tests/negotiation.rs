//! What the two handshakes agree on, and how they fail.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crewtap_core::wire::tls::{ClientHello, TLS_1_2, TLS_1_3};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::lab::{ByteByByte, NAME, Pki, Proxy, Server, Shown, leaf_params, read_hello};
use crate::authority::{Authority, Trusted};
use crate::tls::client::{self, Failure, Report, Target};
use crate::tls::roots::Roots;
use crate::tls::server::{self, ClientStream, EndError, Rejection};
use crate::tls::{CLASSIC, HYBRID, is_hybrid};

/// `openssl s_client`, which says what it agreed on.
fn s_client(address: SocketAddr, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-servername", NAME]).args(more);
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn version_and_protocol_are_the_targets_choice_from_the_clients_offer() {
    let pki = Pki::new();
    let directory = pki.directory.path();
    let shown = pki.leaf(&leaf_params(), true);
    for (server, client, version) in [
        (&["-alpn", "http/1.1"][..], &["-alpn", "h2,http/1.1"][..], "TLSv1.3"),
        (&["-alpn", "http/1.1", "-tls1_2"], &["-alpn", "http/1.1"], "TLSv1.2"),
        (&["-alpn", "http/1.1"], &["-alpn", "http/1.1", "-tls1_2"], "TLSv1.2"),
        (&[], &["-alpn", "http/1.1"], "TLSv1.3"),
        (&["-alpn", "http/1.1"], &[], "TLSv1.3"),
    ] {
        let server = Server::start(directory, &shown, server);
        let proxy = Proxy::start(directory, &pki.root_file(), server.address, Some(NAME));
        let said = s_client(proxy.address, client);
        let direct = s_client(server.address, client);
        let alpn = if direct.contains("ALPN protocol: http/1.1") { "ALPN protocol: http/1.1" } else { "No ALPN" };
        assert!(said.contains(&format!("New, {version}, Cipher is")) && said.contains(alpn), "{client:?}: {said}");
        let seen = proxy.next();
        let (target, client) = (seen.target.unwrap().negotiated, seen.client.unwrap().unwrap());
        assert_eq!((&target.version, &target.alpn), (&client.version, &client.alpn));
        assert_eq!(target.version, version.replace('.', "_"));
        assert_eq!(target.alpn.as_deref(), (alpn != "No ALPN").then_some("http/1.1"));
        assert!(!target.cipher_suite.is_empty() && !target.group.is_empty(), "{target:?}");
    }
}

#[test]
fn a_target_that_asks_for_a_client_certificate_is_noticed() {
    let pki = Pki::new();
    let directory = pki.directory.path();
    let shown = pki.leaf(&leaf_params(), true);
    for arguments in [
        ["-verify", "1", "-tls1_3"],
        ["-Verify", "1", "-tls1_3"],
        ["-verify", "1", "-tls1_2"],
        ["-Verify", "1", "-tls1_2"],
    ] {
        let server = Server::start(directory, &shown, &arguments);
        let proxy = Proxy::start(directory, &pki.root_file(), server.address, Some(NAME));
        s_client(proxy.address, &[]);
        let wants = match proxy.next().target {
            Ok(report) => report.wants_client_certificate,
            Err(error) => {
                assert!(matches!(error.reason, Failure::Alert(_)), "{error}");
                error.wants_client_certificate
            }
        };
        assert!(wants, "{arguments:?}");
    }
    let server = Server::start(directory, &shown, &[]);
    let proxy = Proxy::start(directory, &pki.root_file(), server.address, Some(NAME));
    s_client(proxy.address, &[]);
    assert!(!proxy.next().target.unwrap().wants_client_certificate);
}

#[test]
fn a_target_that_cannot_be_spoken_with_is_told_apart_from_one_that_is_gone() {
    let pki = Pki::new();
    let directory = pki.directory.path();
    let shown = pki.leaf(&leaf_params(), true);
    let server = Server::start(directory, &shown, &["-tls1_2"]);
    let proxy = Proxy::start(directory, &pki.root_file(), server.address, Some(NAME));
    s_client(proxy.address, &["-tls1_3"]);
    let error = proxy.next().target.unwrap_err();
    assert!(matches!(&error.reason, Failure::Alert(alert) if alert == "ProtocolVersion"), "{error}");
    let gone = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = Proxy::start(directory, &pki.root_file(), gone.local_addr().unwrap(), Some(NAME));
    let closes = std::thread::spawn(move || drop(gone.accept().unwrap()));
    s_client(proxy.address, &[]);
    closes.join().unwrap();
    let error = proxy.next().target.unwrap_err();
    assert!(matches!(error.reason, Failure::Closed(_)), "{error}");
}

/// A target in this process, with all key exchange groups.
fn target_config(shown: &Shown) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(shown.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn client_config(provider: &Arc<CryptoProvider>, roots: &str) -> ClientConfig {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots.as_bytes()).map(Result::unwrap));
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(store).with_no_client_auth()
}

struct Bench {
    pki: Pki,
    target: Arc<ServerConfig>,
    authority: Authority,
    trusted: Trusted,
    roots: Roots,
}

impl Bench {
    fn new() -> Self {
        let pki = Pki::new();
        let target = target_config(&pki.leaf(&leaf_params(), true));
        let authority = Authority::open(&pki.directory.path().join("authority")).unwrap();
        let trusted = authority.trusted().unwrap();
        let roots = Roots::system(vec![pki.root_file()]);
        Self { pki, target, authority, trusted, roots }
    }

    /// Reads the hello from `client`, shakes hands with the target, then with the client.
    async fn open<S>(&self, mut client: S) -> (Report, Result<ClientStream<S>, EndError>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (first, hello) = read_hello(&mut client).await;
        let (near, far) = duplex(64 * 1024);
        let accept = TlsAcceptor::from(Arc::clone(&self.target)).accept(far);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let target = Target {
            name: Some(NAME),
            address,
            hello: &hello,
            anchors: self.roots.with(&[]),
            own: Arc::default(),
            shown: None,
        };
        let (upstream, accepted) = tokio::join!(client::handshake(near, &target), accept);
        accepted.unwrap();
        let (_, report) = upstream.unwrap();
        let ended = server::end(&self.authority, self.trusted.generation, &report, first, client).await;
        (report, ended)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

#[tokio::test]
async fn hybrid_key_exchange_is_offered_exactly_where_the_client_offers_it() {
    let bench = Bench::new();
    for (provider, group) in [(&*HYBRID, "X25519MLKEM768"), (&*CLASSIC, "X25519")] {
        let connector = TlsConnector::from(Arc::new(client_config(provider, &bench.trusted.pem)));
        let (near, far) = duplex(64 * 1024);
        let (client, (report, ended)) = tokio::join!(connector.connect(name(), near), bench.open(far));
        let client = client.unwrap();
        assert_eq!(
            client.get_ref().1.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
            Some(group.into())
        );
        assert_eq!(report.negotiated.group, group);
        assert_eq!(ended.unwrap().negotiated().group, group);
    }
    assert!(!CLASSIC.kx_groups.is_empty() && HYBRID.kx_groups.iter().any(|group| is_hybrid(group.name())));
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_taken() {
    let bench = Bench::new();
    let connector = TlsConnector::from(Arc::new(client_config(&HYBRID, &bench.trusted.pem)));
    let (near, far) = duplex(64 * 1024);
    let (client, (report, ended)) =
        tokio::join!(connector.connect(name(), ByteByByte(near)), bench.open(ByteByByte(far)));
    assert!(report.validity.is_verified());
    let (mut client, mut ended) = (client.unwrap(), ended.unwrap());
    let (mut got, said) = ([0; 4], b"ping");
    let ((), read) = tokio::join!(
        async {
            client.write_all(said).await.unwrap();
            client.flush().await.unwrap();
        },
        ended.read_exact(&mut got)
    );
    read.unwrap();
    assert_eq!((&got, ended.heard(), ended.rejection()), (said, true, None));
}

#[tokio::test]
async fn a_client_that_does_not_trust_us_is_seen_to_reject() {
    let bench = Bench::new();
    let roots = std::fs::read_to_string(bench.pki.root_file()).unwrap();
    let connector = TlsConnector::from(Arc::new(client_config(&HYBRID, &roots)));
    let (near, far) = duplex(64 * 1024);
    let (client, (_, ended)) = tokio::join!(connector.connect(name(), near), bench.open(far));
    assert!(client.is_err());
    assert!(matches!(ended, Err(EndError::Rejected(Rejection::Alert(alert))) if alert == "UnknownCA"));
}

#[tokio::test]
async fn a_close_is_seen_in_the_handshake_and_after_it() {
    let bench = Bench::new();
    let config = Arc::new(client_config(&HYBRID, &bench.trusted.pem));
    let (near, far) = duplex(64 * 1024);
    let leaves = async {
        let mut near = near;
        let mut hello = rustls::ClientConnection::new(Arc::clone(&config), name()).unwrap();
        let mut bytes = Vec::new();
        hello.write_tls(&mut bytes).unwrap();
        near.write_all(&bytes).await.unwrap();
        near.read_u8().await.unwrap();
    };
    let ((), (_, ended)) = tokio::join!(leaves, bench.open(far));
    assert!(matches!(ended, Err(EndError::Rejected(Rejection::ClosedInHandshake))));

    let (near, far) = duplex(64 * 1024);
    let connector = TlsConnector::from(config);
    let (client, (_, ended)) = tokio::join!(connector.connect(name(), near), bench.open(far));
    drop(client.unwrap());
    let mut ended = ended.unwrap();
    assert_eq!(ended.rejection(), None);
    let error = ended.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(ended.rejection(), Some(&Rejection::ClosedAfterHandshake));
}

#[tokio::test]
async fn no_session_is_resumed() {
    let bench = Bench::new();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&HYBRID))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates({
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(
                    CertificateDer::pem_slice_iter(bench.trusted.pem.as_bytes()).map(Result::unwrap),
                );
                store
            })
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let (near, far) = duplex(64 * 1024);
            let (client, (_, ended)) = tokio::join!(connector.connect(name(), near), bench.open(far));
            let (mut client, mut ended) = (client.unwrap(), ended.unwrap());
            ended.write_all(b"x").await.unwrap();
            ended.flush().await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn a_client_without_a_name_sends_none_to_the_target() {
    let bench = Bench::new();
    let hello = ClientHello { versions: vec![TLS_1_2, TLS_1_3], ..ClientHello::default() };
    for (sni, expected) in [(None, None), (Some(NAME.to_owned()), Some(NAME))] {
        let hello = ClientHello { sni, ..hello.clone() };
        let (near, far) = duplex(64 * 1024);
        let accept = TlsAcceptor::from(Arc::clone(&bench.target)).accept(far);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let target = Target {
            name: Some(NAME),
            address,
            hello: &hello,
            anchors: bench.roots.with(&[]),
            own: Arc::default(),
            shown: None,
        };
        let (upstream, accepted) = tokio::join!(client::handshake(near, &target), accept);
        assert_eq!(accepted.unwrap().get_ref().1.server_name(), expected);
        let (_, report) = upstream.unwrap();
        assert!(report.validity.is_verified(), "judged by the name that is known otherwise");
    }
}

#[test]
fn the_first_byte_of_a_stream_is_not_lost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, far) = duplex(64);
        let mut both = crate::tls::Prefixed::new(b"first ".to_vec(), near);
        let mut far = far;
        far.write_all(b"second").await.unwrap();
        drop(far);
        let mut all = String::new();
        both.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "first second");
    });
}

#[allow(dead_code, reason = "compiled to show that both ends work on a socket, from any thread")]
fn ends_are_sendable(stream: TcpStream, authority: &Authority, report: &Report, held: crate::authority::Generation) {
    fn sendable<T: Send>(_: T) {}
    sendable(server::end(authority, held, report, Vec::new(), stream));
}
