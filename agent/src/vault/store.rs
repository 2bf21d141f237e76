//! Secrets of a store with the interface of Vault's KV version 2 over HTTP.
//!
//! Never follows a redirect, never keeps a token, and sends it in clear only where the catalog says `http:`.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crewtap_core::secret::Secret;
use crewtap_core::wire::http::{Conversation, Step};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use zeroize::{Zeroize, Zeroizing};

/// How long the store may take.
const WAIT: Duration = Duration::from_secs(10);

/// Largest answer, in bytes: a secret has some fields.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where distributions keep their authorities; the first that is there is taken.
pub(crate) const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A place in a store.
struct Place<'u> {
    secure: bool,
    host: &'u str,
    port: u16,
    authority: &'u str,
    path: &'u str,
}

/// The field of the newest version of a secret.
pub(super) fn field(url: &str, field: &str, token: &Secret, ca: Option<&Path>) -> Result<Secret, String> {
    let place = Place::of(url)?;
    let token =
        std::str::from_utf8(token.expose()).ok().filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
    let token = token.ok_or("its token has blanks or control characters")?;
    let request = Zeroizing::new(format!(
        "GET /{} HTTP/1.1\r\nhost: {}\r\nx-vault-token: {token}\r\nx-vault-request: true\r\naccept: application/json\r\n\
         connection: close\r\n\r\n",
        place.path, place.authority
    ));
    let stream = dial(&place)?;
    let (status, body) = if place.secure {
        let mut stream = StreamOwned::new(handshake(&place, ca)?, stream);
        ask(&mut stream, request.as_bytes())?
    } else {
        let mut stream = stream;
        ask(&mut stream, request.as_bytes())?
    };
    if status != 200 {
        return Err(format!("the store answers {status}"));
    }
    let mut answer: serde_json::Value =
        serde_json::from_slice(&body).map_err(|_| "the store's answer is no JSON".to_owned())?;
    let found = answer.pointer_mut("/data/data").and_then(|fields| fields.get_mut(field));
    let secret = match found.map(serde_json::Value::take) {
        Some(serde_json::Value::String(text)) => Ok(Secret::new(text.into_bytes())),
        Some(_) => Err(format!("its field {field} is no text")),
        None => Err(format!("it has no field {field}")),
    };
    wipe(&mut answer);
    secret
}

impl<'u> Place<'u> {
    fn of(url: &'u str) -> Result<Self, String> {
        let wrong = || "it is no http(s)://HOST:PORT/PATH".to_owned();
        let (secure, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://").ok_or_else(wrong)?),
        };
        let (authority, path) = rest.split_once('/').ok_or_else(wrong)?;
        let usual = if secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self { secure, host, port, authority, path })
    }
}

fn dial(place: &Place<'_>) -> Result<TcpStream, String> {
    let addresses = (place.host, place.port).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, WAIT) {
            Ok(stream) => {
                let limited = stream.set_read_timeout(Some(WAIT)).and_then(|()| stream.set_write_timeout(Some(WAIT)));
                limited.map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

fn handshake(place: &Place<'_>, ca: Option<&Path>) -> Result<ClientConnection, String> {
    let bundle = ca.map(Path::to_path_buf).or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    let bundle = bundle.ok_or("the host has no authorities: name them as `ca`")?;
    let read = CertificateDer::pem_file_iter(&bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read.filter_map(Result::ok));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(place.host.to_owned()).map_err(|error| error.to_string())?;
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

/// Sends a request; the status and the content of the answer.
fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
    let deadline = Instant::now() + WAIT;
    let mut conversation = Conversation::new();
    let mut at = 0;
    while let Ok(step) = conversation.next(crewtap_core::session::Side::Client, request.get(at..).unwrap_or_default()) {
        if step.is_empty() {
            break;
        }
        at += step.len();
    }
    stream.write_all(request).and_then(|()| stream.flush()).map_err(|error| error.to_string())?;
    let mut bytes = Zeroizing::new(vec![0; ANSWER_BYTES_MAX]);
    let mut len = 0;
    loop {
        match stream.read(bytes.get_mut(len..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => len += read,
            // A store may end without a farewell: what was said is whole or it is not.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.to_string()),
        }
        if Instant::now() > deadline {
            return Err(format!("it took longer than {} s", WAIT.as_secs()));
        }
    }
    answer(conversation, bytes.get(..len).unwrap_or_default())
}

fn answer(mut conversation: Conversation, bytes: &[u8]) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
    let (mut at, mut status, mut whole) = (0, 0, false);
    let mut content = Zeroizing::new(Vec::with_capacity(bytes.len()));
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let side = crewtap_core::session::Side::Server;
        let step = conversation.next(side, rest).map_err(|refusal| refusal.to_string())?;
        match step {
            Step::ResponseHead { head, interim: false, .. } => status = head.status,
            Step::Body { len, .. } => content.extend_from_slice(rest.get(..len).unwrap_or_default()),
            Step::End { .. } => {
                whole = true;
                break;
            }
            step if step.is_empty() => break,
            _ => {}
        }
        at += step.len();
    }
    // A body may end with its connection.
    if whole || conversation.end(crewtap_core::session::Side::Server).completed.is_some() {
        return Ok((status, content));
    }
    Err("its answer is not whole".into())
}

/// The other secrets of the answer.
fn wipe(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => text.zeroize(),
        serde_json::Value::Array(list) => list.iter_mut().for_each(wipe),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(wipe),
        _ => {}
    }
}
