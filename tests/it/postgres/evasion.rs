//! Clients that want something run which is not what was judged, or said without being on record.

use crewtap_core::action::{Action, Fact};
use crewtap_core::verdict::Effect;
use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::postgres::{Postgres, Release};
use serde_json::Value;

use super::captured::{Captured, of, plain, raw, statements};
use super::gatehouse::{Gatehouse, PORT};

/// Nothing that drops or changes roles, and nothing that is not understood.
fn careful(action: &Action) -> Effect {
    let Some(Fact::Set(kinds)) = action.facts.get("kinds") else { return Effect::Allow };
    let bad = ["DROP", "SET_ROLE", "UNPARSED"].iter().any(|kind| kinds.contains(*kind));
    if bad { Effect::Deny } else { Effect::Allow }
}

/// What the client printed, and the exchanges on record.
fn tried(case: &str) -> (String, Vec<Value>, String) {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let house = Gatehouse::start(&host, server.port(), careful);
    let output =
        host.command("python3").args(["-c", &raw(include_str!("evasion.py")), &PORT.to_string(), case]).output();
    let said = succeeded(&output.unwrap());
    let exchanges = house.exchanges(&host);
    let is_there =
        host.command("psql").args(["-XAtc", "SELECT to_regclass('orders')"]).arg(plain(&server)).output().unwrap();
    assert_eq!(succeeded(&is_there), "orders\n", "the table is gone");
    (said, exchanges, server.log())
}

#[test]
fn a_setting_that_changes_ahead_of_a_text_hides_nothing_in_it() {
    let (said, exchanges, log) = tried("setting");
    assert_eq!(said, "C S Z\nN T D C Z\nC S Z | E42501 Z\n");
    assert!(!log.contains("statement: SELECT '\\'; DROP TABLE orders; --'\nDROP"), "{log}");
    let hidden: Vec<&Value> =
        exchanges.iter().filter(|exchange| exchange["subject"].as_str().unwrap().contains("DROP TABLE")).collect();
    let verbs: Vec<&Value> = hidden.iter().map(|exchange| &exchange["verb"]).collect();
    assert_eq!(verbs, ["SELECT", "UNPARSED"]);
}

#[test]
fn a_setting_that_ends_with_its_transaction_hides_nothing() {
    let (said, _, _) = tried("rollback");
    assert_eq!(said.split(" | ").last(), Some("E42501 Z\n"), "{said}");
}

#[test]
fn a_setting_in_a_portal_of_before_hides_nothing() {
    let (said, exchanges, _) = tried("portal");
    assert_eq!(said, "C E42501 Z\n");
    assert_eq!(exchanges.last().unwrap()["verb"], "UNPARSED");
}

#[test]
fn what_a_log_in_sets_is_judged_like_a_statement() {
    let (said, exchanges, log) = tried("settings");
    assert_eq!(said, "in\n42501\n42501\n42501\nin\n");
    // Sessions of one millisecond have no order.
    let mut verdicts: Vec<&str> = exchanges.iter().map(|row| row["verdict"].as_str().unwrap_or("none")).collect();
    verdicts.sort_unstable();
    assert_eq!(verdicts, ["allow", "deny", "deny", "deny", "none"]);
    assert!(!log.contains("role"), "{log}");
}

#[test]
fn a_message_that_nobody_knows_ends_the_session_where_statements_are_judged() {
    for case in ["unknown", "large"] {
        let (said, _, log) = tried(case);
        assert_eq!(said, "E08P01\n", "{case}");
        assert!(!log.contains("invalid frontend message"), "{log}");
    }
}

#[test]
fn a_cancel_request_with_a_key_of_nobodys_goes_nowhere() {
    let (said, exchanges, log) = tried("cancel");
    assert_eq!(said, "b''\n");
    assert_eq!((&exchanges[0]["verb"], &exchanges[0]["outcome"]), (&"CANCEL".into(), &"blocked".into()));
    assert!(!log.contains("cancel request"), "{log}");
}

#[test]
fn requests_for_tls_that_come_again_or_too_long_lead_nowhere() {
    let captured = Captured::new();
    let server = Postgres::on(&captured.host).start();
    let script = raw(include_str!("evasion.py"));
    let said = succeeded(&captured.run(&["python3", "-c", &script, &server.port().to_string(), "turns"]));
    for line in said.lines() {
        assert!(line.ends_with(" 0A000"), "{said}");
    }
    assert_eq!(said.lines().count(), 3);
    // The first one's server has said so itself.
    let rows = captured.rows(3);
    let outcomes: Vec<&Value> = rows.table("sessions").iter().map(|session| &session["outcome"]).collect();
    assert_eq!(outcomes, ["completed", "refused", "refused"]);
}

#[test]
fn a_client_that_says_its_first_packet_slowly_is_read_too() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let script = raw(include_str!("evasion.py"));
    let _ = succeeded(&captured.run(&["python3", "-c", &script, &server.port().to_string(), "slow"]));
    let rows = captured.rows(1);
    assert_eq!(of(&statements(&rows), "slowly")["outcome"], "success");
}

#[test]
fn versions_that_few_clients_speak_are_read_too() {
    let captured = Captured::new();
    let server = captured.server(Release::Debian);
    let script = raw(include_str!("evasion.py"));
    let _ = succeeded(&captured.run(&["python3", "-c", &script, &server.port().to_string(), "version"]));
    let rows = captured.rows(1);
    assert_eq!(of(&statements(&rows), "in version 3.1")["outcome"], "success");
}
