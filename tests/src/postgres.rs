//! Real PostgreSQL servers for tests: Debian's, or 18 from npm, each in a temporary directory and a host's network
//! namespace, with one small schema, users for every way of logging in, and a log that holds every statement. Never a
//! cluster of the machine, and nothing that outlives the test.
//!
//! ```no_run
//! use crewtap_tests::{host::Host, postgres::{Certificates, Postgres, Release, user}};
//! let host = Host::new();
//! let certificates = Certificates::new(&host.path("certificates"));
//! let server = Postgres::on(&host).release(Release::Eighteen).tls(&certificates.leaf("pg.target.test", "sha256")).start();
//! let query = format!("postgresql://{}@127.0.0.1:{}/shop", user::TRUSTED, server.port());
//! assert!(host.command("psql").args(["-c", "SELECT name FROM customers", &query]).status().unwrap().success());
//! assert_eq!(server.statements(), ["SELECT name FROM customers"]);
//! ```

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::missing_panics_doc)]

mod certificates;
mod drivers;

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

pub use certificates::{Certificates, Shown};
pub use drivers::{ANSWER, DRIVERS, Driver};

use crate::host::{Host, succeeded};
use crate::world::{postgres_18, postgres_bin};

/// The database that holds the schema.
pub const DATABASE: &str = "shop";

/// The password of every user that has one.
pub const PASSWORD: &str = "correct horse 7!";

/// Who may log in, each in one way. They may read and write every table.
pub mod user {
    /// No password is asked for.
    pub const TRUSTED: &str = "trusted";
    /// The server asks for the password in clear.
    pub const CLEAR: &str = "clear";
    /// The server asks for an MD5 digest.
    pub const MD5: &str = "hashed";
    /// SCRAM-SHA-256, over TLS with channel binding offered.
    pub const SCRAM: &str = "scram";
    /// SCRAM-SHA-256, and TLS is a must.
    pub const SECURED: &str = "secured";
    /// A client certificate whose common name is this, and nothing else.
    pub const CERTIFIED: &str = "certified";
    /// Everybody who may log in, in the order of `pg_hba.conf`.
    pub const ALL: [&str; 6] = [TRUSTED, CLEAR, MD5, SCRAM, SECURED, CERTIFIED];
}

/// Three customers and four orders. The card numbers are the well-known ones of payment providers' documentation.
const SCHEMA: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text, card text);
INSERT INTO customers VALUES
    (1, 'Ada Lovelace', 'ada@example.com', '4111 1111 1111 1111'),
    (2, 'Grace Hopper', 'grace@example.com', '5555555555554444'),
    (3, 'Müller & Søn', NULL, NULL);
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int REFERENCES customers, article text, amount numeric(10, 2), placed timestamptz
);
INSERT INTO orders VALUES
    (1001, 1, 'A-100', 1840.00, '2026-01-02 03:04:05+00'), (1002, 1, 'A-100', 210.00, '2026-01-03 00:00:00+00'),
    (1003, 2, 'B-200', 4500.00, '2026-02-01 12:00:00+00'), (1004, 3, NULL, 0.01, NULL);
";

/// What each line of the log begins with: process, user, database, application.
const PREFIX: &str = "%p|%u|%d|%a|";

/// Which PostgreSQL runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// The distribution's: 15 in Debian 12.
    Debian,
    /// 18, with direct TLS and protocol 3.2.
    Eighteen,
}

impl Release {
    /// Both, for tests that walk them.
    pub const ALL: [Self; 2] = [Self::Debian, Self::Eighteen];

    /// Where its server programs are.
    fn programs(self) -> PathBuf {
        let programs = match self {
            Self::Debian => postgres_bin(),
            Self::Eighteen => Some(postgres_18().join("bin")).filter(|bin| bin.join("postgres").exists()),
        };
        programs.unwrap_or_else(|| panic!("PostgreSQL ({self:?}) is not there: run `cargo xtask setup`"))
    }
}

/// How a server shall be.
#[derive(Clone, Debug)]
pub struct Wanted {
    namespace: String,
    directory: PathBuf,
    release: Release,
    address: String,
    port: u16,
    tls: Option<Shown>,
    client_authority: Option<PathBuf>,
    settings: String,
}

/// A running server. It ends with this value, or with the thread that started it.
pub struct Postgres {
    child: Child,
    home: PathBuf,
    address: String,
    port: u16,
}

impl Postgres {
    /// A server in the host's namespace: Debian's, without TLS, on 127.0.0.1:5432, unless told otherwise.
    #[must_use]
    pub fn on(host: &Host) -> Wanted {
        Self::in_namespace(host.netns(), &host.path(""))
    }

    /// The same in a namespace that `ip netns` knows by this name, with its files below `directory`.
    #[must_use]
    pub fn in_namespace(name: &str, directory: &Path) -> Wanted {
        Wanted {
            namespace: name.to_owned(),
            directory: directory.to_owned(),
            release: Release::Debian,
            address: "127.0.0.1".to_owned(),
            port: 5432,
            tls: None,
            client_authority: None,
            settings: String::new(),
        }
    }

    /// The address it listens on; several are joined by commas.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The postmaster's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its files and its socket are. The superuser `postgres` logs in over the socket without a password.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What a superuser's psql answers, without headings; it does not go over the network, and is not among
    /// [`Postgres::statements`].
    #[must_use]
    pub fn query(&self, sql: &str) -> String {
        succeeded(&self.psql(DATABASE).args(["-A", "-t", "-c", sql]).output().unwrap()).trim().to_owned()
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap()
    }

    /// Every statement that came over the network, simple or executed, in the order of the log, with the lines of each
    /// joined as they were.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        let mut statements: Vec<String> = Vec::new();
        let mut open = false;
        for line in self.log().lines() {
            // What goes on over several lines is indented by a tab.
            if let (true, Some(more), Some(last)) = (open, line.strip_prefix('\t'), statements.last_mut()) {
                last.push('\n');
                last.push_str(more);
                continue;
            }
            let statement = statement_of(line);
            open = statement.is_some();
            statements.extend(statement.map(str::to_owned));
        }
        statements
    }

    /// How many TCP connections the server has been asked for, those that said nothing included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains("connection received: host=") && !line.contains("[local]"))
            .count()
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-p"]);
        psql.arg(self.port.to_string()).arg("-h").arg(&self.home).stdin(Stdio::null());
        psql.env("PGCONNECT_TIMEOUT", "10").env("PGOPTIONS", "-c log_statement=none");
        psql
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        let said = |server: &Self| server.log().contains("database system is ready to accept connections");
        while !said(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn fill(&self) {
        let mut roles = String::from("SET password_encryption = 'scram-sha-256';\n");
        for user in user::ALL {
            let encryption = if user == user::MD5 { "md5" } else { "scram-sha-256" };
            let _ = write!(
                roles,
                "SET password_encryption = '{encryption}'; CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}';\n\
                 GRANT pg_read_all_data, pg_write_all_data TO {user};\n"
            );
        }
        let mut made = self.psql("postgres");
        made.args(["-c", &roles, "-c", &format!("CREATE DATABASE {DATABASE}")]);
        let _ = succeeded(&made.output().unwrap());
        let names = user::ALL.join(", ");
        let grants = format!("{SCHEMA}GRANT CREATE, USAGE ON SCHEMA public TO {names};");
        let _ = succeeded(&self.psql(DATABASE).args(["-c", &grants]).output().unwrap());
    }
}

/// The statement that a line of the log tells of, if one came over the network.
fn statement_of(line: &str) -> Option<&str> {
    let mut fields = line.splitn(5, '|');
    let user = fields.nth(1)?;
    let message = fields.nth(2)?.strip_prefix("LOG:  ")?;
    if user == "postgres" {
        return None;
    }
    message
        .strip_prefix("statement: ")
        .or_else(|| message.strip_prefix("execute ")?.split_once(": ").map(|(_, text)| text))
}

impl Wanted {
    /// Another PostgreSQL than Debian's.
    #[must_use]
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Other addresses than 127.0.0.1, joined by commas. They must be there already.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Another port than 5432.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// With TLS, offered and not asked for, showing this certificate.
    #[must_use]
    pub fn tls(mut self, shown: &Shown) -> Self {
        self.tls = Some(shown.clone());
        self
    }

    /// Takes client certificates of this authority.
    #[must_use]
    pub fn client_authority(mut self, authority: &Path) -> Self {
        self.client_authority = Some(authority.to_owned());
        self
    }

    /// One more line of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    /// Makes a cluster, starts it, fills it, and returns when it takes connections.
    #[must_use]
    pub fn start(self) -> Postgres {
        let programs = self.release.programs();
        let home = self.make_home();
        let cluster = home.join("cluster");
        let mut initdb = self.command(&programs.join("initdb"));
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--username=postgres", "--auth=trust"]);
        let _ = succeeded(&initdb.arg("--pgdata").arg(&cluster).current_dir(&home).output().unwrap());
        self.configure(&home, &cluster);
        let log = File::create(home.join("log")).unwrap();
        let mut server = self.command(&programs.join("postgres"));
        server.arg("-D").arg(&cluster).current_dir(&home).stdout(log.try_clone().unwrap()).stderr(log);
        let child = server.spawn().unwrap();
        let mut server = Postgres { child, home, address: self.address, port: self.port };
        server.wait_until_ready();
        server.fill();
        server
    }

    /// A directory of the server's user, in which its socket's path stays short.
    fn make_home(&self) -> PathBuf {
        fs::create_dir_all(&self.directory).unwrap();
        // A store's directory is closed to others; the server's user must pass through.
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o755)).unwrap();
        let home = self.directory.join(format!("pg{}", self.port));
        fs::create_dir(&home).unwrap_or_else(|error| panic!("{}: {error}; choose another port", home.display()));
        own(&home);
        home
    }

    fn configure(&self, home: &Path, cluster: &Path) {
        let Self { address, port, settings, .. } = self;
        let mut lines = format!(
            "listen_addresses = '{address}'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n\
             log_statement = all\nlog_connections = on\nlog_line_prefix = '{PREFIX}'\nlc_messages = 'C'\n\
             max_connections = 100\nshared_buffers = 32MB\nmax_prepared_transactions = 10\nwal_level = logical\n{settings}",
            home.display()
        );
        if let Some(shown) = &self.tls {
            copy(&shown.chain, &cluster.join("server.crt"));
            copy(&shown.key, &cluster.join("server.key"));
            lines.push_str("ssl = on\n");
        }
        if let Some(authority) = &self.client_authority {
            copy(authority, &cluster.join("root.crt"));
            lines.push_str("ssl_ca_file = 'root.crt'\n");
        }
        let written = fs::read_to_string(cluster.join("postgresql.conf")).unwrap();
        fs::write(cluster.join("postgresql.conf"), written + &lines).unwrap();
        fs::write(cluster.join("pg_hba.conf"), self.access()).unwrap();
    }

    /// Which user logs in how.
    fn access(&self) -> String {
        let mut lines = String::from("local all postgres trust\n");
        let methods =
            [(user::TRUSTED, "trust"), (user::CLEAR, "password"), (user::MD5, "md5"), (user::SCRAM, "scram-sha-256")];
        for (user, method) in methods {
            let _ = writeln!(lines, "host all,replication {user} all {method}");
        }
        if self.tls.is_some() {
            let _ = writeln!(lines, "hostssl all {} all scram-sha-256", user::SECURED);
        }
        if self.client_authority.is_some() {
            let _ = writeln!(lines, "hostssl all {} all cert", user::CERTIFIED);
        }
        lines
    }

    /// A program as the server's user, in the namespace; killed when its maker's thread ends.
    fn command(&self, program: &Path) -> Command {
        let account = User::from_name("postgres").unwrap().expect("no user postgres: run `cargo xtask setup`");
        let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("setpriv");
        command.args(["--pdeathsig", "KILL", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--"]).arg(program);
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once, without waiting for clients. A process that is gone leaves nothing to stop.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let _ = self.child.wait();
        // The host's directory goes later, or another server of the same port comes first.
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn own(path: &Path) {
    let account = User::from_name("postgres").unwrap().expect("no user postgres: run `cargo xtask setup`");
    chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    own(to);
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
}
