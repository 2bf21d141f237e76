//! What an append costs, measured: `journal_cost DIR` prints one JSON line per case.
//!
//! Never the place for goals; `cargo xtask bench` compares these figures with them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crewtap::clock;
use crewtap::journal::{self, Durability, Entry, Journal, Options};
use crewtap_core::bodies::Chunk;
use crewtap_core::event::Event;
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::session::Side;

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.ok_or_else(|| anyhow::anyhow!("usage: journal_cost DIR (an empty directory)"))?;
    for (payload, count) in [(0, 100_000u32), (300, 100_000), (64 * 1024, 16_000)] {
        appends(&dir.join(format!("p{payload}")), payload, count)?;
    }
    verify(&dir.join("p300"))?;
    verify(&dir.join("p65536"))?;
    durable(&dir.join("durable"))
}

fn chunk(offset: u64) -> Event {
    let (run, session) = (RunId(Ulid::from_bytes([1; 16])), SessionId(Ulid::from_bytes([2; 16])));
    Event::new(clock::now(), Chunk::new(Side::Server, offset)).in_session(run, session)
}

/// Processor time of the whole process, threads included.
fn cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn thread_cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn appends(dir: &std::path::Path, payload: usize, count: u32) -> anyhow::Result<()> {
    let journal = Journal::open(dir, &Options::default(), None)?;
    let bytes = vec![0x5a_u8; payload];
    let mut times = Vec::with_capacity(count as usize);
    let (wall, whole, own) = (Instant::now(), cpu(), thread_cpu());
    for n in 0..count {
        let event = chunk(u64::from(n));
        let begin = Instant::now();
        journal.append(&[Entry { event: &event, payload: &[&bytes] }])?;
        times.push(begin.elapsed());
    }
    let (appended, own) = (wall.elapsed(), thread_cpu().saturating_sub(own));
    journal.close()?;
    let whole = cpu().saturating_sub(whole);
    let total = f64::from(u32::try_from(payload)?) * f64::from(count) / 1e9;
    let per_gb = |time: Duration| if payload == 0 { None } else { Some(time.as_secs_f64() / total) };
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let at = |share: usize| times.get(times.len() * share / 1000).copied().map_or(0.0, micros);
    println!(
        "{}",
        serde_json::json!({
            "case": "append", "payload": payload, "count": count,
            "p50_us": at(500), "p99_us": at(990), "p999_us": at(999),
            "cpu_us_append": micros(own) / f64::from(count),
            "cpu_us_with_follower": micros(whole) / f64::from(count),
            "append_cpu_s_per_gb": per_gb(own),
            "all_cpu_s_per_gb": per_gb(whole),
            "append_s": appended.as_secs_f64(),
        })
    );
    Ok(())
}

fn verify(dir: &std::path::Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let report = journal::verify(dir, &mut |_| {})?;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({ "case": "verify", "records": report.records, "seconds": seconds,
            "intact": report.is_intact(), "findings": report.findings.list.len() })
    );
    Ok(())
}

fn durable(dir: &std::path::Path) -> anyhow::Result<()> {
    let options = Options { durability: Durability::Disk, ..Options::default() };
    let journal = Journal::open(dir, &options, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for together in [1u32, 8, 32] {
        let begin = Instant::now();
        let rounds = 200;
        runtime.block_on(async {
            for round in 0..rounds {
                let positions: Result<Vec<_>, _> = (0..together)
                    .map(|n| {
                        journal
                            .append(&[Entry { event: &chunk(u64::from(round * together + n)), payload: &[&[1; 300]] }])
                    })
                    .collect();
                for position in positions? {
                    journal.durable(position).await?;
                }
            }
            Ok::<(), journal::JournalError>(())
        })?;
        let each = begin.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
        println!("{}", serde_json::json!({ "case": "durable", "together": together, "us": each }));
    }
    Ok(())
}
