//! A provider that says whatever a test wants, over plain HTTP on loopback, and signs it with a real key.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use crate::identity::requests::now;

type Form = HashMap<String, String>;
type Answer = Box<dyn FnMut(&Form) -> (u16, Value) + Send>;

/// What it says, and what it was asked.
struct Says {
    discovery: Value,
    token: Answer,
    userinfo: Value,
    device: Value,
    asked: Vec<(String, Form)>,
}

/// The provider.
#[derive(Clone)]
pub(super) struct Fake {
    pub(super) issuer: String,
    says: Arc<Mutex<Says>>,
    down: Arc<AtomicBool>,
    /// Of its key; apart, because it signs while it answers.
    seed: Arc<AtomicU8>,
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
        let says = Says { discovery, token, userinfo: Value::Null, device, asked: Vec::new() };
        let fake =
            Self { issuer, says: Arc::new(Mutex::new(says)), down: Arc::default(), seed: Arc::new(AtomicU8::new(1)) };
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
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body).unwrap();
        let form: Form = openidconnect::url::form_urlencoded::parse(&body).into_owned().collect();
        let (status, answer) = self.answer(&path, form);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes()));
    }

    fn answer(&self, path: &str, form: Form) -> (u16, Value) {
        let mut says = self.says.lock().unwrap();
        says.asked.push((path.to_owned(), form.clone()));
        match path {
            "/.well-known/openid-configuration" => (200, says.discovery.clone()),
            "/keys" => (200, json!({ "keys": [jwk(self.seed.load(Ordering::SeqCst))] })),
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
            all[name] = value.clone();
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

fn jwk(seed: u8) -> Value {
    let public = BASE64_URL_SAFE_NO_PAD.encode(SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": public, "kid": format!("key{seed}"), "use": "sig", "alg": "EdDSA" })
}
