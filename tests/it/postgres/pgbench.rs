//! pgbench, in each of its ways of asking: its transactions go through, and every statement that the server ran is on record
//! as often.

use std::collections::BTreeMap;

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::postgres::{Release, user};

use super::captured::{Captured, statements, uri};

const CLIENTS: usize = 8;

const TRANSACTIONS: usize = 10;

/// BEGIN, three UPDATE, a SELECT, an INSERT, END.
const STATEMENTS: usize = 7;

/// How often each text occurs, in one line each.
fn tally(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for text in texts {
        *tally.entry(text.split_whitespace().collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    tally
}

#[test]
fn every_statement_of_pgbench_is_on_record() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let place = uri(&server, user::SCRAM, "sslmode=require");
    let _ = succeeded(&captured.direct(&["pgbench", "-i", "-q", &place]));
    let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS.to_string());
    for mode in ["simple", "extended", "prepared"] {
        let before = server.statements().len();
        let output =
            captured.run(&["pgbench", "-n", "-M", mode, "-c", &clients, "-j", "2", "-t", &transactions, &place]);
        let said = succeeded(&output);
        let all = CLIENTS * TRANSACTIONS;
        assert!(said.contains(&format!("number of transactions actually processed: {all}/{all}\n")), "{said}");
        assert!(said.lines().any(|line| line.starts_with("tps = ")), "{}", text(&output));
        // It asks for the tables over a connection of its own.
        let rows = captured.rows(CLIENTS as u64 + 1);
        let recorded = statements(&rows);
        let failed: Vec<_> = recorded.iter().filter(|row| row["outcome"] != "success").collect();
        assert!(failed.is_empty(), "{mode}: {failed:?}");
        let ran = tally(server.statements().split_off(before));
        assert_eq!(tally(recorded.iter().map(|row| row["subject"].as_str().unwrap().to_owned())), ran, "{mode}");
        let of_transactions = recorded.len() - recorded.iter().filter(|row| is_asked_first(row)).count();
        assert_eq!(of_transactions, all * STATEMENTS, "{mode}");
    }
    captured.host.verify();
}

/// Whether it belongs to what pgbench asks before it begins.
fn is_asked_first(row: &serde_json::Value) -> bool {
    let subject = row["subject"].as_str().unwrap();
    subject.starts_with("select o.n,") || subject.starts_with("select count(*) from pgbench_branches")
}
