//! A small journal for tests: one run with everything in it that an analyst can meet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crewtap_core::action::Fact;
use crewtap_core::bodies::*;
use crewtap_core::chain::Record;
use crewtap_core::event::{Body, Event, Stamp};
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::{Basis, Identity};
use crewtap_core::origin::Origin;
use crewtap_core::run::{Ancestor, Mode, Process, RunOutcome, Start};
use crewtap_core::session::{Outcome, Side};
use crewtap_core::target::{Name, Proof, Resource, Target};
use crewtap_core::verdict::{Effect, Terms, Verdict};

/// 2026-11-23 02:00:00 UTC.
pub(crate) const BEGIN_NS: u64 = 1_795_399_200_000_000_000;

/// Makes records one after another, a millisecond apart.
pub(crate) struct Sample {
    pub(crate) records: Vec<Record>,
    ids: u64,
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn process(pid: u32, ppid: u32, argv: &[&str]) -> Process {
    Process {
        pid,
        start_ticks: u64::from(pid) * 10,
        ppid,
        exe: format!("/usr/bin/{}", argv.first().unwrap_or(&"none")),
        argv: argv.iter().map(ToString::to_string).collect(),
        cwd: "/home/alice/crew".into(),
        uid: 1000,
        login_uid: Some(1000),
        ancestors: vec![Ancestor { pid: ppid, comm: "bash".into(), uid: 1000 }],
        missing: None,
    }
}

pub(crate) fn identity() -> Identity {
    let basis = Basis::Os { uid: 1000, login_uid: Some(1000), sudo_user: Some("alice".into()) };
    Identity { id: "os:1000".into(), name: "alice".into(), basis, ..Identity::unknown() }
}

impl Sample {
    pub(crate) fn new() -> Self {
        Self { records: Vec::new(), ids: 0 }
    }

    fn ulid(&mut self, what: u8) -> Ulid {
        self.ids += 1;
        let ms = BEGIN_NS / 1_000_000 + self.ids;
        Ulid::from_parts(ms, u128::from(what) << 72 | u128::from(self.ids))
    }

    pub(crate) fn run_id(&mut self) -> RunId {
        RunId(self.ulid(7))
    }

    pub(crate) fn session_id(&mut self) -> SessionId {
        SessionId(self.ulid(9))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        let ns = self.records.len() as u64 * 1_000_000;
        Stamp { wall_ns: BEGIN_NS + ns, mono_ns: 5_000_000_000 + ns }
    }

    pub(crate) fn add(&mut self, body: impl Into<Body>, place: impl FnOnce(Event) -> Event) {
        self.add_with(body, place, b"");
    }

    pub(crate) fn add_with(&mut self, body: impl Into<Body>, place: impl FnOnce(Event) -> Event, payload: &[u8]) {
        let leaf = self.records.len() as u64;
        self.records.push(Record { leaf, event: place(Event::new(self.stamp(), body)), payload: payload.to_vec() });
    }

    pub(crate) fn start_run(&mut self, run: RunId, argv: &[&str]) {
        let body = RunStarted {
            name: Some("nightly".into()),
            argv: argv.iter().map(ToString::to_string).collect(),
            cwd: "/home/alice/crew".into(),
            uid: 1000,
            identity: identity(),
            invoker: process(800, 700, &["bash"]),
            mode: Mode::Record,
            cgroup: 77,
            host: "lab".into(),
            kernel: "6.18.0".into(),
            version: "0.1.0".into(),
            boot_id: "b00t".into(),
        };
        self.add(body, |event| event.in_run(run));
    }

    pub(crate) fn open_session(&mut self, run: RunId, session: SessionId, destination: &str) {
        let body = SessionOpened {
            origin: Origin {
                destination: address(destination),
                bound: None,
                cgroup: 77,
                pid: 812,
                tid: 813,
                uid: 1000,
                gid: 1000,
                cookie: 4242,
                mono_ns: 5_000_000_000,
                program_ns: 0,
                comm: "python3".into(),
            },
            client: address("127.0.0.1:40000"),
            process: process(812, 800, &["python3", "-m", "crew"]),
            identity: identity(),
        };
        self.add(body, |event| event.in_session(run, session));
    }

    pub(crate) fn classify(&mut self, run: RunId, session: SessionId, destination: &str, host: Option<&str>) {
        let body = Classified {
            protocol: "http".into(),
            driver: "opaque".into(),
            target: Target {
                address: address(destination),
                name: host.map(|host| Name { host: host.into(), proof: Proof::Dns }),
            },
            sni: host.map(Into::into),
            alpn: vec!["http/1.1".into()],
        };
        self.add(body, |event| event.in_session(run, session));
    }

    pub(crate) fn chunk(&mut self, run: RunId, session: SessionId, side: Side, offset: u64, payload: &[u8]) {
        self.add_with(Chunk::new(side, offset), |event| event.in_session(run, session), payload);
    }

    pub(crate) fn close(&mut self, run: RunId, session: SessionId, outcome: Outcome, up: u64, down: u64) {
        let error = (outcome != Outcome::Completed).then(|| "connection reset by peer".into());
        let body = SessionClosed {
            outcome,
            bytes_up: up,
            bytes_down: down,
            duration_us: 1500,
            first_byte_us: Some(700),
            dialled_from: Some("127.0.0.1:50000".parse().unwrap()),
            error,
        };
        self.add(body, |event| event.in_session(run, session));
    }

    fn name(&mut self, run: RunId, answered: bool) {
        let body = Dns {
            id: 7,
            transport: "udp".into(),
            resolver: address("127.0.0.53:53"),
            pid: 812,
            name: "api.openai.test".into(),
            record: "A".into(),
            answered,
            code: answered.then(|| "NOERROR".into()),
            answers: if answered { vec!["127.9.0.1".into()] } else { Vec::new() },
        };
        self.add(body, |event| event.in_run(run));
    }

    /// The whole story: processes, a look-up, an opaque session, a session with an exchange, and every alarm.
    pub(crate) fn story() -> (Self, RunId, [SessionId; 2]) {
        let mut sample = Self::new();
        let run = sample.run_id();
        let sessions = [sample.session_id(), sample.session_id()];
        sample.start_run(run, &["crewai", "run"]);
        let started = |start, process| ProcessStarted { start, process, filename: Some("crewai".into()) };
        sample.add(started(Start::Exec, process(812, 800, &["python3", "-m", "crew"])), |e| e.in_run(run));
        sample.add(started(Start::Fork, process(900, 812, &["python3", "-m", "crew"])), |e| e.in_run(run));
        sample.add(started(Start::Exec, process(900, 812, &["git", "status", "\x1b[2J"])), |e| e.in_run(run));
        sample.name(run, false);
        sample.name(run, true);
        sample.opaque(run, sessions[0]);
        sample.exchange(run, sessions[1]);
        sample.alarms(run);
        sample.add(ProcessExited { pid: 900, status: Some(256) }, |e| e.in_run(run));
        sample.add(ProcessExited { pid: 812, status: Some(0) }, |e| e.in_run(run));
        sample.add(RunEnded { outcome: RunOutcome::Exited, status: Some(0) }, |e| e.in_run(run));
        (sample, run, sessions)
    }

    fn opaque(&mut self, run: RunId, session: SessionId) {
        let request = b"POST /v1/chat HTTP/1.1\r\nHost: api.openai.test\r\n\r\n{\"ask\":\"quarterly revenue\x1b[31m\"}";
        let answer =
            b"\x00\x01\x02\xff\xfe binary answer with password_hash inside \x00\x00\x00\x00\x07\x80\x80\x80\x80\x80";
        self.open_session(run, session, "127.9.0.1:443");
        self.classify(run, session, "127.9.0.1:443", Some("api.openai.test"));
        let verdict = Verdict::of(Effect::Allow, Vec::new());
        let decided = Decided {
            verb: "connect".into(),
            subject: "api.openai.test:443".into(),
            verdict,
            mode: Mode::Record,
            facts: BTreeMap::from([("port".into(), Fact::Int(443))]),
            resource: Resource::default(),
            overridden: None,
        };
        self.add(decided, |e| e.in_session(run, session));
        self.chunk(run, session, Side::Client, 0, &request[..40]);
        self.chunk(run, session, Side::Client, 40, &request[40..]);
        self.chunk(run, session, Side::Server, 0, answer);
        self.close(run, session, Outcome::Completed, request.len() as u64, answer.len() as u64);
    }

    fn exchange(&mut self, run: RunId, session: SessionId) {
        self.open_session(run, session, "127.9.0.2:5432");
        self.classify(run, session, "127.9.0.2:5432", None);
        let facts = BTreeMap::from([("kinds".to_string(), Fact::Set(["DROP".to_string()].into()))]);
        let request = Request {
            verb: "query".into(),
            subject: "DROP TABLE orders".into(),
            facts: facts.clone(),
            ..Default::default()
        };
        self.add_with(request, |e| e.in_session(run, session).in_exchange(1), b"DROP TABLE orders");
        let verdict = Verdict::of(Effect::Deny, vec!["no-drop".into()]);
        let decided = Decided {
            verb: "query".into(),
            subject: "DROP TABLE orders".into(),
            verdict,
            mode: Mode::Enforce,
            facts,
            resource: Resource { id: "orders-db".into(), tags: vec!["prod".into()] },
            overridden: None,
        };
        self.add(decided, |e| e.in_session(run, session).in_exchange(1));
        let masked = Masked { mask: "card".into(), count: 2, values: vec!["pan 16 abc".into()], ..Masked::default() };
        self.add(masked, |e| e.in_session(run, session).in_exchange(1));
        let response =
            Response { outcome: "blocked".into(), code: Some("42501".into()), count: Some(3), ..Default::default() };
        self.add_with(response, |e| e.in_session(run, session).in_exchange(1), b"permission denied");
        self.close(run, session, Outcome::UpstreamReset, 17, 17);
    }

    fn alarms(&mut self, run: RunId) {
        let accepted = Accepted { peer: address("127.0.0.9:5555"), local: address("127.0.0.1:8000"), pid: 812 };
        self.add(accepted, |e| e.in_run(run));
        let bypass = Bypass {
            kind: "udp".into(),
            refused: true,
            address: Some(address("127.8.8.8:123")),
            pid: Some(900),
            detail: "ntp".into(),
        };
        self.add(bypass, |e| e.in_run(run));
        self.add(Note { code: "port_reused".into(), text: "a source port came twice".into() }, |e| e.in_run(run));
        let counts = Reconciled {
            established: 3,
            sessions: 2,
            refused: 1,
            unattributed: 1,
            events_lost: 0,
            bypassed: 2,
            dropped: 4,
            map_full: 1,
            complete: false,
        };
        self.add(counts, |e| e.in_run(run));
        self.add(Checkpoint { size: 10, note: "signed".into() }, |e| e);
        self.add(Recovered { from: 5, to: 6, cut_bytes: 100 }, |e| e);
        let kind = "teleported".into();
        self.add(Body::Unknown { kind, body: ciborium::Value::from("later") }, |e| e.in_run(run));
    }

    /// A run in which humans are asked: two approve, a retry passes by it, one is denied, one waits; and somebody overrides.
    pub(crate) fn asking() -> (Self, RunId, SessionId) {
        let mut sample = Self::new();
        let (run, session) = (sample.run_id(), sample.session_id());
        sample.start_run(run, &["crewai", "run"]);
        sample.open_session(run, session, "127.9.0.2:5432");
        sample.classify(run, session, "127.9.0.2:5432", None);
        let until_ns = BEGIN_NS + 60_000_000_000;
        let begun = Override {
            id: "01OVERRIDE".into(),
            target: "orders-db".into(),
            by: identity(),
            reason: "incident 7\x1b[2J".into(),
            until_ns,
            ended: false,
        };
        for (n, id) in [(1, "01APPROVED"), (2, "01DENIED"), (3, "01WAITS"), (4, "")] {
            sample.hold(run, session, (n, id), &begun);
        }
        let mut answered = |n: u32, id: &str, answer: &str, settled: bool, by: Option<Identity>| {
            let (way, reason) = (by.as_ref().map(|_| "control".into()), Some(format!("why {answer}")));
            let body = ApprovalAnswered { id: id.into(), answer: answer.into(), by, way, reason, settled };
            sample.add(body, |e| e.in_session(run, session).in_exchange(n));
        };
        let bob = Identity { id: "os:1001".into(), name: "bob".into(), ..identity() };
        answered(1, "01APPROVED", "approved", false, Some(identity()));
        answered(1, "01APPROVED", "approved", true, Some(bob.clone()));
        answered(1, "01APPROVED", "used", true, None);
        answered(2, "01DENIED", "denied", true, Some(bob.clone()));
        sample.add(Override { ended: true, by: bob, ..begun }, |e| e);
        sample.add(RunEnded { outcome: RunOutcome::Exited, status: Some(0) }, |e| e.in_run(run));
        (sample, run, session)
    }

    /// An exchange that is held under this id; without one, that passes by the override, which begins before it.
    fn hold(&mut self, run: RunId, session: SessionId, (n, id): (u32, &str), begun: &Override) {
        let request = Request { verb: "DELETE".into(), subject: "DELETE FROM orders".into(), ..Default::default() };
        self.add_with(request, |e| e.in_session(run, session).in_exchange(n), b"DELETE FROM orders");
        let terms = Terms { groups: ["os:dba".to_owned()].into(), approvers: 2, whole_session: false };
        if id.is_empty() {
            self.add(begun.clone(), |e| e);
        } else {
            let asked = ApprovalAsked {
                id: id.into(),
                verb: "query".into(),
                subject: "DELETE FROM orders".into(),
                target: "orders-db".into(),
                identity: identity(),
                policies: vec!["no-delete".into()],
                terms: terms.clone(),
                digest: "0123".into(),
                expires_ns: begun.until_ns,
                media_type: "text/plain".into(),
            };
            self.add_with(asked, |e| e.in_session(run, session).in_exchange(n), b"DELETE FROM orders -- zebra");
        }
        let decided = Decided {
            verb: "query".into(),
            subject: "DELETE FROM orders".into(),
            verdict: Verdict {
                errors: vec!["no-drop: no such fact".into()],
                ..Verdict::ask(vec!["no-delete".into()], terms)
            },
            mode: Mode::Enforce,
            facts: BTreeMap::new(),
            resource: Resource { id: "orders-db".into(), tags: Vec::new() },
            overridden: id.is_empty().then(|| begun.id.clone()),
        };
        self.add(decided, |e| e.in_session(run, session).in_exchange(n));
    }
}
