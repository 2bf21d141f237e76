//! SQL: judged by what it does, refused in the server's own terms, and judged again when policies change.

use crewtap_tests::host::text;
use crewtap_tests::postgres::{Release, user};

use super::{decisions, write};
use crate::postgres::captured::{Captured, plain, python, uri};

/// Reads are permitted, and inserts into one table.
const READS: &str = "@id(\"connect\")\npermit (principal, action == Action::\"connect\", resource);\n\
    @id(\"reads\")\npermit (principal, action == Action::\"query\", resource)\n\
    when { context.parsed && [\"SELECT\", \"SHOW\", \"SET\", \"BEGIN\", \"COMMIT\", \"ROLLBACK\"].containsAll(context.kinds) \
    && !context.functions.contains(\"*\") };\n";

/// Statements by psycopg, each in a transaction of its own: what came of them.
const SCRIPT: &str = "
import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for statement in sys.argv[2:]:
        try:
            cursor = connection.execute(statement)
            print('did', cursor.rowcount)
        except psycopg.Error as error:
            print(error.sqlstate, error.diag.message_primary, '|', error.diag.message_detail)
";

fn ruled(policies: &str) -> Captured {
    let captured = Captured::new();
    std::fs::create_dir_all(captured.host.path("policy")).unwrap();
    write(&captured.host.path("policy/test.cedar"), policies);
    captured.configure("policy = 'policy'");
    captured
}

#[test]
fn reads_pass_and_writes_do_not_however_they_are_written() {
    let captured = ruled(READS);
    let server = captured.server(Release::Debian);
    let before = server.query("SELECT count(*) FROM orders");
    let writes = [
        "DELETE FROM orders",
        "SELECT 1; DELETE FROM orders",
        "WITH gone AS (DELETE FROM orders RETURNING id) SELECT count(*) FROM gone",
        "DO $$ BEGIN DELETE FROM orders; END $$",
        "SELECT * FROM orders FOR UPDATE; TRUNCATE orders",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "/* SELECT */ DROP TABLE orders",
        "COPY orders TO PROGRAM 'cat'",
        "PREPARE x AS DELETE FROM orders",
        "SELEKT",
    ];
    let place = plain(&server);
    let python = python();
    let words = [&[python.as_str(), "-c", SCRIPT, &place, "SELECT id FROM orders"][..], &writes].concat();
    let said = text(&captured.run(&words));
    assert!(said.contains("did "), "{said}");
    assert_eq!(said.matches("42501 crewtap: refused by policy").count(), writes.len(), "{said}");
    assert_eq!(server.query("SELECT count(*) FROM orders"), before);
    let told = decisions(&captured.host);
    assert_eq!(told.iter().filter(|told| told.contains(" deny")).count(), writes.len(), "{told:?}");
    captured.host.verify();
}

#[test]
fn a_refused_connection_is_told_in_the_servers_terms() {
    let captured = ruled("");
    let server = captured.server(Release::Debian);
    for mode in ["prefer", "disable"] {
        let place = uri(&server, user::TRUSTED, &format!("sslmode={mode}&connect_timeout=20"));
        let said = text(&captured.run(&["psql", "-X", &place, "-c", "SELECT 1"]));
        assert!(said.contains("FATAL:  crewtap: refused by policy"), "{mode}: {said}");
        assert!(said.contains("none allows it"), "{mode}: {said}");
    }
    assert_eq!(server.connections(), 0, "the server has heard of nobody");
}

#[test]
fn shadow_says_what_enforce_would_refuse_and_refuses_nothing() {
    let captured = ruled(READS);
    captured.configure("policy = 'policy'\nmode = 'shadow'");
    let server = captured.server(Release::Debian);
    let place = plain(&server);
    let said = text(&captured.run(&[&python(), "-c", SCRIPT, &place, "CREATE TABLE made (id int)", "SELECT 1"]));
    assert_eq!(said.matches("did ").count(), 2, "{said}");
    assert_eq!(server.query("SELECT count(*) FROM made"), "0");
    let told = decisions(&captured.host);
    assert!(told.iter().any(|told| told.starts_with("query CREATE TABLE made (id int) deny")), "{told:?}");
    let rows = captured.rows(1);
    let exchanges = rows.table("exchanges");
    assert!(exchanges.iter().all(|row| row["outcome"] == "success"), "{exchanges:?}");
}
