//! Servers that take other credentials than the crew has, and a configuration of crewtap that has the right ones: what a
//! company sets up so that no crew holds its secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::World;
use super::exchanges::CARDS;

/// crewtap's configuration with policies, in the world's directory.
const CONFIG: &str = "secured.toml";

/// Where crewtap's HTTP interface for approvers listens.
const APPROVALS: &str = "127.0.0.1:7373";

const TARGETS: &str = r#"[target.orders-db]
match = { host = ["pg.internal"] }
protocol = "postgres"
credential = { user = "crew", secret = "file:vault/orders" }
tags = ["company"]

[target.openai]
match = { host = ["api.openai.com"] }
protocol = "http"
credential = { header = "authorization", scheme = "bearer", secret = "file:vault/openai" }
tags = ["model"]
"#;

const POLICY: &str = r#"@id("reach")
permit (principal, action in [Action::"connect", Action::"resolve"], resource);

@id("company")
permit (principal, action == Action::"query", resource == Target::"orders-db")
when { context.parsed };

@id("models")
permit (principal, action == Action::"llm_call", resource == Target::"openai")
when { context.model like "gpt-4o*" };

@id("web")
permit (principal, action == Action::"http_request", resource);

@id("deletes-need-a-person")
@approval("os:reviewers")
forbid (principal, action == Action::"query", resource)
when { context.kinds.contains("DELETE") }
unless { context.approved };
"#;

/// A world whose servers want credentials that only crewtap has.
#[derive(Debug)]
pub struct Secured {
    directory: PathBuf,
    secrets: Vec<String>,
}

impl World {
    /// Changes the database's password and the model's key, which the crew is not told, and writes a configuration of crewtap
    /// that has them, with policies that hold a DELETE for an approval.
    ///
    /// # Errors
    /// When a server cannot be told.
    pub fn secure(&self) -> Result<Secured> {
        let vault = self.directory.join("vault");
        fs::create_dir(&vault)?;
        fs::set_permissions(&vault, fs::Permissions::from_mode(0o700))?;
        let mut secrets = Vec::new();
        for (name, prefix) in [("orders", "pg-"), ("openai", "sk-live-"), ("approver", "tok-")] {
            let secret = format!("{prefix}{}", random()?);
            let file = vault.join(name);
            fs::write(&file, &secret)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            secrets.push(secret);
        }
        let [orders, ..] = secrets.as_slice() else { unreachable!("three are made") };
        self.query(&format!("ALTER ROLE crew PASSWORD '{orders}'"))?;
        fs::write(self.directory.join("targets.toml"), TARGETS)?;
        fs::create_dir(self.directory.join("policy"))?;
        fs::write(self.directory.join("policy/demo.cedar"), POLICY)?;
        let settings = format!(
            "tls_authorities = [\"{}\"]\ntargets = \"targets.toml\"\npolicy = \"policy\"\n\n[approvals.api]\nlisten = \
             \"{APPROVALS}\"\n\n[[approvals.api.approver]]\nname = \"Rita Reviewer\"\ngroups = [\"os:reviewers\"]\ntoken = \"file:vault/approver\"\n",
            self.trust.ca().display()
        );
        fs::write(self.directory.join(CONFIG), settings).context("cannot write crewtap's configuration")?;
        Ok(Secured { directory: self.directory.clone(), secrets })
    }
}

impl Secured {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join(CONFIG)
    }

    /// The arguments of `approver.py`.
    #[must_use]
    pub fn approver(&self) -> [PathBuf; 2] {
        [APPROVALS.into(), self.directory.join("vault/approver")]
    }

    /// Fails where one of the secrets stands in a file below a directory.
    ///
    /// # Errors
    /// When it does, or the files cannot be read.
    pub fn is_not_in(&self, directory: &Path) -> Result<()> {
        self.secrets.iter().try_for_each(|secret| is_absent(secret, directory))
    }

    /// Fails where a payment card's number stands in a file below a directory.
    ///
    /// # Errors
    /// When one does, or the files cannot be read.
    pub fn cards_are_not_in(&self, directory: &Path) -> Result<()> {
        CARDS.iter().try_for_each(|(card, _)| {
            is_absent(card, directory)?;
            is_absent(&card.replace(' ', ""), directory)
        })
    }
}

fn is_absent(text: &str, directory: &Path) -> Result<()> {
    let mut grep = std::process::Command::new("grep");
    let found = grep.args(["-rlF", "-e", text]).arg(directory).env("LC_ALL", "C").output()?;
    ensure!(found.status.code() == Some(1), "a secret is in {}", String::from_utf8_lossy(&found.stdout));
    Ok(())
}

/// 128 random bits in hexadecimal.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}
