//! Connections through another host.

use crewtap_tests::host::text;

use super::ground::{ADDRESS, Ground, PORT};

/// Serves a file on loopback, beside sshd; prints it through a forward.
const THROUGH: &str = "ssh -N -f -o ExitOnForwardFailure=yes -o ControlMaster=yes -o ControlPath=~/cm -L 127.0.0.1:7001:10.55.0.1:8099 t; \
    curl -s --max-time 10 http://127.0.0.1:7001/; echo curl=$?; ssh -o ControlPath=~/cm -O exit t";

fn web(ground: &Ground) -> std::process::Child {
    let directory = ground.host.path("web");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("index.html"), "inside\n").unwrap();
    let mut server = ground.host.command("python3");
    server.args(["-m", "http.server", "-b", ADDRESS, "-d"]).arg(directory).arg("8099");
    let child = server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    crate::agent::until("the server", || {
        ground.host.inside(|| std::net::TcpStream::connect((ADDRESS, 8099)).ok().map(drop)).join().unwrap()
    });
    child
}

#[test]
fn what_goes_through_another_host_is_on_record() {
    let mut ground = Ground::new();
    ground.known_server();
    let mut web = web(&ground);
    let shown = text(&ground.run(THROUGH));
    web.kill().unwrap();
    web.wait().unwrap();
    assert!(shown.contains("inside\ncurl=0"), "{shown}");
    let exchanges = ground.exchanges();
    let forward = exchanges.iter().find(|row| row["verb"] == "FORWARD").unwrap();
    assert_eq!((forward["subject"].as_str(), forward["outcome"].as_str()), (Some("10.55.0.1:8099"), Some("success")));
    let inner = exchanges.iter().find(|row| row["protocol"] == "http" && row["target"] == "10.55.0.1:8099");
    let inner = inner.expect("what is inside is a session of its own");
    assert_eq!(inner["code"], "200", "{inner}");
    assert!(ground.shown(inner).contains("inside") && ground.notes().contains("made through 10.55.0.1:2222"));
}

#[test]
fn forwards_that_no_policy_permits_are_refused_and_agents_are_not_lent() {
    let mut ground = Ground::new();
    ground.known_server();
    ground.policy(
        "@id(\"most\") permit (principal, action, resource) unless { action == Action::\"forward\" };\n\
         @id(\"one\") permit (principal, action == Action::\"forward\", resource) when { context.to_port == 22 };\n",
    );
    ground.configure("policy = 'policy'\n");
    let mut web = web(&ground);
    let script = format!(
        "{THROUGH}; ssh -R 127.0.0.1:7003:127.0.0.1:22 -o ExitOnForwardFailure=yes t echo listens; \
         eval $(ssh-agent) >/dev/null; ssh -A t 'echo agent=$SSH_AUTH_SOCK'; kill $SSH_AGENT_PID; echo port {PORT}"
    );
    let shown = text(&ground.run(&script));
    web.kill().unwrap();
    web.wait().unwrap();
    assert!(!shown.contains("inside") && !shown.contains("curl=0"), "{shown}");
    assert!(shown.contains("agent=\n") && !shown.contains("listens"), "{shown}");
    let blocked: Vec<_> = ground.exchanges().into_iter().filter(|row| row["outcome"] == "blocked").collect();
    assert_eq!(blocked.len(), 2, "{blocked:?}");
}

#[test]
fn one_host_is_reached_through_another() {
    let mut ground = Ground::new();
    ground.known_server();
    let shown = text(&ground.run("ssh -J j t 'echo behind; exit 4'; echo rc=$?"));
    assert!(shown.contains("behind") && shown.contains("rc=4"), "{shown}");
    let verbs: Vec<String> = ground.exchanges().iter().map(|row| row["verb"].as_str().unwrap().to_owned()).collect();
    // The one that goes through is opened like the one that carries it.
    assert!(verbs.contains(&"FORWARD".to_owned()) && verbs.contains(&"EXEC".to_owned()), "{verbs:?}");
    assert_eq!(verbs.iter().filter(|verb| *verb == "LOGIN").count(), 2, "{verbs:?}");
}
