//! Results that no memory holds: they pass through unchanged, all of them are on record, and the agent stays small.

use crewtap::journal::Reader;
use crewtap_core::event::Body;
use crewtap_core::session::Side;
use crewtap_tests::host::succeeded;
use crewtap_tests::postgres::{Postgres, Release};

use serde_json::Value;

use super::captured::{Captured, of, plain, raw, statements};
use crate::digest::Digest;
use crate::load::agent_peak;

/// 256 MiB of lines of 1 KiB.
const COPY: &str =
    "COPY (SELECT repeat(md5(i::text), 31) || lpad(i::text, 31) FROM generate_series(1, 262144) i) TO STDOUT";
const COPY_BYTES: i64 = 256 << 20;

const ROWS: u64 = 1_000_000;

/// What the agent may hold at most, in MiB. Measured in a debug build: 70 to 84.
const PEAK_MIB: u64 = 128;

/// The digest of what psql prints; then it waits, so that the run's agent can be looked at.
const DIGEST: &str = r#"psql -XAtc "$1" "$2" | sha256sum | cut -d" " -f1; read -r line || true"#;

/// The digest of all COPY data on record that a target has sent in a session's second exchange.
fn recorded_copy(captured: &Captured) -> String {
    let (mut digest, mut rest, mut out) = (Digest::new(), Vec::<u8>::new(), Vec::new());
    for record in Reader::open(&captured.host.data_dir()).unwrap().from(0) {
        let record = record.unwrap();
        let is_answer = match &record.event.body {
            Body::Response(_) => true,
            Body::Chunk(chunk) => chunk.side == Side::Server,
            _ => false,
        };
        if record.event.exchange != Some(2) || !is_answer {
            continue;
        }
        rest.extend_from_slice(&record.payload);
        let mut at = 0;
        while let Some(head) = rest.get(at..at + 5) {
            let end = at + 1 + u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let Some(body) = rest.get(at + 5..end) else { break };
            if head[0] == b'd' {
                out.extend_from_slice(body);
            }
            at = end;
        }
        rest.drain(..at);
        digest.feed(&out);
        out.clear();
    }
    digest.finish()
}

/// Runs a statement beside crewtap and through it: the digest of both, and the agent's peak in MiB.
fn digest(captured: &Captured, server: &Postgres, sql: &str) -> (String, u64) {
    let place = plain(server);
    let direct = succeeded(&captured.direct(&["sh", "-c", DIGEST, "sh", sql, &place]));
    let mut client = captured.spawn(&["sh", "-c", DIGEST, "sh", sql, &place]);
    let through = client.line();
    let peak = agent_peak(&captured.host);
    println!("the agent's peak is {peak} MiB");
    client.go_on();
    assert!(client.end().1.success());
    assert_eq!(through, direct.trim_end());
    (through, peak)
}

#[test]
fn a_large_copy_costs_no_memory_and_is_on_record() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let (digest, peak) = digest(&captured, &server, COPY);
    let rows = captured.rows(1);
    let all = statements(&rows);
    let copy = of(&all, "COPY");
    assert_eq!((&copy["outcome"], &copy["count"]), (&"success".into(), &262_144.into()), "{copy}");
    assert!(copy["bytes_down"].as_i64().unwrap() > COPY_BYTES, "{copy}");
    assert_eq!(rows.session()["recorded_down"], rows.session()["bytes_down"]);
    assert_eq!(recorded_copy(&captured), digest);
    captured.host.verify();
    assert!(peak < PEAK_MIB, "{peak} MiB");
}

#[test]
fn a_million_rows_cost_no_memory_and_are_counted() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let sql = format!("SELECT i, md5(i::text), NULL FROM generate_series(1, {ROWS}) i");
    let (_, peak) = digest(&captured, &server, &sql);
    let rows = captured.rows(1);
    let all = statements(&rows);
    let select = of(&all, "generate_series");
    assert_eq!((&select["outcome"], &select["count"]), (&"success".into(), &ROWS.into()), "{select}");
    assert_eq!(captured.answers().of(select, "tag"), format!("SELECT {ROWS}"));
    assert_eq!(rows.session()["recorded_down"], rows.session()["bytes_down"]);
    captured.host.verify();
    assert!(peak < PEAK_MIB, "{peak} MiB");
}

/// One value and one statement, each larger than a message that is held whole.
#[test]
fn one_large_value_and_one_large_statement_pass_in_pieces() {
    const SCRIPT: &str = "
client = Client(int(sys.argv[1]))
value = client.ask(query(\"SELECT repeat('0123456789abcdef', 4 << 20) AS large\"))
print(len(value[1][1]), value[1][1][6:] == b'0123456789abcdef' * (4 << 20), seen(value[2:]))
print(seen(client.ask(query('SELECT length(' + repr('ü' * (8 << 20)) + ') AS long'))))
print(seen(client.ask(parse('SELECT length($1)'), bind([b'v' * (32 << 20)]), EXECUTE, SYNC)))
print(seen(client.ask(query('SELECT 4'))))
wait()
";
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let mut client = captured.spawn(&["python3", "-c", &raw(SCRIPT), &server.port().to_string()]);
    for expected in
        ["67108870 True SELECT 1 Z", "T '8388608' SELECT 1 Z", "1 2 '33554432' SELECT 1 Z", "T '4' SELECT 1 Z", "ready"]
    {
        assert_eq!(client.line(), expected);
    }
    let peak = agent_peak(&captured.host);
    println!("the agent's peak is {peak} MiB");
    client.go_on();
    assert!(client.end().1.success());
    let rows = captured.rows(1);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let outcome =
        |row: &Value| format!("{} {} {} {}", row["n"], word(&row["verb"]), word(&row["outcome"]), row["count"]);
    let all: Vec<String> = statements(&rows).iter().map(outcome).collect();
    // What is too large to be read may do anything.
    assert_eq!(all, ["2 SELECT success 1", "3 UNPARSED success 1", "4 SELECT success 1", "5 SELECT success 1"]);
    assert_eq!(rows.session()["recorded_down"], rows.session()["bytes_down"]);
    assert_eq!(rows.session()["recorded_up"], rows.session()["bytes_up"]);
    captured.host.verify();
    assert!(peak < PEAK_MIB, "{peak} MiB");
}
