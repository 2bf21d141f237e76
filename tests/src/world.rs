//! The world that a crew lives in: two network namespaces without a route out, joined by one cable; in the far one a name
//! server, OpenAI's stand-in, a company's HTTP interface, PostgreSQL and an SSH server; in the near one whatever the
//! caller runs. Owns its making and its end. Never changes anything on the host that outlives it, and knows nothing of
//! crewtap.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! crewtap_tests::world::within(|world| {
//!     let status = world.run(world.as_crew("curl").arg("http://api.internal/stock/A-100"))?;
//!     assert!(status.success());
//!     assert_eq!(world.accepted()?.len(), 1);
//!     Ok(())
//! })
//! # }
//! ```

mod accepted;
mod accounts;
mod exchanges;
mod mounts;
mod network;
mod paths;
mod secured;
mod servers;
mod signals;
mod statements;
mod trust;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, ensure};

pub use accepted::{Accepted, Server};
pub use accounts::CrewUser;
pub use paths::{
    cache_dir, clients_project, crew_project, node_clients, postgres_18, postgres_bin, provider_modules,
    provider_project,
};
pub use secured::Secured;
pub use signals::Interrupts;
pub use statements::Statement;

/// Names that the world's name server knows, with their addresses. Those with two families make clients sort and choose,
/// as they do outside.
pub const NAMES: &[(&str, &[&str])] = &[
    ("api.openai.com", &["10.77.0.10", "fd77::10"]),
    ("telemetry.crewai.com", &["10.77.0.11"]),
    ("api.internal", &["10.77.0.20", "fd77::20"]),
    ("pg.internal", &["10.77.0.30", "fd77::30"]),
    ("ssh.internal", &["10.77.0.40"]),
    ("app.crewai.com", &["10.77.0.50"]),
    ("raw.githubusercontent.com", &["10.77.0.50"]),
];

/// Where the world's name server answers, over UDP and TCP.
pub const RESOLVERS: &[&str] = &["10.77.0.53", "fd77::53"];

/// crewtap's configuration, in the world's directory.
const CONFIG: &str = "crewtap.toml";

/// One SSH command on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshCommand {
    /// Its exchange.
    pub exchange: String,
    /// The command.
    pub text: String,
    /// What it printed.
    pub printed: String,
}

/// A running world. The thread that `within` made lives in its near namespace, and what it starts does, too.
#[derive(Debug)]
pub struct World {
    directory: PathBuf,
    crew: CrewUser,
    project: PathBuf,
    network: network::Network,
    trust: trust::Trust,
    interrupts: Option<Interrupts>,
    servers: servers::Servers,
}

/// Makes a world, runs `work` in it on a thread of its own, and removes the world, also when `work` fails or panics.
///
/// # Errors
/// When this process is not root, when the world cannot be made (the error names the step), and whatever `work` returns.
pub fn within<T: Send>(work: impl FnOnce(&World) -> Result<T> + Send) -> Result<T> {
    within_interruptible(None, work)
}

/// Like [`within`], for a program that a person may interrupt: `interrupts` are waited for by the world's commands.
///
/// # Errors
/// As [`within`].
pub fn within_interruptible<T: Send>(
    interrupts: Option<Interrupts>,
    work: impl FnOnce(&World) -> Result<T> + Send,
) -> Result<T> {
    ensure!(nix::unistd::geteuid().is_root(), "the isolated network needs root: run this through sudo");
    let directory = paths::make_world_directory()?;
    // A namespace is entered by one thread; on a thread of its own nobody else is moved.
    let outcome = std::thread::scope(|scope| {
        let name = std::thread::Builder::new().name("world".to_owned());
        let running = name.spawn_scoped(scope, || {
            let world = World::start(&directory, interrupts).context("cannot make the isolated world")?;
            work(&world)
        })?;
        running.join().map_err(|_| anyhow!("the work inside the world panicked"))?
    });
    if !directory.join("keep").exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    outcome
}

impl World {
    fn start(directory: &Path, interrupts: Option<Interrupts>) -> Result<Self> {
        let project = crew_project(&cache_dir());
        ensure!(project.join(".venv/bin/crewai").exists(), "CrewAI is not installed: run `cargo xtask setup`");
        let crew = CrewUser::choose(&project)?;
        let network = network::Network::make()?;
        mounts::make_private()?;
        let trust = trust::Trust::make(&directory.join("trust"))?;
        let keys = accounts::write(directory, &crew)?;
        mounts::cover(directory)?;
        let servers = network.far(|| servers::Servers::start(directory, &trust, &keys))?;
        let authorities = format!("tls_authorities = [\"{}\"]\n", trust.ca().display());
        fs::write(directory.join(CONFIG), authorities).context("cannot write crewtap's configuration")?;
        Ok(Self { directory: directory.to_owned(), crew, project, network, trust, interrupts, servers })
    }

    /// A directory that ends with the world: logs, certificates, the crew's home.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A configuration that names the company's CA, which nothing else in the world trusts: crewtap verifies the servers
    /// with it.
    pub fn config(&self) -> PathBuf {
        self.directory.join(CONFIG)
    }

    /// Lets the near namespace trust the company's CA, as its administrator would: for what runs without crewtap.
    ///
    /// # Errors
    /// When nothing can be mounted.
    pub fn trust_company(&self) -> Result<()> {
        mounts::add_roots(&self.directory, &self.trust, &self.project)
    }

    /// The crew's CrewAI project, with its `.venv`.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// The ordinary user that crews run as.
    pub fn crew(&self) -> &CrewUser {
        &self.crew
    }

    /// Leaves [`World::directory`] in place when the world ends.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn keep_directory(&self) -> Result<()> {
        fs::write(self.directory.join("keep"), "").context("cannot mark the world's directory")
    }

    /// A command as root in the near namespace, with a small clean environment.
    pub fn as_root(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.directory.join("root")).env("LANG", "C.UTF-8").env("TERM", terminal());
        command.current_dir(&self.directory);
        command
    }

    /// A command as the crew's user in the project's directory, with the environment that such a user would have: the
    /// project's environment is active, the key of the model is exported, and uv is told that there is no network.
    pub fn as_crew(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        command.args(["--reuid", &self.crew.uid.to_string(), "--regid", &self.crew.gid.to_string(), "--init-groups"]);
        command.arg("--").arg(program.as_ref());
        command.env_clear().current_dir(&self.project);
        let environment = self.project.join(".venv");
        let path = format!("{}/bin:/usr/local/bin:/usr/bin:/bin", environment.display());
        command.env("PATH", path).env("VIRTUAL_ENV", environment);
        command.env("HOME", self.crew_home()).env("USER", &self.crew.name).env("LOGNAME", &self.crew.name);
        command.env("LANG", "C.UTF-8").env("TERM", terminal()).env("SHELL", "/bin/bash");
        command.env("OPENAI_API_KEY", "sk-proj-demo-0123456789abcdefghijklmnopqrstuvwxyz");
        command.env("UV_OFFLINE", "1").env("UV_NO_SYNC", "1");
        command
    }

    /// The home directory of the crew's user.
    pub fn crew_home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// Runs a command in the near namespace to its end. An interrupt from the terminal reaches it, and not us.
    ///
    /// # Errors
    /// When it cannot be started, or the user has interrupted us before.
    pub fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut child = self.spawn(command)?;
        match &self.interrupts {
            Some(interrupts) => interrupts.wait(&mut child),
            None => child.wait().context("cannot wait for the command"),
        }
    }

    /// Runs a command in the near namespace, and returns what it writes to its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run_for_output(&self, command: &mut Command) -> Result<String> {
        let child = self.spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = child.wait_with_output().context("cannot wait for the command")?;
        ensure!(output.status.success(), "{command:?} failed ({})", output.status);
        String::from_utf8(output.stdout).context("the command's output is no UTF-8")
    }

    /// The result of a query on the orders database, as its administrator and not over the network.
    ///
    /// # Errors
    /// When the query fails.
    pub fn query(&self, sql: &str) -> Result<String> {
        let psql = postgres_bin().context("PostgreSQL is not installed")?.join("psql");
        let socket = self.directory.join("postgres");
        let mut command = self.as_root(psql);
        command.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-d", "orders", "-c", sql, "-h"]).arg(socket);
        Ok(self.run_for_output(&mut command)?.trim().to_owned())
    }

    /// Starts a command in the near namespace.
    ///
    /// # Errors
    /// When it cannot be started, or the user has interrupted us before.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        let spawned = match &self.interrupts {
            Some(interrupts) => interrupts.spawn(command),
            None => command.spawn().map_err(Into::into),
        };
        spawned.with_context(|| format!("cannot start {name}"))
    }

    /// Runs `work` in the far namespace, where the servers are: for servers of one's own.
    ///
    /// # Errors
    /// The error of `work`.
    pub fn far<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.network.far(work)
    }

    /// Every TCP connection that the servers have accepted, by their own account.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn accepted(&self) -> Result<Vec<Accepted>> {
        accepted::read(&self.directory)
    }

    /// Compares the exchanges on record with what the servers say that they were asked and have answered, bodies included,
    /// both ways; how many there are. `show` answers `crewtap show ID --all --json`.
    ///
    /// # Errors
    /// When they are not the same; it names the first differences.
    pub fn compare_exchanges(&self, run: &str, show: impl Fn(&str) -> Result<String>) -> Result<usize> {
        exchanges::compare(&self.directory, run, show)
    }

    /// Compares the statements on record, and their values, with those that the database says it ran, both ways; all of them,
    /// with their rows. `show` answers `crewtap show ID --all --json`.
    ///
    /// # Errors
    /// When they are not the same; it names the first differences.
    pub fn compare_statements(&self, run: &str, show: impl Fn(&str) -> Result<String>) -> Result<Vec<Statement>> {
        statements::compare(&self.directory, run, show)
    }

    /// The SSH commands on record, each with what it printed. `show` answers `crewtap show ID --all --json`.
    ///
    /// # Errors
    /// When what `show` says cannot be read.
    pub fn commands(&self, run: &str, show: impl Fn(&str) -> Result<String>) -> Result<Vec<SshCommand>> {
        let is_command = |row: &serde_json::Value| {
            exchanges::text(row, "table") == "exchanges" && exchanges::text(row, "verb") == "EXEC"
        };
        let mut commands = Vec::new();
        for row in exchanges::rows(&show(run)?)?.iter().filter(|row| is_command(row)) {
            let said = exchanges::rows(&show(exchanges::text(row, "id"))?)?;
            let server = said.iter().find(|row| exchanges::text(row, "side") == "server");
            let printed = server.map(|server| exchanges::text(server, "head").to_owned()).unwrap_or_default();
            let (exchange, text) = (exchanges::text(row, "id").to_owned(), exchanges::text(row, "subject").to_owned());
            commands.push(SshCommand { exchange, text, printed });
        }
        Ok(commands)
    }

    /// Compares the sessions that `crewtap show RUN --json` has printed with [`World::accepted`], both ways; how many
    /// there are.
    ///
    /// # Errors
    /// When they are not the same; it names the addresses.
    pub fn compare(&self, shown: &str) -> Result<usize> {
        accepted::compare(shown, &self.accepted()?)
    }

    /// Waits until no process but the servers is left in the near namespace, for `seconds` at most; whether that is so.
    pub fn wait_until_quiet(&self, seconds: u64) -> bool {
        self.network.wait_until_near_is_empty(seconds)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.stop();
        self.network.end_processes();
    }
}

fn terminal() -> String {
    std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())
}
