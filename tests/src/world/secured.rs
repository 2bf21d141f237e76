//! Servers that take other credentials than the crew has, and a configuration of crewtap that has the right ones: what a
//! company sets up so that no crew holds its secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::World;
use super::exchanges::CARDS;
use super::paths::must;
use crate::provider::PORT;

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
permit (principal in Group::"oidc:company:auditors", action == Action::"query", resource == Target::"orders-db")
when { context.parsed };

@id("models")
permit (principal, action == Action::"llm_call", resource == Target::"openai")
when { context.model like "gpt-4o*" };

@id("warehouse")
permit (principal, action == Action::"exec", resource == Target::"warehouse");

@id("removals-need-a-person")
@approval("os:reviewers")
forbid (principal, action == Action::"exec", resource)
when { context.argv.contains("rm") }
unless { context.approved };

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
    /// Changes the database's password, the model's key and the warehouse's, which the crew is not told, and writes a configuration of crewtap
    /// that has them, with policies that hold a DELETE and a removal of files for an approval.
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
        let warehouse = self.change_key(&vault.join("warehouse"))?;
        let [orders, ..] = secrets.as_slice() else { unreachable!("three are made") };
        self.query(&format!("ALTER ROLE crew PASSWORD '{orders}'"))?;
        fs::write(self.directory.join("targets.toml"), format!("{TARGETS}{warehouse}"))?;
        fs::create_dir(self.directory.join("policy"))?;
        fs::write(self.directory.join("policy/demo.cedar"), POLICY)?;
        let settings = format!(
            "tls_authorities = [\"{}\"]\ntargets = \"targets.toml\"\npolicy = \"policy\"\n\n[approvals.api]\nlisten = \
             \"{APPROVALS}\"\n\n[[approvals.api.approver]]\nname = \"Rita Reviewer\"\ngroups = [\"os:reviewers\"]\ntoken = \"file:vault/approver\"\n\n\
             [oidc.company]\nissuer = \"http://127.0.0.1:{PORT}\"\nclient_id = \"crewtap\"\n\
             scopes = [\"email\", \"profile\", \"groups\"]\ngroups = \"groups\"\n",
            self.trust.ca().display()
        );
        fs::write(self.directory.join(CONFIG), settings).context("cannot write crewtap's configuration")?;
        Ok(Secured { directory: self.directory.clone(), secrets })
    }

    /// The warehouse host lets in another key than the crew's, made here; its entry in the catalog.
    fn change_key(&self, key: &Path) -> Result<String> {
        must(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "warehouse", "-f"]).arg(key))?;
        fs::copy(key.with_extension("pub"), self.directory.join("etc/authorized_keys"))?;
        let host_key = fs::read_to_string(self.directory.join("ssh_host_key.pub"))?;
        let host_key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        Ok(format!(
            "\n[target.warehouse]\nmatch = {{ host = [\"ssh.internal\"] }}\nprotocol = \"ssh\"\n\
             credential = {{ user = \"deploy\", key = \"file:vault/warehouse\" }}\nssh = {{ hostkeys = [\"{host_key}\"] }}\n\
             tags = [\"company\"]\n"
        ))
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
    let mut grep = Command::new("grep");
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
