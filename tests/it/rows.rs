//! What the store says of a run: rows by table, as `crewtap show RUN --json` prints them.

use crewtap_tests::host::Host;
use serde_json::Value;

/// Everything on record of one run.
pub struct Rows(Vec<Value>);

impl Rows {
    /// Of the run that was started last.
    pub fn of_last_run(host: &Host) -> Self {
        let run = host.last_run();
        Self(host.json(&["show", run["id"].as_str().unwrap()]))
    }

    /// The rows of one table, in order.
    pub fn table(&self, name: &str) -> Vec<&Value> {
        self.0.iter().filter(|row| row["table"] == name).collect()
    }

    /// The run's own row.
    pub fn run(&self) -> &Value {
        self.table("runs")[0]
    }

    /// The only session.
    pub fn session(&self) -> &Value {
        let sessions = self.table("sessions");
        assert_eq!(sessions.len(), 1, "one session: {sessions:#?}");
        sessions[0]
    }

    /// Kernel and record must agree on this many sessions, with nothing lost.
    pub fn reconciled(&self, sessions: u64) {
        let rows = self.table("reconciliations");
        assert_eq!(rows.len(), 1, "one reconciliation: {rows:?}");
        assert_eq!(rows[0]["complete"], true, "{rows:?}");
        assert_eq!(rows[0]["sessions"], sessions, "{rows:?}");
        assert_eq!(rows[0]["events_lost"], 0, "{rows:?}");
        assert_eq!(self.table("sessions").len() as u64, sessions);
    }
}
