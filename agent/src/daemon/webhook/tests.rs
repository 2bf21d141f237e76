//! The webhook towards a receiver of our own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;

use crewtap_core::policy::catalog::Source;

use super::*;

/// Answers each connection with the next status, and tells what it got.
fn receiver(statuses: &'static [u16]) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let answer = |status: &u16| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            let mut piece = [0; 4096];
            while !got.ends_with(b"\"last\":true}") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "it ended before its end");
                got.extend_from_slice(&piece[..read]);
            }
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            String::from_utf8(got).unwrap()
        };
        statuses.iter().map(answer).collect()
    });
    (port, thread)
}

fn config(dir: &tempfile::TempDir, port: u16) -> WebhookConfig {
    let path = dir.path().join("key");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    writeln!(file, "key").unwrap();
    let url = format!("http://127.0.0.1:{port}/hook?a=b").parse().unwrap();
    WebhookConfig { url, secret: Source::File(path), link: None }
}

const BODY: &[u8] = b"{\"event\":\"asked\",\"last\":true}";

#[tokio::test]
async fn what_is_posted_is_signed_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (port, receiver) = receiver(&[500, 204]);
    deliver(config(&dir, port), Vec::new(), "01J".into(), Bytes::from_static(BODY)).await.unwrap();
    let got = receiver.join().unwrap();
    assert_eq!(got.len(), 2);
    for request in got {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains(&format!("host: 127.0.0.1:{port}")), "{head}");
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
            found.next_back().unwrap()
        };
        let seconds: u64 = field("X-Crewtap-Timestamp").parse().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        mac.update(format!("{seconds}.{body}").as_bytes());
        assert_eq!(field("X-Crewtap-Signature"), format!("sha256={}", hexadecimal(&mac.finalize().into_bytes())));
        assert_eq!(body.as_bytes(), BODY);
    }
}

#[tokio::test]
async fn what_cannot_be_signed_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let unsigned = WebhookConfig { secret: Source::Env("CREWTAP_TEST_NO_SUCH_VARIABLE".into()), ..config(&dir, port) };
    let failed = post(&unsigned, &[], Bytes::from_static(BODY)).await.unwrap_err();
    assert!(failed.to_string().contains("CREWTAP_TEST_NO_SUCH_VARIABLE"), "{failed}");
    assert!(listener.accept().is_err());
}

#[tokio::test]
async fn a_receiver_whose_certificate_nobody_vouches_for_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, chain) = (dir.path().join("ca.pem"), vec![signed.cert.der().clone()]);
    std::fs::write(&pem, signed.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = Arc::new(server.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let acceptor = tokio_rustls::TlsAcceptor::from(server);
        let (stream, _) = listener.accept().await.unwrap();
        assert!(acceptor.accept(stream).await.is_err());
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut piece = vec![0; 4096];
        let mut got = Vec::new();
        while !got.ends_with(BODY) {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0);
            got.extend_from_slice(&piece[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
    };
    let url = format!("https://localhost:{port}/").parse().unwrap();
    let config = WebhookConfig { url, ..config(&dir, port) };
    let post = async {
        assert!(post(&config, &[], Bytes::from_static(BODY)).await.is_err());
        assert_eq!(post(&config, &[pem], Bytes::from_static(BODY)).await.unwrap(), StatusCode::OK);
    };
    tokio::join!(serve, post);
}
