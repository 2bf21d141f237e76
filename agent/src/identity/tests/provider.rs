//! A provider that says whatever a test wants, over plain HTTP on loopback, and signs it with a real key.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use rcgen::SigningKey as _;
use serde_json::{Value, json};

use crate::identity::requests::now;

type Form = HashMap<String, String>;
type Answer = Box<dyn FnMut(&Form) -> (u16, Value) + Send>;
type Gate = Arc<Mutex<std::sync::mpsc::Receiver<()>>>;

/// A path where it hears and says nothing, until this is dropped.
pub(super) struct Silence {
    heard: tokio::sync::mpsc::Receiver<()>,
    _gate: std::sync::mpsc::SyncSender<()>,
}

impl Silence {
    /// Waits until it is asked.
    pub(super) async fn heard(&mut self) {
        self.heard.recv().await.unwrap();
    }

    /// Whether it was asked once more.
    pub(super) fn heard_more(&mut self) -> bool {
        self.heard.try_recv().is_ok()
    }
}

/// What it says, and what it was asked.
struct Says {
    discovery: Value,
    token: Answer,
    userinfo: Value,
    device: Value,
    asked: Vec<(String, Form)>,
    /// A cluster: it tells of itself only to whoever shows this.
    bearer: Option<String>,
    /// A path where it is silent, and who hears of it.
    silent: Option<(String, tokio::sync::mpsc::Sender<()>, Gate)>,
}

/// The provider.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) issuer: String,
    says: Arc<Mutex<Says>>,
    down: Arc<AtomicBool>,
    /// Of its key; apart, because it signs while it answers.
    seed: Arc<AtomicU8>,
    /// Of a cluster.
    rsa: Arc<OnceLock<rcgen::KeyPair>>,
}

impl Fake {
    /// Serves as long as the test program lives.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let at = |path: &str| format!("{issuer}{path}");
        let discovery = json!({
            "issuer": issuer, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"), "jwks_uri": at("/keys"),
            "userinfo_endpoint": at("/userinfo"), "revocation_endpoint": at("/revoke"),
            "device_authorization_endpoint": at("/device"), "authorization_response_iss_parameter_supported": true,
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"], "code_challenge_methods_supported": ["S256"],
        });
        let device = json!({ "device_code": "the-device", "user_code": "ABCD-EFGH", "verification_uri": at("/enter"),
            "expires_in": 60, "interval": 1 });
        let token: Answer = Box::new(|_| (400, json!({ "error": "invalid_grant" })));
        let (bearer, silent) = (None, None);
        let says = Says { discovery, token, userinfo: Value::Null, device, asked: Vec::new(), bearer, silent };
        let (says, seed) = (Arc::new(Mutex::new(says)), Arc::new(AtomicU8::new(1)));
        let fake = Self { issuer, says, down: Arc::default(), seed, rsa: Arc::default() };
        let serving = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        fake
    }

    fn serve(&self, mut stream: TcpStream) {
        if self.down.load(Ordering::SeqCst) {
            return;
        }
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut len = 0;
        let mut headers = Form::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body).unwrap();
        let form: Form = openidconnect::url::form_urlencoded::parse(&body).into_owned().collect();
        self.be_silent(&path);
        let (status, answer) = self.answer(&path, form, &headers);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
    }

    fn be_silent(&self, path: &str) {
        let silent = self.says.lock().unwrap().silent.clone();
        if let Some((_, heard, gate)) = silent.filter(|(at, ..)| at == path) {
            let _nobody_waits = heard.try_send(());
            let _open = gate.lock().unwrap().recv();
        }
    }

    fn answer(&self, path: &str, form: Form, headers: &Form) -> (u16, Value) {
        let mut says = self.says.lock().unwrap();
        says.asked.push((path.to_owned(), form.clone()));
        if let Some(bearer) = &says.bearer {
            let shown = headers.get("authorization").is_some_and(|shown| *shown == format!("Bearer {bearer}"));
            let wanted = headers.get("accept").map_or("", String::as_str);
            return match path {
                _ if !shown => (403, json!({ "kind": "Status", "reason": "Forbidden" })),
                "/.well-known/openid-configuration" => (200, says.discovery.clone()),
                "/openid/v1/jwks" if wanted.contains("application/jwk-set+json") => {
                    (200, json!({ "keys": [self.rsa_jwk()] }))
                }
                "/openid/v1/jwks" => (406, Value::Null),
                _ => (404, Value::Null),
            };
        }
        match path {
            "/.well-known/openid-configuration" => (200, says.discovery.clone()),
            "/keys" => (200, json!({ "keys": [jwk(self.seed.load(Ordering::SeqCst), "sig")] })),
            "/token" => (says.token)(&form),
            "/userinfo" => (if says.userinfo.is_null() { 404 } else { 200 }, says.userinfo.clone()),
            "/device" => (200, says.device.clone()),
            "/revoke" => (200, json!({})),
            _ => (404, json!({})),
        }
    }

    /// Says something else in its discovery document; null takes it away.
    pub(super) fn discovers(&self, changes: Value) {
        let discovery = &mut self.says.lock().unwrap().discovery;
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(discovery.as_object_mut().unwrap().remove(name)),
                value => discovery[name] = value.clone(),
            }
        }
    }

    /// Is the API server of a cluster from now on, as it comes: it tells of itself to its service accounts alone.
    pub(super) fn is_cluster(&self, bearer: &str) {
        let mut says = self.says.lock().unwrap();
        says.bearer = Some(bearer.to_owned());
        says.discovery = json!({
            "issuer": self.issuer, "jwks_uri": format!("{}/openid/v1/jwks", self.issuer),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
    }

    /// Hears at one path and says nothing.
    pub(super) fn is_silent_at(&self, path: &str) -> Silence {
        let (sender, heard) = tokio::sync::mpsc::channel(64);
        let (gate, closed) = std::sync::mpsc::sync_channel(1);
        self.says.lock().unwrap().silent = Some((path.to_owned(), sender, Arc::new(Mutex::new(closed))));
        Silence { heard, _gate: gate }
    }

    fn rsa(&self) -> &rcgen::KeyPair {
        self.rsa.get_or_init(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap())
    }

    fn rsa_jwk(&self) -> Value {
        let der = self.rsa().public_key_raw().to_vec();
        let (whole, _) = element(&der);
        let (n, rest) = element(whole);
        let (e, _) = element(rest);
        let number = |bytes: &[u8]| {
            let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        };
        json!({ "use": "sig", "kty": "RSA", "kid": "XBRQklg6V4u", "alg": "RS256", "n": number(n), "e": number(e) })
    }

    /// A token that a cluster gives to a pod; null takes a claim away.
    pub(super) fn projected(&self, changes: &Value) -> String {
        let mut all = json!({
            "aud": ["crewtap"], "exp": now() + 3600, "iat": now(), "nbf": now(), "iss": self.issuer, "jti": "5c9a6cb0",
            "kubernetes.io": {
                "namespace": "crew",
                "node": { "name": "worker-1", "uid": "6b1b6d2e" },
                "pod": { "name": "runner-7d4b9c-x2x5z", "uid": "0f3c8d1a" },
                "serviceaccount": { "name": "runner", "uid": "a7c1b9ee" },
            },
            "sub": "system:serviceaccount:crew:runner",
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
                value => all[name] = value.clone(),
            }
        }
        let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", encoded(&json!({ "alg": "RS256", "kid": "XBRQklg6V4u" })), encoded(&all));
        format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(self.rsa().sign(said.as_bytes()).unwrap()))
    }

    /// Does not answer any more, or again.
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Signs with another key from now on, and knows no other.
    pub(super) fn rotate(&self) {
        self.seed.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn userinfo(&self, told: Value) {
        self.says.lock().unwrap().userinfo = told;
    }

    /// Answers each request for a token so.
    pub(super) fn gives(&self, answer: impl FnMut(&Form) -> (u16, Value) + Send + 'static) {
        self.says.lock().unwrap().token = Box::new(answer);
    }

    /// A token with these claims, and those that every token has.
    pub(super) fn token(&self, claims: &Value) -> String {
        let mut all = json!({ "iss": self.issuer, "aud": "crewtap", "exp": now() + 600, "iat": now() });
        for (name, value) in claims.as_object().unwrap() {
            match value {
                Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
                value => all[name] = value.clone(),
            }
        }
        let seed = self.seed.load(Ordering::SeqCst);
        let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "EdDSA", "kid": format!("key{seed}") });
        let said = format!("{}.{}", encoded(&header), encoded(&all));
        let signature = SigningKey::from_bytes(&[seed; 32]).sign(said.as_bytes());
        format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// Redeems every code, once, for a token with these claims; gives refresh tokens `r1`.
    pub(super) fn vouch(&self, nonce: &str, mut claims: Value) {
        if claims.get("nonce").is_none() {
            claims["nonce"] = nonce.into();
        }
        let token = self.token(&claims);
        let mut redeemed = false;
        self.gives(move |form| {
            assert!(form.contains_key("code_verifier"), "a code is never redeemed without its verifier");
            if std::mem::replace(&mut redeemed, true) {
                return (400, json!({ "error": "invalid_grant" }));
            }
            (200, json!({ "access_token": "at", "token_type": "Bearer", "expires_in": 600, "id_token": token, "refresh_token": "r1" }))
        });
    }

    /// What it was asked at a path.
    pub(super) fn asked(&self, path: &str) -> Vec<Form> {
        let says = self.says.lock().unwrap();
        says.asked.iter().filter(|(asked, _)| asked == path).map(|(_, form)| form.clone()).collect()
    }
}

/// Its key, for a use.
pub(super) fn jwk(seed: u8, key_use: &str) -> Value {
    let public = BASE64_URL_SAFE_NO_PAD.encode(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": public, "kid": format!("key{seed}"), "use": key_use, "alg": "EdDSA" })
}

/// The content of the first element of DER, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, len) = match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        short => (2, usize::from(short)),
    };
    der[start..].split_at(len)
}
