//! The world that other tests stand on: it serves what it promises, is cut off, and leaves nothing behind. Without crewtap.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use crewtap_tests::world::{Server, within};

#[test]
fn a_world_serves_its_names_and_nothing_else() {
    let accepted = within(|world| {
        world.trust_company()?;
        let mut fetch = world.as_crew("curl");
        fetch.args(["-sS", "--fail", "https://api.internal/stock/A-100"]);
        assert_eq!(world.run_for_output(&mut fetch)?, r#"{"article": "A-100", "pieces": 12}"#);
        let mut outside = world.as_crew("ip");
        let route = world.run(outside.args(["route", "get", "192.0.2.1"]).stderr(Stdio::null()))?;
        assert!(!route.success(), "there is a route out of the world");
        let mut unknown = world.as_crew("getent");
        let name = world.run(unknown.args(["ahosts", "example.com"]))?;
        assert!(!name.success(), "a name that is not in the world was found");
        world.accepted()
    });
    let accepted = accepted.expect("a world");
    assert_eq!(accepted.len(), 1, "{accepted:?}");
    assert_eq!(accepted[0].server, Server::ApiTls);
}

#[test]
fn a_real_crew_reaches_every_server_of_the_world() {
    let servers = within(|world| {
        world.trust_company()?;
        let mut crew = world.as_crew("crewai");
        let output = world.run_for_output(crew.arg("run").stderr(Stdio::null()))?;
        assert!(output.contains("RESULT: Report 1 is filed"), "{output}");
        assert_eq!(world.query("SELECT finding FROM reports")?, "B-200 is out of stock");
        Ok(world.accepted()?.into_iter().map(|connection| connection.server).collect::<BTreeSet<_>>())
    });
    let wanted = [Server::OpenAi, Server::Telemetry, Server::Api, Server::Postgres, Server::Ssh];
    let servers = servers.expect("a crew that ends well");
    assert!(wanted.iter().all(|server| servers.contains(server)), "only {servers:?} were reached");
}

/// A process that detaches itself is the one that a careless end would leave behind.
#[test]
fn nothing_outlives_a_world() {
    let started = |panics: bool| {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let outcome = within(move |world| {
            let mut detached = world.as_crew("sh");
            detached.args(["-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"]);
            let pid: u32 = world.run_for_output(&mut detached)?.trim().parse()?;
            tell.send((pid, world.directory().to_owned()))?;
            assert!(!panics, "on purpose");
            Ok(())
        });
        assert_eq!(outcome.is_err(), panics);
        told.recv().expect("the work has begun")
    };
    for panics in [false, true] {
        let (pid, directory): (u32, PathBuf) = started(panics);
        assert!(!is_alive(pid), "process {pid} is still there (panicked: {panics})");
        assert!(!directory.exists(), "{} is still there (panicked: {panics})", directory.display());
    }
}

/// Alive and not only waiting to be collected by a parent.
fn is_alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|text| !text.contains(") Z "))
}
