//! A client that greets as browsers do: hybrid key exchange, and an `encrypted_client_hello` extension that means nothing
//! (RFC 9849 section 6.2). Asks a name's port 443 for a page, and prints the answer's first line. Never resumes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::{aws_lc_rs, hpke::Hpke};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, name, roots] = words.as_slice() else { panic!("NAME and a file of ROOTS") };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_file_iter(roots).unwrap().map_while(Result::ok));
    let (public_key, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap();
    let grease = EchGreaseConfig::new(DH_KEM_X25519_HKDF_SHA256_AES_128, public_key);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_ech(EchMode::Grease(grease))
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.clone()).unwrap()).unwrap();
    let plain = TcpStream::connect((name.as_str(), 443)).unwrap();
    let mut stream = StreamOwned::new(connection, plain);
    write!(stream, "GET /greased HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    print!("{line}");
}
