//! A host of its own with a real sshd, whose `/root` and `/etc/ssh` are directories of the test.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crewtap_tests::host::{Host, crewtap, succeeded, text};
use serde_json::Value;

use crate::overlay::clean;

/// Where the server listens, on loopback of the host's own namespace.
pub(super) const ADDRESS: &str = "10.55.0.1";

/// Its port.
pub(super) const PORT: &str = "2222";

/// A host whose `/root` and `/etc/ssh` are directories of the test.
pub(super) struct Ground {
    pub(super) host: Host,
    server: Option<Child>,
}

pub(super) fn ssh_keygen(arguments: &[&str]) -> String {
    succeeded(&Command::new("ssh-keygen").args(arguments).output().unwrap())
}

/// Makes a key; its public half as known hosts have it.
pub(super) fn new_key(path: &Path, kind: &str) -> String {
    ssh_keygen(&["-q", "-t", kind, "-N", "", "-C", "t", "-f", path.to_str().unwrap()]);
    let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

impl Ground {
    pub(super) fn new() -> Self {
        let host = Host::new();
        host.address(ADDRESS);
        for (name, mode) in [("root", 0o700), ("root/.ssh", 0o700), ("etc-ssh", 0o755)] {
            std::fs::create_dir(host.path(name)).unwrap();
            std::fs::set_permissions(host.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::write(host.path("etc-ssh/ssh_config"), "Host *\n    HashKnownHosts no\n").unwrap();
        std::fs::create_dir(host.path("etc-ssh/ssh_config.d")).unwrap();
        Self { host, server: None }
    }

    pub(super) fn own(&self) -> PathBuf {
        self.host.path("root/.ssh/known_hosts")
    }

    /// `crewtap run -- sh -c SCRIPT` where `/root` and `/etc/ssh` are the test's.
    pub(super) fn command(&self, script: &str) -> Command {
        let place = "mount --bind \"$1\" /root && mount --bind \"$2\" /etc/ssh && shift 2 && exec \"$@\"";
        let mut run = self.host.command("unshare");
        clean(&mut run);
        run.args(["-m", "sh", "-c", place, "sh"]).args([self.host.path("root"), self.host.path("etc-ssh")]);
        run.arg(crewtap()).arg("--data-dir").arg(self.host.data_dir());
        let settings = self.host.path("crewtap.toml");
        if settings.exists() {
            run.arg("--config").arg(settings);
        }
        run.args(["run", "--", "sh", "-c", script]);
        run
    }

    /// The same to its end.
    pub(super) fn run(&self, script: &str) -> Output {
        self.command(script).output().unwrap()
    }

    /// The plain keys of the trusted authority, each `ALGORITHM BASE64`, and the authority's own.
    pub(super) fn ours(&self) -> (Vec<String>, String) {
        let text = std::fs::read_to_string(self.host.data_dir().join("authority/ssh-trusted-1")).unwrap();
        let mut keys = Vec::new();
        for (number, block) in text.split_inclusive("-----END OPENSSH PRIVATE KEY-----\n").enumerate() {
            let path = self.host.path(&format!("ours-{number}"));
            std::fs::write(&path, block).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let line = ssh_keygen(&["-y", "-f", path.to_str().unwrap()]);
            keys.push(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        }
        (keys.split_off(1), keys.remove(0))
    }

    /// An sshd that shows these host keys, and these certificates for them.
    pub(super) fn serve(&mut self, keys: &[PathBuf], certificates: &[PathBuf]) {
        std::fs::create_dir_all("/run/sshd").unwrap();
        let mut server = self.host.command("/usr/sbin/sshd");
        server.args(["-D", "-e", "-f", "/dev/null", "-o", &format!("ListenAddress={ADDRESS}:{PORT}")]);
        server.args(["-o", "PidFile=none", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "PermitRootLogin=yes"]);
        server.args(["-o", "MaxSessions=300", "-o", "Subsystem=sftp internal-sftp", "-o", "AcceptEnv=LANG CREW_*"]);
        server.arg("-o").arg(format!("AuthorizedKeysFile={}", self.host.path("authorized").display()));
        for key in keys {
            server.arg("-h").arg(key);
        }
        for certificate in certificates {
            server.arg("-o").arg(format!("HostCertificate={}", certificate.display()));
        }
        self.stop();
        self.server = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let up = self.host.inside(|| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline {
                if std::net::TcpStream::connect((ADDRESS, 2222)).is_ok() {
                    return true;
                }
                std::thread::yield_now();
            }
            false
        });
        assert!(up.join().unwrap(), "sshd does not listen");
    }

    /// An sshd that the user knows and may log in to with the key in the user's home.
    pub(super) fn known_server(&mut self) -> PathBuf {
        let key = self.host.path("hostkey");
        let line = new_key(&key, "ed25519");
        std::fs::write(self.own(), format!("[{ADDRESS}]:{PORT} {line}\n")).unwrap();
        let user = self.host.path("root/.ssh/id_ed25519");
        std::fs::write(self.host.path("authorized"), format!("{}\n", new_key(&user, "ed25519"))).unwrap();
        let config = format!(
            "Host t\n HostName {ADDRESS}\n Port {PORT}\n BatchMode yes\nHost j\n HostName {ADDRESS}\n Port {PORT}\n BatchMode yes\n"
        );
        std::fs::write(self.host.path("root/.ssh/config"), config).unwrap();
        self.serve(std::slice::from_ref(&key), &[]);
        key
    }

    /// Settings of the agents that later runs start.
    pub(super) fn configure(&self, settings: &str) {
        std::fs::write(self.host.path("crewtap.toml"), settings).unwrap();
    }

    /// Cedar policies; with them the mode is enforce.
    pub(super) fn policy(&self, policies: &str) {
        std::fs::create_dir_all(self.host.path("policy")).unwrap();
        std::fs::write(self.host.path("policy/test.cedar"), policies).unwrap();
        std::fs::set_permissions(self.host.path("policy"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Exchanges of the run that was started last, in the order of their sessions and numbers.
    pub(super) fn exchanges(&self) -> Vec<Value> {
        let run = self.host.last_run();
        let mut rows = self.host.json(&["show", run["id"].as_str().unwrap(), "--all"]);
        rows.retain(|row| row["table"] == "exchanges");
        rows.sort_by_key(|row| (row["session"].to_string(), row["n"].as_i64()));
        rows
    }

    /// What is on record of an exchange, as text.
    pub(super) fn shown(&self, exchange: &Value) -> String {
        text(&self.host.crewtap(&["show", exchange["id"].as_str().unwrap(), "--all"]).output().unwrap())
    }

    /// Events of a kind, of all runs, each as it is in the journal.
    pub(super) fn events(&self, kind: &str) -> Vec<String> {
        let reader = crewtap::journal::Reader::open(&self.host.data_dir()).unwrap();
        let bodies = (0..reader.len().unwrap()).filter_map(|leaf| Some(reader.record(leaf).ok()??.event.body));
        bodies.filter(|body| body.kind() == kind).map(|body| format!("{body:?}")).collect()
    }

    /// Notes, each as it is in the journal.
    pub(super) fn notes(&self) -> String {
        self.events("note").join("\n")
    }

    /// Whether a value stands in clear in any file of the store.
    pub(super) fn holds(&self, value: &str) -> bool {
        crate::redaction::holds(&self.host, value)
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop();
    }
}
