//! The servers of the far namespace: real PostgreSQL, real OpenSSH, and the scripted ones. They end with the thread that
//! started them, whatever happens to it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use super::accounts::Keys;
use super::paths::{clone_root, must, postgres_bin};
use super::trust::Trust;
use super::{NAMES, RESOLVERS};

const SCHEMA: &str = "
CREATE ROLE crew LOGIN PASSWORD 'orders-demo';
CREATE DATABASE orders OWNER crew;
\\connect orders
SET ROLE crew;
CREATE TABLE orders
    (id int PRIMARY KEY, customer_id int, article text, amount numeric(10, 2), status text, paid_with text);
INSERT INTO orders VALUES
    (1001, 7731, 'A-100', 1840.00, 'open', '4111 1111 1111 1111'), (1002, 7731, 'A-100', 210.00, 'open', NULL),
    (1003, 7740, 'B-200', 4500.00, 'delivered', NULL), (1004, 7740, 'B-200', 2215.50, 'open', '5500 0000 0000 0004');
CREATE TABLE reports (id serial PRIMARY KEY, order_id int, finding text);
";

/// What runs, in the order of its start.
#[derive(Debug)]
pub(super) struct Servers {
    scripted: Child,
    postgres: Child,
    ssh: Child,
}

impl Servers {
    /// Starts all, and returns when all accept connections.
    pub(super) fn start(directory: &Path, trust: &Trust, keys: &Keys) -> Result<Self> {
        let scripted = start_scripted(directory, trust).context("the scripted servers")?;
        let postgres = start_postgres(directory, trust).context("PostgreSQL")?;
        let ssh = start_ssh(directory, keys).context("the SSH server")?;
        Ok(Self { scripted, postgres, ssh })
    }

    /// Asks all to stop and collects them; PostgreSQL without waiting for its clients.
    pub(super) fn stop(&mut self) {
        let stopping = [
            (&mut self.scripted, Signal::SIGKILL),
            (&mut self.postgres, Signal::SIGQUIT),
            (&mut self.ssh, Signal::SIGTERM),
        ];
        for (server, signal) in stopping {
            // A number that does not fit, or a process that is gone, leaves nothing to stop.
            if let Ok(pid) = i32::try_from(server.id()) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            let _ = server.wait();
        }
    }
}

/// A server: killed when its maker's thread ends, and out of the terminal's reach, so that an interrupt ends the crew
/// first.
fn server(arguments: &[&str], program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(arguments).arg("--").arg(program.as_ref());
    command.process_group(0).stdin(Stdio::null());
    command
}

fn start_scripted(directory: &Path, trust: &Trust) -> Result<Child> {
    let names: serde_json::Map<_, _> =
        NAMES.iter().map(|(name, addresses)| ((*name).to_owned(), serde_json::json!(addresses))).collect();
    let certificates: serde_json::Map<_, _> =
        NAMES.iter().map(|(name, _)| ((*name).to_owned(), serde_json::json!(trust.certificate(name)))).collect();
    let description = serde_json::json!({
        "names": names,
        "certificates": certificates,
        "resolvers": RESOLVERS,
        "openai_key": directory.join("vault/openai"),
        "accepted_log": directory.join("accepted.jsonl"),
        "requests_log": directory.join("requests.jsonl"),
        "dns_log": directory.join("dns.jsonl"),
    });
    let file = directory.join("world.json");
    fs::write(&file, description.to_string())?;
    let errors = File::create(directory.join("servers.log"))?;
    let mut child = server(&[], "/usr/bin/python3")
        .arg("-B")
        .arg(clone_root().join("tests/demo/world/serve.py"))
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "they did not start: {}", fs::read_to_string(directory.join("servers.log"))?);
    Ok(child)
}

fn start_postgres(directory: &Path, trust: &Trust) -> Result<Child> {
    let programs = postgres_bin().context("it is not installed: run `cargo xtask setup`")?;
    let account = User::from_name("postgres")?.context("there is no user postgres: run `cargo xtask setup`")?;
    let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
    let as_postgres = ["--reuid", &uid, "--regid", &gid, "--clear-groups"];
    let home = directory.join("postgres");
    fs::create_dir(&home)?;
    let own = |path: &Path| chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()));
    own(&home)?;
    let cluster = home.join("cluster");
    must(
        server(&as_postgres, programs.join("initdb"))
            .current_dir(&home)
            .args([
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
            ])
            .arg("--pgdata")
            .arg(&cluster),
    )?;
    let (certificate, key) = trust.certificate("pg.internal");
    for (from, name, mode) in [(certificate, "server.crt", 0o644), (key, "server.key", 0o600)] {
        let to = cluster.join(name);
        fs::copy(from, &to)?;
        own(&to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
    }
    let addresses = NAMES.iter().filter(|(name, _)| *name == "pg.internal").flat_map(|(_, found)| found.iter());
    let settings = format!(
        "listen_addresses = '{}'\nunix_socket_directories = '{}'\nssl = on\nfsync = off\nlog_connections = on\n\
         log_statement = all\nlog_line_prefix = '%m [%p] %r '\nmax_connections = 200\nshared_buffers = 32MB\n",
        addresses.copied().collect::<Vec<_>>().join(","),
        home.display()
    );
    append(&cluster.join("postgresql.conf"), &settings)?;
    append(&cluster.join("pg_hba.conf"), "host all all samenet scram-sha-256\n")?;
    let log = File::create(directory.join("postgres.log"))?;
    let child = server(&as_postgres, programs.join("postgres"))
        .current_dir(&home)
        .arg("-D")
        .arg(&cluster)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    wait_for_postgres(&programs, &home, directory)?;
    let schema = directory.join("schema.sql");
    fs::write(&schema, SCHEMA)?;
    let psql = server(&as_postgres, programs.join("psql"))
        .current_dir(&home)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f"])
        .arg(schema)
        .arg("-h")
        .arg(&home)
        .output()?;
    ensure!(psql.status.success(), "cannot fill it: {}", String::from_utf8_lossy(&psql.stderr));
    Ok(child)
}

fn wait_for_postgres(programs: &Path, home: &Path, directory: &Path) -> Result<()> {
    let ready = || {
        let mut asked = Command::new(programs.join("pg_isready"));
        asked.arg("-q").arg("-h").arg(home).status().is_ok_and(|status| status.success())
    };
    let log = directory.join("postgres.log");
    wait_until(ready).with_context(|| fs::read_to_string(log).unwrap_or_default())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut whole = fs::read_to_string(path)?;
    whole.push_str(text);
    fs::write(path, whole).with_context(|| format!("cannot write {}", path.display()))
}

fn start_ssh(directory: &Path, keys: &Keys) -> Result<Child> {
    let address = NAMES.iter().find(|(name, _)| *name == "ssh.internal").and_then(|(_, found)| found.first());
    let address = address.context("the world has no ssh.internal")?;
    let settings = format!(
        "ListenAddress {address}\nPort 22\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nLogLevel VERBOSE\n\
         UsePAM no\nStrictModes no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nMaxStartups 100\n\
         PerSourcePenalties no\n",
        keys.host.display(),
        keys.authorized.display()
    );
    let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
    let program = program.context("sshd is not installed: run `cargo xtask setup`")?;
    let file = directory.join("sshd_config");
    // Newer servers punish a source that connects often; older ones do not know the word.
    fs::write(&file, &settings)?;
    let known = Command::new(program).arg("-t").arg("-f").arg(&file).output()?.status.success();
    if !known {
        fs::write(&file, settings.replace("PerSourcePenalties no\n", ""))?;
        must(Command::new(program).arg("-t").arg("-f").arg(&file))?;
    }
    let log = directory.join("sshd.log");
    let errors = File::create(&log)?;
    let child = server(&[], program).args(["-D", "-e", "-f"]).arg(&file).stderr(errors).spawn()?;
    let listening = || fs::read_to_string(&log).is_ok_and(|text| text.contains("Server listening on"));
    wait_until(listening).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok(child)
}

/// Programs that cannot tell us when they are ready are asked until they are.
fn wait_until(mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !ready() {
        ensure!(std::time::Instant::now() < deadline, "it did not start within 30 s");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}
