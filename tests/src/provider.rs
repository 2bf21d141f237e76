//! A certified OpenID Connect provider (the npm package oidc-provider) on loopback, and a browser without a screen that fills in
//! its forms.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::world::provider_modules;

/// Where it serves in a namespace of its own.
pub const PORT: u16 = 9400;

/// A provider that serves until it is dropped.
#[derive(Debug)]
pub struct Provider {
    child: Child,
    port: u16,
}

/// Where the sources of the provider and the browser are.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/oidc")
}

/// A public client that logs people in, in all ways, and comes back to `path` of loopback.
#[must_use]
pub fn public_client(path: &str) -> Value {
    json!({
        "client_id": "crewtap", "application_type": "native", "token_endpoint_auth_method": "none",
        "redirect_uris": [format!("http://127.0.0.1{path}")], "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    })
}

/// A client that has a secret, for itself.
#[must_use]
pub fn confidential_client(secret: &str) -> Value {
    json!({
        "client_id": "crew-nightly", "client_secret": secret, "redirect_uris": [], "response_types": [],
        "grant_types": ["client_credentials"],
    })
}

/// A person whose password is `wonder`.
#[must_use]
pub fn person(email: &str, groups: &[&str]) -> Value {
    json!({ "password": "wonder", "claims": { "email": email, "email_verified": true, "groups": groups } })
}

impl Provider {
    /// Starts one by `node`, a command that runs where it is to serve; `settings` are those of `provider.mjs`.
    ///
    /// # Errors
    /// When it is not installed (`cargo xtask setup`) or does not begin to serve.
    pub fn start(mut node: Command, directory: &Path, mut settings: Value) -> Result<Self> {
        let port = settings.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let port = port.context("the provider needs a port")?;
        let modules = provider_modules();
        ensure!(modules.is_dir(), "{} is not there: run `cargo xtask setup`", modules.display());
        if let Some(settings) = settings.as_object_mut() {
            settings.insert("node_modules".into(), modules.display().to_string().into());
        }
        let file = directory.join(format!("provider-{port}.json"));
        fs::write(&file, settings.to_string()).context("cannot write the provider's settings")?;
        node.arg(sources().join("provider.mjs")).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = node.stderr(Stdio::null()).spawn().context("cannot start node")?;
        let out = child.stdout.take().context("node has no output")?;
        let mut lines = BufReader::new(out);
        let mut line = String::new();
        while !line.starts_with("serving ") {
            line.clear();
            let read = lines.read_line(&mut line).context("cannot hear the provider")?;
            ensure!(read > 0, "the provider has ended before it served");
        }
        // What it says later is of no interest, but it must be able to say it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Self { child, port })
    }

    /// Its identifier.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes something while it serves: `rotate`, `down`, `up`, `groups?login=…&group=…`. `curl` runs where it serves.
    ///
    /// # Errors
    /// When it does not do so.
    pub fn change(&self, mut curl: Command, what: &str) -> Result<()> {
        let url = format!("{}/test/{what}", self.issuer());
        let output = curl.args(["--silent", "--fail", "--insecure", &url]).output().context("cannot start curl")?;
        ensure!(output.status.success(), "the provider does not do {what}");
        Ok(())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // A provider that has ended by itself is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Goes to a page with `python`, a command that runs where the browser is to be, and logs in there; what the last page says.
///
/// # Errors
/// When the last page is an error.
pub fn browse(mut python: Command, url: &str, login: &str, password: &str) -> Result<String> {
    python.arg(sources().join("browser.py")).arg(url);
    python.arg(format!("login={login}")).arg(format!("password={password}"));
    let output = python.output().context("cannot start the browser")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the browser ends at: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}
