//! PostgreSQL: crewtap beside a direct connection and pgbouncer (session pooling), which records nothing.
//!
//! The load is pgbench and psql, the target Debian's PostgreSQL in the same namespace. Ratios within a round; what each arm
//! came to is a table on standard error. What it costs to start a run is measured apart, and taken off. There is no arm of
//! crewtap without decoding: the driver of a connection cannot be chosen.

pub(super) mod ruled;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crewtap_tests::postgres::{DATABASE, Postgres, user};
use crewtap_tests::world::postgres_bin;

use super::{Line, Place, cpu_seconds, masked, median};
use crate::shell::quietly;

const POSTGRES: u16 = 7830;
const PGBOUNCER: u16 = 7831;

/// Seconds of one load.
const SECONDS: u64 = 2;

/// Rows of the large table; each has about 200 bytes.
const ROWS: u32 = 1_000_000;

/// Synced writes that tell how fast the disk is.
const SYNCS: usize = 200;

/// One load of pgbench.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    words: &'static [&'static str],
    clients: u32,
}

const PREPARED: &[&str] = &["-S", "-M", "prepared"];
const SIMPLE: &[&str] = &["-S", "-M", "simple"];

const LOADS: [Load; 7] = [
    Load { name: "prepared", words: PREPARED, clients: 1 },
    Load { name: "prepared", words: PREPARED, clients: 8 },
    Load { name: "prepared", words: PREPARED, clients: 32 },
    Load { name: "simple", words: SIMPLE, clients: 1 },
    Load { name: "simple", words: SIMPLE, clients: 8 },
    Load { name: "simple", words: SIMPLE, clients: 32 },
    Load { name: "TPC-B", words: &["-M", "prepared"], clients: 8 },
];

/// The way to the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arm {
    Direct,
    Pgbouncer,
    Captured,
}

const ARMS: [(Arm, &str); 3] = [(Arm::Direct, "direct"), (Arm::Pgbouncer, "pgbouncer"), (Arm::Captured, "crewtap")];

/// What one load came to.
#[derive(Clone, Copy, Default)]
struct Figures {
    tps: f64,
    p50_us: f64,
    p99_us: f64,
    /// Of the process in between, for each transaction.
    cpu_us: f64,
}

/// The target and the pooler. Dropped before the namespace is.
struct Peers {
    server: Postgres,
    pgbouncer: u32,
    idle: Idle,
    // Last: the server ends before its directory does.
    directory: Directory,
}

/// What a run costs in which nothing happens.
#[derive(Clone, Copy, Default)]
struct Idle {
    seconds: f64,
    cpu_seconds: f64,
}

/// A directory that goes with its value.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures all cases.
///
/// # Errors
/// When a program is missing or fails.
pub fn measure(place: &mut Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let mut peers = Peers::start(place)?;
    masked::prepare(place)?;
    place.start_agent()?;
    peers.idle = idle(place)?;
    lines.push(line("an empty run", None, peers.idle.seconds * 1e3, "ms"));
    let mut relaxed = Figures::default();
    eprintln!("{:<16} {:<10} {:>9} {:>9} {:>9} {:>12}", "load", "arm", "tps", "p50 us", "p99 us", "CPU s/M");
    for load in LOADS {
        let median = repeated(place, &peers, load, rounds, lines)?;
        if load.name == "prepared" && load.clients == 8 {
            relaxed = median;
        }
    }
    bulk(place, &peers, rounds, lines)?;
    under_masks(place, &peers, rounds, lines)?;
    durable(place, &peers, relaxed, rounds, lines)
}

/// One load through all arms, round by round; the medians of ours.
fn repeated(place: &Place, peers: &Peers, load: Load, rounds: usize, lines: &mut Vec<Line>) -> Result<Figures> {
    let mut all: [Vec<Figures>; 3] = Default::default();
    for _ in 0..rounds {
        for (of_arm, (arm, _)) in all.iter_mut().zip(ARMS) {
            of_arm.push(pgbench(place, peers, arm, load)?);
        }
    }
    let [direct, bouncer, ours] = &all;
    let ratio = |above: &[Figures], below: &[Figures], of: fn(&Figures) -> f64| {
        median(above.iter().zip(below).map(|(above, below)| of(above) / of(below)).collect())
    };
    let Load { name, clients, .. } = load;
    let [(rate_goal, rate), (cpu_goal, cpu)] = goals(load);
    let label = |what: &str| -> &'static str { format!("{name} c{clients}, {what}").leak() };
    let goal_label = |goal: &str, what: &str| -> &'static str { format!("{goal}{}", label(what)).leak() };
    let tps: fn(&Figures) -> f64 = |figures| figures.tps;
    lines.push(line(goal_label(rate_goal, "pgbouncer tps / ours"), rate, ratio(bouncer, ours, tps), "x"));
    lines.push(line(label("direct tps / ours"), None, ratio(direct, ours, tps), "x"));
    lines.push(line(
        goal_label(cpu_goal, "our CPU / pgbouncer's"),
        cpu,
        ratio(ours, bouncer, |figures| figures.cpu_us),
        "x",
    ));
    if clients == 1 {
        let added = ours.iter().zip(bouncer).map(|(ours, bouncer)| ours.p50_us - bouncer.p50_us).collect();
        lines.push(line(label("our p50 over pgbouncer's"), None, median(added), "us"));
    }
    let mut last = Figures::default();
    for (of_arm, (_, arm)) in all.iter().zip(ARMS) {
        let of = |pick: fn(&Figures) -> f64| median(of_arm.iter().map(pick).collect());
        last = Figures {
            tps: of(|f| f.tps),
            p50_us: of(|f| f.p50_us),
            p99_us: of(|f| f.p99_us),
            cpu_us: of(|f| f.cpu_us),
        };
        let Figures { tps, p50_us, p99_us, cpu_us } = last;
        // Microseconds for each are seconds for a million.
        eprintln!("{name:<12} c{clients:<2} {arm:<10} {tps:>9.0} {p50_us:>9.0} {p99_us:>9.0} {cpu_us:>12.1}");
    }
    Ok(last)
}

/// P1, P2 and P3 of the research: pgbouncer's rate over ours, and our processor time over its; the stretch values where
/// there are some.
fn goals(load: Load) -> [(&'static str, Option<f64>); 2] {
    match (load.name, load.clients) {
        ("prepared", 1) => [("", None), ("P3 ", Some(1.35))],
        ("prepared", 8) => [("P2 ", Some(1.0)), ("P1 ", Some(1.10))],
        ("prepared", 32) => [("P2 ", Some(1.11)), ("", None)],
        _ => [("", None), ("", None)],
    }
}

/// P4: COPY out and a large SELECT.
fn bulk(place: &Place, peers: &Peers, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let copied = peers.server.query("SELECT sum(length(id::text) + length(pad) + 2) FROM bulk");
    let gigabytes = copied.parse::<f64>().context("no sum")? / 1e9;
    let statements = [
        ("COPY out of 200 MB", "COPY bulk TO STDOUT", Some(gigabytes)),
        ("SELECT of 1M rows", "SELECT id, left(pad, 32) FROM bulk", None),
    ];
    let status = format!("/proc/{}/clear_refs", place.agent);
    fs::write(status, "5").context("cannot reset the peak of the agent's memory")?;
    for (name, statement, gigabytes) in statements {
        let (mut times, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let direct = psql(place, Arm::Direct, statement)?;
            let before = cpu_seconds(place.agent);
            let ours = psql(place, Arm::Captured, statement)? - peers.idle.seconds;
            times.push(ours / direct);
            cpu.push(cpu_seconds(place.agent) - before - peers.idle.cpu_seconds);
        }
        lines.push(line(format!("P4 {name}, our time / direct").leak(), Some(1.05), median(times), "x"));
        if let Some(gigabytes) = gigabytes {
            lines.push(line(format!("P4 {name}, agent CPU").leak(), Some(3.0), median(cpu) / gigabytes, "s/GB"));
        }
    }
    lines.push(line("P4 peak memory of the agent", Some(64.0), peak_mebibytes(place.agent)?, "MiB"));
    Ok(())
}

/// What masks cost: small statements, and a large result.
fn under_masks(place: &Place, peers: &Peers, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let load = Load { name: "prepared", words: PREPARED, clients: 8 };
    // Transactions in a second, of loads that are as long as each other.
    masked::repeated(place, ("prepared c8", rounds), lines, || Ok(pgbench(place, peers, Arm::Captured, load)?.tps))?;
    let copied = peers.server.query("SELECT sum(length(id::text) + length(pad) + 2) FROM bulk");
    let gigabytes = copied.parse::<f64>().context("no sum")? / 1e9;
    let copy = || psql(place, Arm::Captured, "COPY bulk TO STDOUT");
    masked::transfer(place, ("COPY out of 200 MB", gigabytes, rounds), lines, copy)
}

/// D1: what durability costs, with the disk as it is in the same minute.
fn durable(place: &mut Place, peers: &Peers, relaxed: Figures, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    place.stop_agent()?;
    fs::write(place.config(), "durability = \"disk\"\n")?;
    place.start_agent()?;
    let load = Load { name: "prepared", words: PREPARED, clients: 8 };
    let (mut rate, mut added) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let bouncer = pgbench(place, peers, Arm::Pgbouncer, load)?;
        let sync = sync_us(place)?;
        let ours = pgbench(place, peers, Arm::Captured, load)?;
        rate.push(bouncer.tps / ours.tps);
        added.push((ours.p50_us - relaxed.p50_us) / sync);
    }
    lines.push(line("D1 durable c8, pgbouncer tps / ours", Some(2.0), median(rate), "x"));
    lines.push(line("D1 durable c8, added p50 / fdatasync", Some(2.0), median(added), "x"));
    Ok(())
}

/// Over ten runs, because processor time is told in ticks of 10 ms.
fn idle(place: &Place) -> Result<Idle> {
    const RUNS: u32 = 10;
    let before = cpu_seconds(place.agent);
    let (mut captured, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for (times, arm) in [(&mut direct, Arm::Direct), (&mut captured, Arm::Captured)] {
            let begin = Instant::now();
            quietly(&mut arm.command(place, &["true"]))?;
            times.push(begin.elapsed().as_secs_f64());
        }
    }
    let cpu_seconds = (cpu_seconds(place.agent) - before) / f64::from(RUNS);
    Ok(Idle { seconds: median(captured) - median(direct), cpu_seconds })
}

/// Median of a small write that is synced, where the store is.
fn sync_us(place: &Place) -> Result<f64> {
    let path = place.store.join("bench-sync");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 300])?;
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(path)?;
    Ok(median(times))
}

impl Arm {
    fn command(self, place: &Place, words: &[&str]) -> Command {
        match self {
            Self::Direct | Self::Pgbouncer => place.inside(words),
            Self::Captured => place.captured(words),
        }
    }

    fn port(self) -> String {
        if self == Self::Pgbouncer { PGBOUNCER.to_string() } else { POSTGRES.to_string() }
    }

    /// The process in between.
    fn between(self, place: &Place, peers: &Peers) -> Option<u32> {
        match self {
            Self::Direct => None,
            Self::Pgbouncer => Some(peers.pgbouncer),
            Self::Captured => Some(place.agent),
        }
    }
}

/// Of Debian's own directory: the names in PATH are wrappers.
fn program(name: &str) -> Result<String> {
    Ok(postgres_bin().context("PostgreSQL is not installed: run `cargo xtask setup`")?.join(name).display().to_string())
}

fn pgbench(place: &Place, peers: &Peers, arm: Arm, load: Load) -> Result<Figures> {
    let (pgbench, port, log) = (program("pgbench")?, arm.port(), peers.directory.0.join("log").display().to_string());
    let (clients, seconds) = (load.clients.to_string(), SECONDS.to_string());
    let place_words = ["-h", "127.0.0.1", "-p", &port, "-U", user::TRUSTED, "-n", "-l", "--log-prefix", &log];
    let size_words = ["-c", &clients, "-T", &seconds, DATABASE];
    let words = [&[pgbench.as_str()][..], load.words, &place_words, &size_words].concat();
    let between = arm.between(place, peers);
    let before = between.map_or(0.0, cpu_seconds);
    let said = quietly(arm.command(place, &words).current_dir("/").env("PGSSLMODE", "disable"))?;
    let idle = if arm == Arm::Captured { peers.idle.cpu_seconds } else { 0.0 };
    let spent = between.map_or(0.0, cpu_seconds) - before - idle;
    let after = |label: &str| said.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    let count = after("number of transactions actually processed:").context("pgbench told no count")?;
    let count: f64 = count.split('/').next().unwrap_or_default().parse()?;
    let rate = after("tps =").and_then(|text| text.split(' ').next()).context("pgbench told no rate")?;
    ensure!(after("number of failed transactions:").is_none_or(|failed| failed.starts_with("0 ")), "{said}");
    let mut times = peers.logged_times()?;
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
    Ok(Figures { tps: rate.parse()?, p50_us: at(50), p99_us: at(99), cpu_us: spent * 1e6 / count })
}

/// Seconds of one statement whose result goes nowhere.
fn psql(place: &Place, arm: Arm, statement: &str) -> Result<f64> {
    let (psql, port) = (program("psql")?, arm.port());
    let words = [&psql, "-X", "-A", "-t", "-q", "-o", "/dev/null", "-h", "127.0.0.1", "-p", &port, "-U", user::TRUSTED];
    let words = [&words[..], &["-c", statement, DATABASE]].concat();
    let begin = Instant::now();
    let mut command = arm.command(place, &words);
    quietly(command.current_dir("/").env("PGSSLMODE", "disable"))?;
    Ok(begin.elapsed().as_secs_f64())
}

fn peak_mebibytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak of memory")?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn line(name: &'static str, goal: Option<f64>, value: f64, unit: &'static str) -> Line {
    Line { name, goal, value, unit }
}

impl Peers {
    fn start(place: &mut Place) -> Result<Self> {
        let directory = Directory(std::env::temp_dir().join(format!("{}-postgres", place.name)));
        fs::create_dir_all(&directory.0)?;
        let server = Postgres::in_namespace(&place.name, &directory.0).port(POSTGRES);
        // Nothing is logged here: it is the target's speed that counts.
        let quiet = server.setting("log_statement = none").setting("log_connections = off");
        let server = quiet.setting("shared_buffers = 512MB").setting("max_wal_size = 4GB").start();
        let mut peers = Self { server, pgbouncer: 0, idle: Idle::default(), directory };
        let make = format!(
            "CREATE TABLE bulk AS SELECT g AS id, repeat(md5(g::text), 6) AS pad FROM generate_series(1, {ROWS}) AS g"
        );
        let _ = peers.server.query(&make);
        let _ = peers.server.query("VACUUM ANALYZE bulk");
        let (pgbench, port) = (program("pgbench")?, POSTGRES.to_string());
        let words = [&pgbench, "-i", "-q", "-s", "10", "-h", "127.0.0.1", "-p", &port, "-U", user::TRUSTED, DATABASE];
        quietly(&mut place.inside(&words))?;
        peers.pgbouncer = peers.start_pgbouncer(place)?;
        Ok(peers)
    }

    fn start_pgbouncer(&self, place: &mut Place) -> Result<u32> {
        let home = self.directory.0.display();
        fs::write(self.directory.0.join("users"), format!("\"{}\" \"\"\n", user::TRUSTED))?;
        let text = format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={POSTGRES}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {PGBOUNCER}\nunix_socket_dir =\nauth_type = trust\nauth_file = {home}/users\npool_mode = session\n\
             default_pool_size = 64\nmax_client_conn = 100\nlog_connections = 0\nlog_disconnections = 0\n"
        );
        let file = self.directory.0.join("pgbouncer.ini");
        fs::write(&file, text)?;
        fs::set_permissions(&self.directory.0, fs::Permissions::from_mode(0o755))?;
        let settings = file.display().to_string();
        // It refuses to run as root.
        let as_other = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"];
        let words = [&as_other[..], &["/usr/sbin/pgbouncer", "-q", &settings]].concat();
        let log = fs::File::create(self.directory.0.join("pgbouncer.log"))?;
        let child = place.inside(&words).stdout(Stdio::null()).stderr(log).spawn().context("cannot start pgbouncer")?;
        let pid = child.id();
        place.children.push(child);
        let begin = Instant::now();
        while let Err(error) = psql(place, Arm::Pgbouncer, "SELECT 1") {
            ensure!(begin.elapsed().as_secs() < 30, "pgbouncer does not serve: {error:#}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(pid)
    }

    /// The times of all transactions that pgbench has logged, microseconds; the log is gone afterwards.
    fn logged_times(&self) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for entry in fs::read_dir(&self.directory.0)?.filter_map(Result::ok) {
            if !entry.file_name().to_string_lossy().starts_with("log.") {
                continue;
            }
            // Client, number, microseconds, ….
            let text = fs::read_to_string(entry.path())?;
            times.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()));
            fs::remove_file(entry.path())?;
        }
        Ok(times)
    }
}
