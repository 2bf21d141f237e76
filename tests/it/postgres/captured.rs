//! Clients under `crewtap run`, through the real capture: what they print, and what is on record of them.

use std::collections::HashMap;
use std::process::{Command, Output, Stdio};

use crewtap::journal::Reader;
use crewtap_core::event::Body;
use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::postgres::{Certificates, DATABASE, PASSWORD, Postgres, Release, Shown, user};
use crewtap_tests::world::{cache_dir, clients_project, node_clients, postgres_18};
use serde_json::{Map, Value};

use crate::agent;
use crate::rows::Rows;

/// The raw client that scripts stand on.
const RAW: &str = include_str!("raw.py");

/// A host whose crewtap trusts one authority, which signs the certificates of its servers.
pub struct Captured {
    pub host: Host,
    pub certificates: Certificates,
    shown: Shown,
}

impl Captured {
    pub fn new() -> Self {
        Self::on(Host::new())
    }

    /// The same on a host that is there.
    pub fn on(host: Host) -> Self {
        let certificates = Certificates::new(&host.path("certificates"));
        let shown = certificates.leaf("pg.target.test", "sha256");
        let captured = Self { host, certificates, shown };
        captured.configure("");
        captured
    }

    /// Writes crewtap's configuration, with more lines.
    pub fn configure(&self, more: &str) {
        let root = self.certificates.root();
        let settings = format!("tls_authorities = ['{}']\n{more}\n", root.display());
        std::fs::write(self.host.path("crewtap.toml"), settings).unwrap();
    }

    /// A server that offers TLS.
    pub fn server(&self, release: Release) -> Postgres {
        Postgres::on(&self.host).release(release).tls(&self.shown).start()
    }

    /// `crewtap run -- …`, with the clients' password.
    pub fn crewtap_run(&self, words: &[&str]) -> Command {
        let config = self.host.path("crewtap.toml").display().to_string();
        let mut command = self.host.crewtap(&["--config", &config, "run", "-q", "--"]);
        command.args(words);
        with_clients(&mut command);
        command
    }

    /// The same to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.crewtap_run(words).output().unwrap()
    }

    /// The same in the background, to be told what to do.
    pub fn spawn(&self, words: &[&str]) -> Talk {
        Talk::start(self.crewtap_run(words))
    }

    /// The same without crewtap.
    pub fn direct(&self, words: &[&str]) -> Output {
        let mut command = self.host.command(words[0]);
        command.args(&words[1..]);
        with_clients(&mut command);
        command.output().unwrap()
    }

    /// What is on record of the last run: with nothing lost.
    pub fn rows(&self, sessions: u64) -> Rows {
        let rows = Rows::of_last_run(&self.host);
        rows.reconciled(sessions);
        rows
    }

    /// What an exchange said.
    pub fn said(&self, exchange: &Value) -> Vec<Value> {
        let rows = self.host.json(&["show", exchange["id"].as_str().unwrap(), "--all"]);
        let dialogue = rows.into_iter().find(|row| row["table"] == "dialogues").expect("a dialogue");
        dialogue["said"].as_array().unwrap().clone()
    }

    /// The facts of all answers on record, of which `show` prints those that it needs.
    pub fn answers(&self) -> Answers {
        let mut answers = HashMap::<_, Map<String, Value>>::new();
        for record in Reader::open(&self.host.data_dir()).unwrap().from(0) {
            let event = record.unwrap().event;
            if let (Some(session), Some(n), Body::Response(response)) = (event.session, event.exchange, event.body)
                && let Value::Object(told) = serde_json::to_value(response.facts).unwrap()
            {
                answers.entry(format!("{session}.{n}")).or_default().extend(told);
            }
        }
        Answers(answers)
    }

    /// The index made anew says the same of the last run, and all of it is provable.
    pub fn survives(&self) {
        let run = self.host.last_run()["id"].as_str().unwrap().to_owned();
        let before = self.host.json(&["show", &run, "--all"]);
        agent::wait_idle(&self.host);
        let _ = succeeded(&self.host.crewtap(&["reindex"]).output().unwrap());
        assert_eq!(self.host.json(&["show", &run, "--all"]), before);
        self.host.verify();
    }

    /// The password is in no file of the store in any form, and text that is on record is: so it is not hidden from us.
    pub fn keeps_no(&self, password: &str, witness: &str) {
        let hexadecimal = crewtap_core::view::hexadecimal(password.as_bytes());
        let coded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, password);
        for form in [password.to_owned(), hexadecimal.to_uppercase(), hexadecimal, coded] {
            assert_eq!(kept(&self.host, &form), "", "{form}");
        }
        assert_ne!(kept(&self.host, witness), "", "{witness} is not found either");
    }
}

/// What answers say, by exchange.
pub struct Answers(HashMap<String, Map<String, Value>>);

impl Answers {
    /// One fact of an exchange's answer; null where it has none.
    pub fn of(&self, exchange: &Value, fact: &str) -> Value {
        let facts = self.0.get(exchange["id"].as_str().unwrap());
        facts.and_then(|facts| facts.get(fact)).cloned().unwrap_or_default()
    }
}

/// The files of a store that hold a text. By grep: most of a new store is room, and a debug build is slow to look through it.
pub fn kept(host: &Host, text: &str) -> String {
    let found =
        Command::new("grep").args(["-rlF", "-e", text]).arg(host.data_dir()).env("LC_ALL", "C").output().unwrap();
    assert!(found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap()
}

/// What clients find in their environment.
fn with_clients(command: &mut Command) {
    command.env("PGPASSWORD", PASSWORD).env("HOME", "/nonexistent").env("PGCONNECT_TIMEOUT", "30");
    command.env("NODE_PATH", node_clients(&cache_dir()).join("node_modules")).env("PYTHONUNBUFFERED", "1");
    command.env("NODE_NO_WARNINGS", "1");
}

/// The exchanges of a run but its log-ins, in order.
pub fn statements(rows: &Rows) -> Vec<Value> {
    rows.table("exchanges").into_iter().filter(|row| row["verb"] != "LOGIN").cloned().collect()
}

/// The one whose text has a word.
pub fn of<'r>(rows: &'r [Value], word: &str) -> &'r Value {
    let has = |row: &&Value| row["subject"].as_str().is_some_and(|subject| subject.contains(word));
    rows.iter().find(has).unwrap_or_else(|| panic!("{word} is not among {rows:#?}"))
}

/// One kind of thing that an exchange said.
pub fn what<'s>(said: &'s [Value], kind: &str) -> &'s Value {
    said.iter().find(|said| said["what"] == kind).unwrap_or_else(|| panic!("no {kind} in {said:#?}"))
}

/// Where a client connects to and how, as a URI.
pub fn uri(server: &Postgres, user: &str, more: &str) -> String {
    format!("postgresql://{user}@127.0.0.1:{}/{DATABASE}?{more}", server.port())
}

/// The same for who needs no password, without TLS.
pub fn plain(server: &Postgres) -> String {
    uri(server, user::TRUSTED, "sslmode=disable")
}

/// Python with the client libraries.
pub fn python() -> String {
    clients_project(&cache_dir()).join(".venv/bin/python").display().to_string()
}

/// A script for the raw client.
pub fn raw(script: &str) -> String {
    format!("{RAW}\n{script}")
}

/// Where the libraries of PostgreSQL 18 are, libpq among them.
pub fn newest_library() -> String {
    postgres_18().join("lib").display().to_string()
}

/// A client in the background, that says lines and waits for some.
pub struct Talk {
    child: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

impl Talk {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, lines: std::io::BufRead::lines(output) }
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }

    /// Reads a number.
    pub fn number(&mut self) -> i32 {
        let line = self.line();
        line.parse().unwrap_or_else(|_| panic!("{line}"))
    }

    /// It may go on.
    pub fn go_on(&mut self) {
        std::io::Write::write_all(self.child.stdin.as_mut().unwrap(), b"\n").unwrap();
    }

    /// What it says to its end; and how it ended.
    pub fn end(mut self) -> (Vec<String>, std::process::ExitStatus) {
        let rest = self.lines.by_ref().map(Result::unwrap).collect();
        (rest, self.child.wait().unwrap())
    }
}
