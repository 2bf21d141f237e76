//! A host whose names lead to servers on its own loopback, a company's authority that crewtap verifies them with, and
//! clients that have been told nothing.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crewtap_tests::host::{Host, crewtap, succeeded};
use serde_json::{Value, json};

use super::pki::{Pki, Shown, valid};
use crate::rows::Rows;

/// Where servers listen, on loopback of the host's own namespace.
pub const ADDRESS: &str = "10.55.0.1";

/// The name of the server that is as it should be.
pub const NAME: &str = "api.target.test";

const SERVER: &str = include_str!("server.py");

/// Puts a file over the one that holds the host's names, for the rest of the command line.
const NAMED: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";

/// A program that ends with the test.
pub struct Running(Child);

impl Running {
    /// Starts a program and waits until it has printed a line that begins with `line`.
    pub fn start(mut command: Command, line: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        while !said.last().is_some_and(|last: &String| last.starts_with(line)) {
            said.push(lines.next().unwrap_or_else(|| panic!("{command:?} ended: {said:?}")).unwrap());
        }
        // What it says further must be read, or it would stop when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The host with its authority.
pub struct Ground {
    pub host: Host,
    pub pki: Pki,
    running: Vec<Running>,
    names: Vec<String>,
    servers: Vec<Value>,
}

impl Ground {
    /// A host without servers; crewtap verifies targets with the company's root too.
    pub fn new() -> Self {
        let host = Host::new();
        host.address(ADDRESS);
        let pki = Pki::new(host.path("pki"));
        let ground = Self { host, pki, running: Vec::new(), names: Vec::new(), servers: Vec::new() };
        ground.configure("");
        ground
    }

    /// A host with one web server, on port 443 of [`NAME`].
    pub fn with_web() -> Self {
        let mut ground = Self::new();
        let shown = ground.pki.leaf(&valid(&[NAME, ADDRESS]));
        ground.add(NAME, 443, &shown, "web", &json!({}));
        ground.serve();
        ground
    }

    /// Writes crewtap's configuration, with more lines.
    pub fn configure(&self, more: &str) {
        let root = self.pki.root_file();
        let settings = format!("tls_authorities = ['{}']\n{more}\n", root.display());
        std::fs::write(self.host.path("crewtap.toml"), settings).unwrap();
    }

    /// A TLS server for [`Ground::serve`]; `talk` and what may be in `more` stand in server.py.
    pub fn add(&mut self, name: &str, port: u16, shown: &Shown, talk: &str, more: &Value) {
        let mut server = json!({
            "address": ADDRESS, "port": port, "chain": shown.chain, "key": shown.key, "talk": talk,
            "log": self.log_path(port),
        });
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.servers.push(server);
        self.name(name, ADDRESS);
    }

    /// Starts the servers that were added.
    pub fn serve(&mut self) {
        let mut command = self.host.command("/usr/bin/python3");
        command.args(["-c", SERVER, &Value::from(std::mem::take(&mut self.servers)).to_string()]);
        self.start(command, "ready");
    }

    /// Starts another server, which is ready when it prints `line`.
    pub fn start(&mut self, command: Command, line: &str) {
        self.running.push(Running::start(command, line));
    }

    /// Starts nginx with one `server` block.
    pub fn nginx(&mut self, server: &str) {
        let prefix = self.host.path("nginx");
        std::fs::create_dir_all(&prefix).unwrap();
        let [error, access, pid, temporary] = ["error.log", "access.log", "pid", "tmp"].map(|name| prefix.join(name));
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", temporary.display()));
        std::fs::create_dir_all(prefix.join("tmp")).unwrap();
        let settings = format!(
            "daemon off; master_process off; worker_processes 1; pid {}; error_log {} info; events {{}}\n\
             http {{ access_log {}; {} {server} }}\n",
            pid.display(),
            error.display(),
            access.display(),
            temporary.concat(),
        );
        let file = prefix.join("nginx.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = self.host.command("nginx");
        command.arg("-e").arg(&error).arg("-c").arg(&file).stdout(Stdio::null());
        self.running.push(Running(command.spawn().unwrap()));
        // It says nothing when it is ready.
        let up = self.host.inside(|| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while Instant::now() < deadline {
                if TcpStream::connect((ADDRESS, 443)).is_ok() {
                    return true;
                }
                std::thread::yield_now();
            }
            false
        });
        assert!(up.join().unwrap(), "{}", std::fs::read_to_string(&error).unwrap_or_default());
    }

    /// Gives an address a name.
    pub fn name(&mut self, name: &str, address: &str) {
        self.names.push(format!("{address} {name}\n"));
        std::fs::write(self.host.path("hosts"), self.names.concat()).unwrap();
    }

    fn log_path(&self, port: u16) -> PathBuf {
        self.host.path(&format!("server-{port}.log"))
    }

    /// What the server on a port has noted.
    pub fn log(&self, port: u16) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log_path(port)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A command in the host's namespace that knows its names, without what this machine has in its environment.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.host.command("unshare");
        command.args(["-m", "sh", "-c", NAMED]).arg(self.host.path("hosts")).arg(program.as_ref());
        clean(&mut command);
        command
    }

    /// `crewtap run -- …`, to be given the command.
    pub fn crewtap_run(&self) -> Command {
        let mut command = self.command(crewtap());
        command.arg("--config").arg(self.host.path("crewtap.toml")).arg("--data-dir").arg(self.host.data_dir());
        command.args(["run", "--"]);
        command
    }

    /// A command under `crewtap run`, to its end.
    pub fn run(&self, command: &[&str]) -> Output {
        self.crewtap_run().args(command).output().unwrap()
    }

    /// The same without crewtap.
    pub fn direct(&self, command: &[&str]) -> Output {
        self.command(command[0]).args(&command[1..]).output().unwrap()
    }

    /// What is on record of the last run: with nothing lost, and provable.
    pub fn rows(&self, sessions: u64) -> Rows {
        let rows = Rows::of_last_run(&self.host);
        rows.reconciled(sessions);
        rows
    }

    /// Everything on record of an exchange, as a person reads it.
    pub fn show(&self, id: &str) -> String {
        succeeded(&self.host.crewtap(&["show", id]).output().unwrap())
    }
}

/// Machines with a company's own roots set such variables for everybody.
pub fn clean(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("LANG", "C.UTF-8");
}

/// The codes of a run's notes, in order.
pub fn notes(rows: &Rows) -> Vec<String> {
    rows.table("notes").iter().map(|note| note["code"].as_str().unwrap().to_owned()).collect()
}
