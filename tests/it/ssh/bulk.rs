//! Streams that no memory holds, both ways through a command: they arrive as they were, all of it is on record, and the agent stays
//! small.
//!
//! `CREWTAP_BULK_MIB` makes them larger: 5,120 take some minutes, and twice as much room in the store.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Instant;

use crewtap::journal::Reader;
use crewtap_core::event::Body;
use crewtap_core::session::Side;

use super::ground::Ground;
use crate::digest::Digest;
use crate::load::agent_peak;

const MIB: u64 = 256;

/// What the agent may grow by, in MiB: queues of both sides, and what the journal holds.
const GROWTH_MIB: u64 = 64;

/// Numbers, so that no two pieces are the same; the digest of what was sent, or came. Waits for a line before, and behind.
const CLIENT: &str = r#"read -r line
made() { seq -f '%031.0f' 1 "$1"; }
case "$2" in
down) ssh t "seq -f '%031.0f' 1 $1" | sha256sum ;;
up) made "$1" | ssh t sha256sum ;;
esac
made "$1" | sha256sum
read -r line || true"#;

/// The digest of what one side has said in a session's second exchange, as it is on record.
fn recorded(ground: &Ground, side: Side) -> String {
    let mut digest = Digest::new();
    for record in Reader::open(&ground.host.data_dir()).unwrap().from(0) {
        let record = record.unwrap();
        let is_wanted = matches!(&record.event.body, Body::Chunk(chunk) if chunk.side == side);
        if record.event.exchange == Some(2) && is_wanted {
            digest.feed(&record.payload);
        }
    }
    digest.finish()
}

fn streams(way: &str, side: Side) {
    let mebibytes = std::env::var("CREWTAP_BULK_MIB").map_or(MIB, |text| text.parse().unwrap());
    let lines = (mebibytes << 20) / 32;
    let mut ground = Ground::new();
    ground.known_server();
    // A run's agent is there once its command is.
    let script = ground.host.path("client");
    std::fs::write(&script, CLIENT).unwrap();
    let mut run = ground.command(&format!("echo up; exec bash {} {lines} {way}", script.display()));
    let mut client = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut go_on = client.stdin.take().unwrap();
    assert_eq!(said.next().unwrap(), "up");
    let (before, begin) = (agent_peak(&ground.host), Instant::now());
    go_on.write_all(b"\n").unwrap();
    let moved = said.next().unwrap();
    let (took, after) = (begin.elapsed(), agent_peak(&ground.host));
    let wanted = said.next().unwrap();
    println!("{mebibytes} MiB {way} in {took:.1?}; the agent's peak went from {before} to {after} MiB");
    drop(go_on);
    assert!(client.wait().unwrap().success());
    assert_eq!(moved, wanted, "it arrives as it was");
    assert!(after < before + GROWTH_MIB, "from {before} to {after} MiB");
    let exchanges = ground.exchanges();
    let exec = exchanges.iter().find(|row| row["verb"] == "EXEC").unwrap();
    let moved = if side == Side::Server { &exec["bytes_down"] } else { &exec["bytes_up"] };
    assert!(moved.as_u64().unwrap() >= lines * 32, "{exec}");
    assert_eq!(recorded(&ground, side), wanted.split(' ').next().unwrap(), "all of it is on record");
    ground.host.verify();
}

#[test]
fn a_large_output_costs_no_memory_and_is_on_record() {
    streams("down", Side::Server);
}

#[test]
fn a_large_input_costs_no_memory_and_is_on_record() {
    streams("up", Side::Client);
}
