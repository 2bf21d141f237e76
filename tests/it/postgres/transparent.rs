//! Bytes pass as they came: what real clients once said gets the same answers through crewtap as beside it, message by
//! message, however it is cut on the way.

use std::path::Path;

use crewtap_tests::host::succeeded;
use crewtap_tests::postgres::{Postgres, Release};

use super::captured::{Captured, raw};

/// Recorded sessions. Replication is not among them: its messages tell the time.
fn recordings() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/postgres");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let mut paths: Vec<String> = paths.filter(|path| !path.ends_with("raw-replication.rec")).collect();
    paths.sort();
    assert!(paths.len() > 15, "recordings are missing");
    paths
}

fn replayed(captured: &Captured, server: &Postgres, through: bool) -> String {
    let (script, port, files) = (raw(include_str!("transparent.py")), server.port().to_string(), recordings());
    let mut words = vec!["python3", "-c", &script, &port];
    words.extend(files.iter().map(String::as_str));
    succeeded(&if through { captured.run(&words) } else { captured.direct(&words) })
}

fn is_transparent(release: Release) {
    let captured = Captured::new();
    let server = captured.server(release);
    let (direct, through) = (replayed(&captured, &server, false), replayed(&captured, &server, true));
    let sessions = direct.lines().count();
    assert!(sessions > 300, "{direct}");
    for (direct, through) in direct.lines().zip(through.lines()) {
        // The whole lines are long: the first message that differs tells more.
        let differs = direct.split(' ').zip(through.split(' ')).position(|(direct, through)| direct != through);
        let message = differs.and_then(|at| Some((at, direct.split(' ').nth(at)?, through.split(' ').nth(at)?)));
        assert_eq!(message, None, "{}", direct.get(..60).unwrap_or(direct));
        assert_eq!(direct.len(), through.len(), "{direct}\n{through}");
    }
    assert_eq!(through.lines().count(), sessions);
    let rows = captured.rows(sessions as u64);
    for session in rows.table("sessions") {
        assert_eq!(session["driver"], "postgres", "{session}");
        for side in ["up", "down"] {
            assert_eq!(session[format!("recorded_{side}")], session[format!("bytes_{side}")], "{session}");
        }
    }
    captured.host.verify();
}

#[test]
fn every_recorded_session_gets_the_same_answers_of_debians_server() {
    is_transparent(Release::Debian);
}

#[test]
fn every_recorded_session_gets_the_same_answers_of_the_newest_server() {
    is_transparent(Release::Eighteen);
}
