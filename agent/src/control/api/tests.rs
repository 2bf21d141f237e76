//! The API over real connections, from another process: this one's own are refused.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::policy::catalog::Source;
use crewtap_core::secret::Secret;
use crewtap_core::target::Resource;
use crewtap_core::verdict::Terms;

use super::*;
use crate::approvals::Asked;
use crate::config::approvals::{ApiApprover, ApprovalsConfig, OverrideConfig};
use crate::gate::Approval;
use crate::journal::{Journal, Options};
use crate::recorder::Recorder;

const TOKEN: &str = "correct horse battery staple";

/// Sends its input and prints what comes back.
const CLIENT: &str = "import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
s.sendall(sys.stdin.buffer.read())
got = b''
try:
    while True:
        more = s.recv(65536)
        if not more: break
        got += more
except ConnectionResetError: pass
sys.stdout.buffer.write(got)";

struct Served {
    _dir: tempfile::TempDir,
    approvals: Approvals,
    address: SocketAddr,
}

impl Served {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&token).unwrap();
        writeln!(file, "{TOKEN}").unwrap();
        let journal = Journal::open(&dir.path().join("store"), &Options::default(), None);
        let journal = journal.or_else(|_| {
            std::fs::create_dir(dir.path().join("store")).unwrap();
            Journal::open(&dir.path().join("store"), &Options::default(), None)
        });
        let journal = journal.unwrap();
        let (key, recorder) = (journal.store_key(), Recorder::new(journal));
        let approvals_config = ApprovalsConfig { groups: vec!["os:dba".into()], ..ApprovalsConfig::default() };
        let approvals = Approvals::new(approvals_config, OverrideConfig::default(), key.clone(), recorder);
        let approver = |name: &str, token: Source| ApiApprover {
            name: name.into(),
            identity: None,
            groups: vec!["os:dba".into()],
            token,
        };
        let missing = Source::File(dir.path().join("missing"));
        let approvers = vec![approver("nobody", missing), approver("alice", Source::File(token))];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let api = Api::new(ApiConfig { listen: address, approvers }, approvals.clone(), key);
        let (ready, is_ready) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                ready.send(()).unwrap();
                serve(listener, api).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { _dir: dir, approvals, address }
    }

    fn ask(&self) -> Approval {
        self.approvals.ask(Asked {
            run: RunId(Ulid::generate()),
            session: SessionId(Ulid::generate()),
            exchange: Some(1),
            identity: Identity { id: "os:1000".into(), name: "crew".into(), ..Identity::unknown() },
            resource: Resource { id: "orders-db".into(), tags: Vec::new() },
            verb: "query",
            subject: "DELETE FROM orders".into(),
            policies: vec!["no-delete".into()],
            terms: Terms { groups: BTreeSet::new(), approvers: 1, whole_session: false },
            clear: Arc::new(Secret::new(b"4111111111111111".to_vec())),
            shown: b"************1111".as_slice().into(),
            media_type: "text/plain".into(),
        })
    }

    fn send(&self, request: &str) -> String {
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let mut client = Command::new("python3");
        client.args(["-c", CLIENT, &ip, &port]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = client.spawn().unwrap();
        client.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap()
    }

    /// A request with everything that it needs, and more header lines.
    fn request(&self, line: &str, more: &str, body: &str) -> String {
        let (address, len) = (self.address, body.len());
        self.send(&format!(
            "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len}\r\n{more}\r\n{body}"
        ))
    }
}

#[test]
fn what_waits_is_listed_masked_and_answered_by_whose_token_is_shown() {
    let served = Served::start();
    let held = served.ask();
    let list = served.request("GET /approvals", "", "");
    assert!(
        list.starts_with("HTTP/1.1 200 ") && list.contains(&held.id) && list.contains("DELETE FROM orders"),
        "{list}"
    );
    let shown = served.request(&format!("GET /approvals/{}", held.id), "", "");
    assert!(shown.contains("************1111") && !shown.contains("4111111111111111"), "{shown}");
    assert!(!list.to_lowercase().contains("access-control") && list.contains("no-store"), "{list}");
    let approve = format!("POST /approvals/{}/approve", held.id);
    let approved = served.request(&approve, "", r#"{"reason":"ticket 7"}"#);
    assert!(approved.starts_with("HTTP/1.1 200 ") && approved.contains("\"settled\":true"), "{approved}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(held.answer).why, "approved by alice: ticket 7");
    assert!(served.request(&approve, "", "").starts_with("HTTP/1.1 404 "), "once");
    let held = served.ask();
    let denied = served.request(&format!("POST /approvals/{}/deny", held.id), "", "");
    assert!(denied.starts_with("HTTP/1.1 200 "), "{denied}");
    assert!(!runtime.block_on(held.answer).approved);
}

#[test]
fn without_the_token_the_host_or_the_manners_nothing_is_told() {
    let served = Served::start();
    let held = served.ask();
    let (address, id) = (served.address, &held.id);
    let approve = format!("POST /approvals/{id}/approve HTTP/1.1");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let refused = [
        (401, format!("GET /approvals HTTP/1.1\r\nHost: {address}\r\n\r\n")),
        (401, format!("GET /approvals HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer wrong\r\n\r\n")),
        (401, format!("GET /approvals HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {TOKEN}\r\n\r\n")),
        (401, format!("GET /approvals HTTP/1.1\r\nHost: {address}\r\n{bearer}\r\n{bearer}\r\n\r\n")),
        (421, format!("GET /approvals HTTP/1.1\r\nHost: evil.example\r\n{bearer}\r\n\r\n")),
        (421, format!("GET /approvals HTTP/1.1\r\nHost: evil.example:{}\r\n{bearer}\r\n\r\n", address.port())),
        (421, format!("GET /approvals HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{bearer}\r\n\r\n")),
        (421, format!("GET /approvals HTTP/1.1\r\n{bearer}\r\n\r\n")),
        (
            403,
            format!("GET /approvals HTTP/1.1\r\nHost: {address}\r\nOrigin: https://evil.example\r\n{bearer}\r\n\r\n"),
        ),
        (405, format!("GET /approvals/{id}/approve HTTP/1.1\r\nHost: {address}\r\n{bearer}\r\n\r\n")),
        (405, format!("DELETE /approvals/{id} HTTP/1.1\r\nHost: {address}\r\n{bearer}\r\n\r\n")),
        (404, format!("GET /reveal HTTP/1.1\r\nHost: {address}\r\n{bearer}\r\n\r\n")),
        (400, format!("{approve}\r\nHost: {address}\r\n{bearer}\r\nContent-Length: 9\r\n\r\n{{\"x\": 1}}\n")),
        (413, format!("{approve}\r\nHost: {address}\r\n{bearer}\r\nContent-Length: 9000\r\n\r\n{}", "x".repeat(9000))),
    ];
    for (status, request) in refused {
        let answer = served.send(&request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{answer}");
        assert!(!answer.contains("DELETE FROM orders"), "{answer}");
    }
    let long = format!("GET /approvals HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    assert!(!served.send(&long).starts_with("HTTP/1.1 200"));
    assert_eq!(served.approvals.waiting().len(), 1, "and it waits as it did");
}

#[test]
fn a_connection_of_the_agent_itself_gets_no_word() {
    use std::io::Read;
    let served = Served::start();
    let mut own = std::net::TcpStream::connect(served.address).unwrap();
    own.write_all(format!("GET /approvals HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).as_bytes()).unwrap();
    let mut said = Vec::new();
    let _reset = own.read_to_end(&mut said);
    assert_eq!(said, b"");
}
