//! From a record to policies and back, on real clients: what `policy test` says of a recorded request is what happens to it.

use std::process::Output;

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::postgres::{Postgres, Release};

use super::{crewtap, write};
use crate::agent;
use crate::postgres::captured::{Captured, plain};

/// A request whose method a server can take from a field, and a log-in that becomes somebody else.
const SCRIPT: &str = "
curl -sS -o /dev/null -w '%{http_code}\\n' --max-time 20 \"$0/items\"
curl -sS -o /dev/null -w '%{http_code}\\n' --max-time 20 -H 'X-HTTP-Method-Override: DELETE' \"$0/items\"
PGOPTIONS='-c role=postgres' psql -XAtc 'SELECT 1' \"$1\" 2>&1
PGOPTIONS='-c statement_timeout=5s' psql -XAtc 'SELECT 2' \"$1\" 2>&1";

/// What a person would write who thinks of methods and statements alone.
const PLAIN: &str = "@id(\"connect\") permit (principal, action == Action::\"connect\", resource);\n\
    @id(\"get\") permit (principal, action == Action::\"http_request\", resource) when { context.method == \"GET\" };\n\
    @id(\"read\") permit (principal, action == Action::\"query\", resource)\n\
    when { [\"SELECT\", \"SET\"].containsAll(context.kinds) };\n";

struct Ground {
    captured: Captured,
    server: Postgres,
    web: String,
}

impl Ground {
    fn new() -> Self {
        let captured = Captured::new();
        let server = captured.server(Release::Debian);
        assert_eq!(server.query("GRANT postgres TO trusted"), "");
        let web = format!("http://127.0.0.1:{}", super::connects::web(&captured.host, "127.0.0.1:0").port());
        std::fs::create_dir_all(captured.host.path("policy")).unwrap();
        Self { captured, server, web }
    }

    fn host(&self) -> &Host {
        &self.captured.host
    }

    /// The clients by these settings, once the agent of other ones has gone.
    fn run(&self, settings: &str) -> String {
        agent::wait_idle(self.host());
        self.captured.configure(settings);
        succeeded(&self.captured.run(&["sh", "-c", SCRIPT, &self.web, &plain(&self.server)]))
    }

    /// What policies in a file would have said of the last run.
    fn tested(&self, policies: &str) -> Output {
        write(&self.host().path("policy/test.cedar"), policies);
        let (run, files) = (self.host().last_run(), self.host().path("policy").display().to_string());
        crewtap(self.host(), &["policy", "test", "--run", run["id"].as_str().unwrap(), &files])
    }
}

#[test]
fn what_a_test_of_policies_says_of_a_recorded_run_is_what_they_do() {
    let ground = Ground::new();
    assert_eq!(ground.run("mode = 'record'"), "200\n200\n1\n2\n");
    let tested = ground.tested(PLAIN);
    let told = text(&tested);
    assert_eq!(tested.status.code(), Some(1), "{told}");
    assert!(told.contains("2 would differ (allow -> deny 2)"), "{told}");
    let run = ground.host().last_run()["id"].as_str().unwrap().to_owned();
    let suggested = succeeded(&crewtap(ground.host(), &["policy", "suggest", &run]));
    // The same clients under the same policies.
    let said = ground.run("policy = 'policy'");
    assert!(said.starts_with("200\n403\n") && said.ends_with("\n2\n"), "{said}");
    assert!(said.contains("refused by policy: what the log-in sets"), "{said}");
    // What was on record of all of it is what lets all of it pass.
    assert!(suggested.contains("\"SET_ROLE\"") && suggested.contains("context.method == \"UNPARSED\""), "{suggested}");
    write(&ground.host().path("policy/test.cedar"), &suggested);
    assert_eq!(ground.run("policy = 'policy'"), "200\n200\n1\n2\n", "{suggested}");
}
