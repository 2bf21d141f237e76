//! The Python side: uv, one environment with the newest CrewAI, and one with the clients whose connections the tests
//! open. Lives in the cache, outside of the clone; never touches the machine's own Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crewtap_tests::world::{clients_project, crew_project};

use crate::shell::{clone_root, quietly, timed};

/// Versions of Python that CrewAI runs on.
const SUPPORTED: &str = ">=3.10,<3.14";

/// What a project needs to be prepared.
struct Project {
    /// Where in the clone it is.
    sources: &'static str,
    /// Where in the cache it goes.
    place: PathBuf,
    /// A program of its environment.
    program: &'static str,
    /// What is installed.
    what: &'static str,
    /// What for.
    why: &'static str,
    /// Packages whose version is told.
    told: &'static [&'static str],
}

/// Prepares the crew's project in the cache: its sources, its lock file, and its `.venv` with everything in it, so that
/// `crewai run` needs no network; and beside it the environment of clients.
///
/// # Errors
/// When the package index is not reachable or no supported Python is found.
pub fn prepare(cache: &Path, upgrade: bool) -> Result<()> {
    let crew = Project {
        sources: "tests/demo/crew",
        place: crew_project(cache),
        program: "crewai",
        what: "installing CrewAI",
        why: "the newest; the crew that demo and tests capture, and the clients they use",
        told: &["crewai==", "openai=="],
    };
    let clients = Project {
        sources: "tests/clients",
        place: clients_project(cache),
        program: "uv",
        what: "installing clients",
        why: "whose connections the tests open: model providers' libraries, boto3, gRPC, PostgreSQL drivers and others",
        told: &["anthropic==", "litellm==", "psycopg==", "asyncpg=="],
    };
    // CrewAI and litellm pin what the other wants newer: hence two environments; packages in both are there once.
    crew.prepare(cache, upgrade)?;
    clients.prepare(cache, upgrade)
}

impl Project {
    fn prepare(&self, cache: &Path, upgrade: bool) -> Result<()> {
        let place = &self.place;
        copy_tree(&clone_root().join(self.sources), place)?;
        let wanted = std::fs::read_to_string(place.join("pyproject.toml"))?;
        let stamp = place.join(".prepared-for");
        let ready = std::fs::read_to_string(&stamp).is_ok_and(|made_for| made_for == wanted);
        if ready && !upgrade && place.join(".venv/bin").join(self.program).exists() {
            return Ok(());
        }
        let uv = install_uv(cache)?;
        timed(self.what, self.why, || {
            let mut sync = uv_command(&uv, cache);
            sync.args(["sync", "--quiet", "--compile-bytecode", "--all-groups", "--upgrade", "--python"]);
            quietly(sync.arg(base_python(&uv, cache)?).current_dir(place))?;
            let versions = quietly(uv_command(&uv, cache).args(["pip", "freeze"]).current_dir(place))?;
            std::fs::write(place.join("versions.txt"), &versions)?;
            // Users of their own run what is there, whatever our umask is.
            quietly(Command::new("chmod").args(["-R", "a+rX"]).arg(place))?;
            for line in versions.lines().filter(|line| self.told.iter().any(|told| line.starts_with(told))) {
                eprintln!("setup: resolved {line}");
            }
            Ok(())
        })?;
        std::fs::write(stamp, wanted).context("cannot note that the environment is ready")
    }
}

/// uv from PyPI, in an environment of its own: CrewAI's own command line calls it, too.
fn install_uv(cache: &Path) -> Result<PathBuf> {
    let environment = cache.join("uv-env");
    let uv = environment.join("bin/uv");
    if !uv.is_file() {
        timed("installing uv", "installs Python packages; `crewai run` is built on it", || {
            quietly(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
            quietly(Command::new(environment.join("bin/pip")).args(["install", "--quiet", "uv"]))
        })?;
    }
    ensure!(uv.is_file(), "uv was installed, but {} is not there", uv.display());
    Ok(uv)
}

/// The distribution's Python where CrewAI supports it, because every user may execute it; else any that uv finds or
/// fetches.
fn base_python(uv: &Path, cache: &Path) -> Result<String> {
    let version = "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))";
    if quietly(Command::new("/usr/bin/python3").args(["-c", version])).is_ok() {
        return Ok("/usr/bin/python3".to_owned());
    }
    let find = || quietly(uv_command(uv, cache).args(["python", "find", SUPPORTED]));
    let found = find().or_else(|_| {
        // Old distributions: uv fetches a Python of its own, which needs the open network.
        quietly(uv_command(uv, cache).args(["python", "install", "3.12"]))?;
        find()
    });
    Ok(found.with_context(|| format!("CrewAI needs Python {SUPPORTED}: install one"))?.trim().to_owned())
}

fn uv_command(uv: &Path, cache: &Path) -> Command {
    let mut command = Command::new(uv);
    // An environment that happens to be active is not ours to install into.
    command.env_remove("VIRTUAL_ENV").env("UV_CACHE_DIR", cache.join("uv-cache")).env("UV_NO_PROGRESS", "1");
    // Where every user may execute it.
    command.env("UV_PYTHON_INSTALL_DIR", cache.join("python"));
    command
}

/// Copies the files that differ, so that what Python compiled stays valid.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if std::fs::read(&target).ok() != Some(std::fs::read(entry.path())?) {
            std::fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
