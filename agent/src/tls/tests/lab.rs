//! A certificate authority to test with, targets that show its certificates, and a proxy that opens what passes.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};

use crewtap_core::wire::tls::{ClientHello, Hello, client_hello};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, Generation};
use crate::tls::Negotiated;
use crate::tls::client::{self, HandshakeError, Report, Target};
use crate::tls::roots::Roots;
use crate::tls::server::{self, Rejection};

/// The name that all clients ask for.
pub const NAME: &str = "api.target.test";

/// Root, intermediate, and what they sign.
pub struct Pki {
    pub directory: tempfile::TempDir,
    root: (Certificate, Issuer<'static, KeyPair>),
    intermediate: (Certificate, Issuer<'static, KeyPair>),
}

fn authority(name: &str, signed_by: Option<&Issuer<'static, KeyPair>>) -> (Certificate, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = signed_by.is_some();
    let certificate = match signed_by {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate, Issuer::new(params, key))
}

/// A valid leaf for [`NAME`].
pub fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::new(vec![NAME.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(2);
    params
}

/// What a target shows.
pub struct Shown {
    pub chain: String,
    pub key: String,
}

impl Pki {
    pub fn new() -> Self {
        let root = authority("test root", None);
        let intermediate = authority("test intermediate", Some(&root.1));
        Self { directory: tempfile::tempdir().unwrap(), root, intermediate }
    }

    /// The root's file.
    pub fn root_file(&self) -> PathBuf {
        self.file("root.pem", &self.root.0.pem())
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A leaf, with the intermediate behind it where `whole`.
    pub fn leaf(&self, params: &CertificateParams, whole: bool) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut chain = params.signed_by(&key, &self.intermediate.1).unwrap().pem();
        if whole {
            chain += &self.intermediate.0.pem();
        }
        Shown { chain, key: key.serialize_pem() }
    }

    pub fn self_signed(params: &CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        Shown { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// `openssl s_server -www` on a port of its own; ends with its value.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(directory: &Path, shown: &Shown, more: &[&str]) -> Self {
        let (chain, key) = (directory.join("server.pem"), directory.join("server.key"));
        std::fs::write(&chain, &shown.chain).unwrap();
        std::fs::write(&key, &shown.key).unwrap();
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
            .arg(&chain)
            .arg("-cert_chain")
            .arg(&chain)
            .arg("-key")
            .arg(&key)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok()).expect("s_server ended");
        // What it says further must be read, or it would stop when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the proxy saw of one connection.
#[derive(Debug)]
pub struct Seen {
    pub target: Result<Report, HandshakeError>,
    pub client: Option<Result<Negotiated, server::EndError>>,
    pub rejection: Option<Rejection>,
}

/// Opens every connection to its port and passes it on to one target.
pub struct Proxy {
    pub address: SocketAddr,
    pub seen: Receiver<Seen>,
    /// Roots as an overlay would make them: those that were there, and ours.
    pub overlay: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

struct Wiring {
    target: SocketAddr,
    name: Option<&'static str>,
    authority: Authority,
    held: Generation,
    roots: Roots,
    seen: SyncSender<Seen>,
}

impl Proxy {
    pub fn start(directory: &Path, root_file: &Path, target: SocketAddr, name: Option<&'static str>) -> Self {
        let authority = Authority::open(&directory.join("authority")).unwrap();
        let trusted = authority.trusted().unwrap();
        let overlay = directory.join("overlay.pem");
        std::fs::write(&overlay, std::fs::read_to_string(root_file).unwrap() + &trusted.pem).unwrap();
        let roots = Roots::system(vec![root_file.to_path_buf()]);
        let (sender, seen) = sync_channel(64);
        let wiring = Wiring { target, name, authority, held: trusted.generation, roots, seen: sender };
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let wiring = Arc::new(wiring);
            let accepting = async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let wiring = Arc::clone(&wiring);
                    tokio::spawn(async move { serve(&wiring, client).await });
                }
            };
            runtime.block_on(async {
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, seen, overlay, stop: Some(stop) }
    }

    /// What it saw of the next connection.
    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(std::time::Duration::from_secs(30)).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by a failure of its own, which the test has seen then.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

/// Reads until the hello is whole.
pub async fn read_hello(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, ClientHello) {
    let mut first = Vec::new();
    loop {
        assert!(stream.read_buf(&mut first).await.unwrap() > 0, "ended within its hello");
        if let Hello::Is(hello) = client_hello(&first) {
            return (first, hello);
        }
    }
}

async fn serve(wiring: &Wiring, mut client: TcpStream) {
    let (first, hello) = read_hello(&mut client).await;
    assert_eq!(hello.unopened(), None);
    let upstream = TcpStream::connect(wiring.target).await.unwrap();
    let anchors = wiring.roots.with(&[]);
    let target = Target {
        name: wiring.name,
        address: wiring.target.ip(),
        hello: &hello,
        anchors,
        own: Arc::default(),
        shown: None,
    };
    let (mut upstream, report) = match client::handshake(upstream, &target).await {
        Ok(done) => done,
        Err(error) => {
            wiring.seen.send(Seen { target: Err(error), client: None, rejection: None }).unwrap();
            return;
        }
    };
    let mut seen = Seen { target: Ok(report.clone()), client: None, rejection: None };
    match server::end(&wiring.authority, wiring.held, &report, first, client).await {
        Ok(mut client) => {
            seen.client = Some(Ok(client.negotiated().clone()));
            // Either side may end without a closing alert: what matters here has been said by then.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            seen.rejection = client.rejection().cloned();
        }
        Err(error) => seen.client = Some(Err(error)),
    }
    // The test may be over.
    let _ = wiring.seen.send(seen);
}

/// Gives one byte at each read, as if every byte came in a packet of its own.
pub struct ByteByByte<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for ByteByByte<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.0).poll_read(context, &mut one))?;
        into.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ByteByByte<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
