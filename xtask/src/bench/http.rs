//! HTTPS: crewtap beside a direct connection, nginx as a proxy that records nothing, and mitmproxy recording to a file.
//!
//! The target is nginx in the same namespace, the load is wrk; both are taken from Debian, mitmproxy from PyPI, here and
//! not by setup. Ratios within a round; every proxy ends TLS on both sides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crewtap_tests::world::cache_dir;

use super::{Line, Place, cpu_seconds, masked, median, streams};
use crate::shell::{loudly, quietly};

pub(super) const ORIGIN: &str = "https://127.0.0.1:7810";
const NGINX: &str = "https://127.0.0.1:7811";
const MITMPROXY: &str = "https://127.0.0.1:7812";

/// Seconds of one load.
const SECONDS: u64 = 2;

/// Rounds in which mitmproxy takes part: it is slower by more than rounds could change.
const MITM_ROUNDS: usize = 1;

/// Size of the large body.
const BIG_BYTES: u64 = 100 * 1024 * 1024;

/// The proxies, and whose processor time is theirs.
pub struct Peers {
    directory: PathBuf,
    nginx: u32,
    mitmproxy: Option<u32>,
}

/// What one load came to.
#[derive(Clone, Copy, Default)]
struct Figures {
    requests: f64,
    per_second: f64,
    p50_us: f64,
    cpu_us: f64,
}

/// Measures all cases.
///
/// # Errors
/// When a program is missing and cannot be installed, or fails.
pub fn measure(place: &mut Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let peers = Peers::start(place)?;
    masked::prepare(place)?;
    place.start_agent()?;
    for connections in [1, 16, 64] {
        keep_alive(place, &peers, connections, rounds, lines)?;
    }
    new_connections(place, &peers, rounds, lines)?;
    big_body(place, rounds, lines)?;
    under_masks(place, rounds, lines)?;
    streams::events(place, &peers.directory, rounds, lines)?;
    streams::huge(place, &peers.directory, lines)
}

fn keep_alive(place: &Place, peers: &Peers, connections: u32, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let (mut rate, mut cpu, mut added, mut mitm_rate, mut mitm_cpu) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let direct = wrk(place, Arm::Direct, ORIGIN, connections, &[], 0)?;
        let nginx = wrk(place, Arm::Direct, NGINX, connections, &[], peers.nginx)?;
        let crewtap = wrk(place, Arm::Captured, ORIGIN, connections, &[], place.agent)?;
        rate.push(nginx.per_second / crewtap.per_second);
        cpu.push(crewtap.cpu_us / nginx.cpu_us);
        added.push((crewtap.p50_us - direct.p50_us) / (nginx.p50_us - direct.p50_us).max(1.0));
        if let Some(pid) = peers.mitmproxy.filter(|_| round < MITM_ROUNDS && connections == 16) {
            let mitm = wrk(place, Arm::Direct, MITMPROXY, connections, &[], pid)?;
            mitm_rate.push(mitm.per_second / crewtap.per_second);
            mitm_cpu.push(crewtap.cpu_us / mitm.cpu_us);
        }
    }
    match connections {
        1 => lines.push(line("H3 https 1 KiB c1, added p50 / nginx's", Some(1.25), median(added), "x")),
        16 => {
            lines.push(line("H1 https 1 KiB c16, nginx rps / ours", Some(1.0), median(rate), "x"));
            lines.push(line("H1 https 1 KiB c16, our CPU / nginx's", Some(1.25), median(cpu), "x"));
            if !mitm_rate.is_empty() {
                lines.push(line("H2 c16, mitmproxy rps / ours", Some(1.0 / 40.0), median(mitm_rate), "x"));
                lines.push(line("H2 c16, our CPU / mitmproxy's", Some(1.0 / 50.0), median(mitm_cpu), "x"));
            }
        }
        _ => lines.push(line("https 1 KiB c64, nginx rps / ours", None, median(rate), "x")),
    }
    Ok(())
}

fn new_connections(place: &Place, peers: &Peers, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let (mut ours, mut ratio) = (vec![], vec![]);
    for _ in 0..rounds {
        let header = ["-H", "Connection: close"];
        let nginx = wrk(place, Arm::Direct, NGINX, 1, &header, peers.nginx)?;
        let crewtap = wrk(place, Arm::Captured, ORIGIN, 1, &header, place.agent)?;
        ours.push(crewtap.cpu_us);
        ratio.push(crewtap.cpu_us / nginx.cpu_us);
    }
    lines.push(line("H6 new TLS connection, agent CPU", Some(600.0), median(ours), "us"));
    lines.push(line("new TLS connection, our CPU / nginx's", None, median(ratio), "x"));
    Ok(())
}

/// What masks cost: small answers, and a large one.
fn under_masks(place: &Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let small = || Ok(wrk(place, Arm::Captured, ORIGIN, 16, &[], 0)?.requests);
    masked::repeated(place, ("https 1 KiB c16", rounds), lines, small)?;
    let large = || {
        let words = ["curl", "-ksS", "-o", "/dev/null", &format!("{ORIGIN}/text")];
        quietly(&mut Arm::Captured.command(place, &words)).map(|_| 1.0)
    };
    #[allow(clippy::cast_precision_loss, reason = "a hundred mebibytes")]
    let gigabytes = BIG_BYTES as f64 / 1e9;
    masked::transfer(place, ("100 MiB of text over TLS", gigabytes, rounds), lines, large)
}

fn big_body(place: &Place, rounds: usize, lines: &mut Vec<Line>) -> Result<()> {
    let names = [
        ("big", 2.6, "H4 100 MiB over TLS, our time / direct", "H4 100 MiB over TLS, agent CPU"),
        ("text", 5.0, "H4 100 MiB of text, our time / direct", "H4 100 MiB of text, agent CPU"),
    ];
    for (file, goal, of_time, of_cpu) in names {
        let (mut rate, mut cpu) = (vec![], vec![]);
        for _ in 0..rounds {
            let fetch = |arm: Arm| -> Result<f64> {
                let words = ["curl", "-ksS", "-o", "/dev/null", "-w", "%{time_total}", &format!("{ORIGIN}/{file}")];
                let said = quietly(&mut arm.command(place, &words))?;
                said.trim().parse().context("curl told no time")
            };
            let direct = fetch(Arm::Direct)?;
            let before = cpu_seconds(place.agent);
            let captured = fetch(Arm::Captured)?;
            #[allow(clippy::cast_precision_loss, reason = "a hundred mebibytes")]
            cpu.push((cpu_seconds(place.agent) - before) / (BIG_BYTES as f64 / 1e9));
            rate.push(captured / direct);
        }
        lines.push(line(of_time, Some(1.0 / 0.9), median(rate), "x"));
        lines.push(line(of_cpu, Some(goal), median(cpu), "s/GB"));
    }
    Ok(())
}

/// Whether crewtap is in between.
#[derive(Clone, Copy)]
pub(super) enum Arm {
    Direct,
    Captured,
}

impl Arm {
    pub(super) fn command(self, place: &Place, words: &[&str]) -> Command {
        match self {
            Self::Direct => place.inside(words),
            Self::Captured => place.captured(words),
        }
    }
}

/// One load, and the processor time per request of the process in between.
fn wrk(place: &Place, arm: Arm, url: &str, connections: u32, more: &[&str], between: u32) -> Result<Figures> {
    let (connections, seconds) = (connections.to_string(), format!("{SECONDS}s"));
    let url = format!("{url}/json");
    let words = [&["wrk", "-t1", "-c", &connections, "-d", &seconds, "--latency"], more, &[&url]].concat();
    let before = if between == 0 { 0.0 } else { cpu_seconds(between) };
    let said = quietly(&mut arm.command(place, &words))?;
    let spent = if between == 0 { 0.0 } else { cpu_seconds(between) - before };
    ensure!(!said.contains("Non-2xx"), "the target did not answer well:\n{said}");
    let find = |label: &str| said.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let requests: f64 = said
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ").map(|(count, _)| count.parse().unwrap_or(0.0)))
        .context("wrk told no requests")?;
    ensure!(requests > 0.0, "no request was answered:\n{said}");
    Ok(Figures {
        requests,
        per_second: find("Requests/sec:").context("wrk told no rate")?.parse()?,
        p50_us: microseconds(find("50%").context("wrk told no median")?)?,
        cpu_us: spent * 1e6 / requests,
    })
}

/// `1.23ms` as wrk prints it.
fn microseconds(text: &str) -> Result<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).context("a time without unit")?);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        _ => 1e6,
    };
    Ok(number.parse::<f64>()? * factor)
}

fn line(name: &'static str, goal: Option<f64>, value: f64, unit: &'static str) -> Line {
    Line { name, goal, value, unit }
}

impl Peers {
    fn start(place: &mut Place) -> Result<Self> {
        install()?;
        let directory = std::env::temp_dir().join(format!("{}-http", place.name));
        fs::create_dir_all(directory.join("www"))?;
        let body = format!("{{\"text\":\"{}\"}}", "x".repeat(1024 - 11));
        fs::write(directory.join("www/json"), body)?;
        fs::File::create(directory.join("www/big"))?.set_len(BIG_BYTES)?;
        fs::File::create(directory.join("www/huge"))?.set_len(streams::HUGE_BYTES)?;
        let text = "{\"role\":\"assistant\",\"content\":\"4711 words of an answer, to be read by somebody\"}\n";
        fs::write(directory.join("www/text"), text.repeat(usize::try_from(BIG_BYTES)? / text.len()))?;
        let subject =
            ["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"];
        let openssl = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        quietly(Command::new("openssl").args(openssl).args(subject).current_dir(&directory))?;
        fs::write(place.config(), format!("tls_authorities = [\"{}\"]\n", directory.join("cert.pem").display()))?;
        let mut peers = Self { directory, nginx: 0, mitmproxy: None };
        peers.nginx(
            place,
            "origin",
            &format!("root {}/www; default_type application/json;", peers.directory.display()),
            7810,
        )?;
        let pass = "location / { proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_ssl_session_reuse off; }";
        peers.nginx = peers.nginx(place, "proxy", pass, 7811)?;
        streams::serve(place, &peers.directory)?;
        let pass = format!(
            "location /json {{ return 200; }} location / {{ proxy_pass https://127.0.0.1:{}; proxy_http_version 1.1; \
             proxy_buffering off; proxy_ssl_session_reuse off; }}",
            streams::PORT
        );
        peers.nginx(place, "events", &pass, streams::NGINX_PORT)?;
        peers.mitmproxy = peers.mitmproxy(place)?;
        Ok(peers)
    }

    /// One nginx with one worker; the worker's pid.
    fn nginx(&self, place: &mut Place, name: &str, serves: &str, port: u16) -> Result<u32> {
        let home = self.directory.display();
        let text = format!(
            "worker_processes 1; daemon off; pid {home}/{name}.pid; error_log {home}/{name}.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {home}/{name}-b; \
             proxy_temp_path {home}/{name}-p; fastcgi_temp_path {home}/{name}-f; uwsgi_temp_path {home}/{name}-u; \
             scgi_temp_path {home}/{name}-s;\n\
             upstream origin {{ server 127.0.0.1:7810; keepalive 128; }}\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem; \
             ssl_session_cache off; ssl_session_tickets off; {serves} }} }}\n"
        );
        let file = self.directory.join(format!("{name}.conf"));
        fs::write(&file, text)?;
        let words = ["/usr/sbin/nginx", "-c", &file.display().to_string()];
        let child = place.inside(&words).stdout(Stdio::null()).spawn().context("cannot start nginx")?;
        let master = child.id();
        place.children.push(child);
        listening(place, port)?;
        let workers = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        workers.split_ascii_whitespace().next().context("nginx has no worker")?.parse().context("no pid")
    }

    fn mitmproxy(&self, place: &mut Place) -> Result<Option<u32>> {
        let program = mitmdump();
        if !program.exists() {
            return Ok(None);
        }
        let flows = self.directory.join("flows").display().to_string();
        let home = format!("confdir={}", self.directory.join("mitm").display());
        let program = program.display().to_string();
        let mode = ["--mode", "reverse:https://127.0.0.1:7810", "--listen-host", "127.0.0.1", "-p", "7812"];
        let rest = ["--ssl-insecure", "-q", "-w", &flows, "--set", &home];
        let words = [&[program.as_str()][..], &mode, &rest].concat();
        let child = place.inside(&words).stdout(Stdio::null()).spawn().context("cannot start mitmproxy")?;
        let pid = child.id();
        place.children.push(child);
        listening(place, 7812)?;
        Ok(Some(pid))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits until somebody listens in the namespace.
fn listening(place: &Place, port: u16) -> Result<()> {
    let begin = Instant::now();
    let url = format!("https://127.0.0.1:{port}/json");
    while begin.elapsed().as_secs() < 30 {
        if quietly(&mut place.inside(&["curl", "-ksS", "-o", "/dev/null", &url])).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    anyhow::bail!("nobody listens at port {port}")
}

fn mitmdump() -> PathBuf {
    cache_dir().join("mitmproxy/bin/mitmdump")
}

/// What only the benchmark needs.
fn install() -> Result<()> {
    if !Path::new("/usr/bin/wrk").exists() {
        loudly(Command::new("apt-get").args(["install", "-y", "-q", "wrk"]))?;
    }
    if !mitmdump().exists() {
        let home = cache_dir().join("mitmproxy");
        let made = loudly(Command::new("python3").args(["-m", "venv"]).arg(&home))
            .and_then(|()| loudly(Command::new(home.join("bin/pip")).args(["install", "-q", "mitmproxy"])));
        if let Err(error) = made {
            eprintln!("bench: mitmproxy takes no part: {error:#}");
        }
    }
    Ok(())
}
