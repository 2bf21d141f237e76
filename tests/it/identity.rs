//! Logins at a real, certified provider, by its own form; what a run carries, what approvals compare, and what never leaves the
//! agent.

mod approvers;
mod clusters;
mod lives;
mod logins;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crewtap_tests::host::{Host, crewtap, succeeded, text};
use crewtap_tests::provider::{PORT, Provider, browse, confidential_client, person, public_client};
use serde_json::{Value, json};

use crate::agent::{self, until};

/// A host with a provider, and with crewtap configured for it.
struct Desk {
    host: Host,
    provider: Provider,
}

impl Desk {
    /// `settings` are added to the provider's, `more` to [oidc.corp], `rest` stands before it.
    fn new(settings: &Value, rest: &str, more: &str) -> Self {
        let host = Host::new();
        let mut all = json!({
            "port": PORT,
            "clients": [public_client("/oidc/corp"), confidential_client("hunter2")],
            "accounts": { "alice": person("alice@example.com", &["sre", "dba"]), "bob": person("bob@example.com", &["dba"]) },
        });
        for (name, value) in settings.as_object().unwrap() {
            all[name] = value.clone();
        }
        let provider = Provider::start(host.command("node"), host.path("").as_path(), all).unwrap();
        let mut text = format!("{rest}\n[oidc.corp]\n");
        if !more.contains("issuer =") {
            writeln!(text, "issuer = '{}'", provider.issuer()).unwrap();
        }
        if !more.contains("client_id =") {
            writeln!(text, "client_id = 'crewtap'\nscopes = ['email', 'profile', 'groups']").unwrap();
        }
        writeln!(text, "groups = 'groups'\n{more}").unwrap();
        std::fs::write(host.path("crewtap.toml"), text).unwrap();
        Self { host, provider }
    }

    fn config(&self) -> PathBuf {
        self.host.path("crewtap.toml")
    }

    fn crewtap(&self, args: &[&str]) -> Command {
        let mut command = self.host.crewtap(&[]);
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    fn change(&self, what: &str) {
        self.provider.change(self.host.command("curl"), what).unwrap();
    }

    fn python(&self) -> Command {
        self.host.command("python3")
    }

    /// `crewtap login`, up to the page where the person goes.
    fn begin(&self, args: &[&str]) -> Begun {
        let mut command = self.crewtap(&[&["login"], args].concat());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut url) = (String::new(), None);
        let mut line = String::new();
        while url.is_none() && errors.read_line(&mut line).unwrap() > 0 {
            said.push_str(&line);
            let page = line.trim().strip_prefix("crewtap: or, with the code in it: ").unwrap_or(line.trim());
            url = page.starts_with("http").then(|| page.to_owned());
            line.clear();
        }
        Begun { child, errors, said, url }
    }

    /// Logs in, and is refused or not.
    fn login(&self, who: &str, args: &[&str]) -> (Option<i32>, String) {
        let begun = self.begin(args);
        if let Some(url) = begun.url.clone() {
            browse(self.python(), &url, who, "wonder").unwrap();
        }
        begun.end()
    }

    /// Runs a command as whoever is logged in here; the run on record.
    fn run(&self, words: &[&str]) -> Value {
        let output = self.crewtap(&[&["run", "--"], words].concat()).output().unwrap();
        let _said = succeeded(&output);
        self.last()
    }

    fn last(&self) -> Value {
        self.host.last_run()
    }

    /// The words of another login session of this host: a shell that leads a session of its own. `login WHO` logs in there.
    fn elsewhere(&self, script: &str) -> Output {
        let browser = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/oidc/browser.py");
        let (program, config, store) = (crewtap(), self.config(), self.host.data_dir());
        let prelude = format!(
            "crewtap() {{ '{}' --config '{}' --data-dir '{}' \"$@\"; }}\nlogin() {{\n  said=$(mktemp -u); mkfifo \"$said\"\n  \
             crewtap login 2>\"$said\" & pid=$!\n  exec 9<\"$said\"; rm \"$said\"\n  \
             while read -r line <&9; do echo \"$line\" >&2; case $line in http*) break;; esac; done\n  \
             python3 '{browser}' \"$line\" login=$1 password=wonder >/dev/null\n  cat <&9 >&2; wait $pid\n}}\n",
            program.display(),
            config.display(),
            store.display(),
        );
        self.host.command("setsid").args(["--wait", "bash", "-c", &format!("{prelude}{script}")]).output().unwrap()
    }

    /// Starts an agent that stays, so that logins need not wait for one.
    fn agent(&self) -> agent::Ended {
        let child = self.crewtap(&["agent"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        agent::pid(&self.host);
        agent::Ended(child)
    }
}

/// A login that waits for its person.
struct Begun {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    said: String,
    url: Option<String>,
}

impl Begun {
    fn end(mut self) -> (Option<i32>, String) {
        self.errors.read_to_string(&mut self.said).unwrap();
        (self.child.wait().unwrap().code(), self.said)
    }
}
