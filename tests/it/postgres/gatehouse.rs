//! The real PostgreSQL driver between a real client and a real server, with a gate whose verdicts a test writes. What
//! redirects connections is left out: clients connect to it themselves, inside the host's own namespace.

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crewtap::capture::listen::Listeners;
use crewtap::capture::netns::NetworkNamespace;
use crewtap::clock::Zone;
use crewtap::gate::{self, Approval, Gate, Judge};
use crewtap::journal::{Journal, Options};
use crewtap::leg::Leg;
use crewtap::namespace::Namespace;
use crewtap::proto::{self, Legs};
use crewtap::recorder::Recorder;
use crewtap::relay::First;
use crewtap::runs::Run;
use crewtap::session::{Ground, Holding, Session};
use crewtap_core::action::{Action, Fact};
use crewtap_core::bodies::Classified;
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::origin::Origin;
use crewtap_core::run::{Mode, Process};
use crewtap_core::target::Target;
use crewtap_core::verdict::{Effect, Verdict};
use crewtap_tests::host::Host;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Where clients connect to.
pub const PORT: u16 = 6543;

/// Questions that wait for a test: far more than one asks.
const QUESTIONS_MAX: usize = 64;

/// A statement that waits, and the way to answer it.
pub struct Question {
    pub text: String,
    pub answer: oneshot::Sender<bool>,
}

type Rule = Box<dyn Fn(&Action) -> Effect + Send + Sync>;

struct Script {
    rule: Rule,
    questions: mpsc::SyncSender<Question>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

fn text(action: &Action) -> String {
    match action.facts.get("text") {
        Some(Fact::Text(text)) => text.clone(),
        _ => action.subject.clone(),
    }
}

impl Judge for Script {
    fn judge(&self, question: &gate::Question<'_>) -> Verdict {
        Verdict::of((self.rule)(question.action), vec!["the-script".into()])
    }

    fn approval(&self, question: &gate::Question<'_>, _: &Verdict) -> Approval {
        let (answer, answered) = oneshot::channel();
        // A test that does not listen never approves.
        let _ = self.questions.try_send(Question { text: text(question.action), answer });
        Approval::of(async {
            let approved = answered.await.unwrap_or(false);
            gate::Answer { approved, why: "the script said so".into() }
        })
    }
}

/// A driver that serves until it is dropped.
pub struct Gatehouse {
    pub questions: mpsc::Receiver<Question>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a rule says of statements whose text has a word.
pub fn by_word(action: &Action) -> Effect {
    let text = text(action);
    match () {
        () if text.contains("held") => Effect::Ask,
        () if text.contains("denied") => Effect::Deny,
        () => Effect::Allow,
    }
}

impl Gatehouse {
    /// Serves for the server on a port of the host's namespace.
    pub fn start(host: &Host, server: u16, rule: impl Fn(&Action) -> Effect + Send + Sync + 'static) -> Self {
        let (asked, questions) = mpsc::sync_channel(QUESTIONS_MAX);
        let judge = Arc::new(Script { rule: Box::new(rule), questions: asked });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let directory = host.data_dir();
        let thread = host.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let journal = Journal::open(&directory, &Options::default(), None).unwrap();
                let house = House::new(&journal, judge, server);
                let listener = TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = house.serve(listener) => {}
                    _ = stopped => {}
                }
                drop(house);
                journal.close().unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { questions, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends, and tells the recorded exchanges in the order of their sessions and numbers.
    pub fn exchanges(mut self, host: &Host) -> Vec<Value> {
        self.end();
        let reindexed = host.crewtap(&["reindex"]).output().unwrap();
        assert!(reindexed.status.success(), "{}", crewtap_tests::host::text(&reindexed));
        host.verify();
        let run = host.last_run();
        let mut rows = host.json(&["show", run["id"].as_str().unwrap(), "--all"]);
        rows.retain(|row| row["table"] == "exchanges");
        rows.sort_by_key(|row| (row["session"].to_string(), row["n"].as_i64()));
        rows
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Gatehouse {
    fn drop(&mut self) {
        self.end();
    }
}

struct House {
    run: Arc<Run>,
    ground: Arc<Ground>,
    server: u16,
}

impl House {
    fn new(journal: &Journal, judge: Arc<Script>, server: u16) -> Rc<Self> {
        let netns = NetworkNamespace::current().unwrap();
        // Its listeners are not served: the ports only say what must not be dialled.
        let ports = Listeners::bind(&netns).unwrap().ports();
        let namespace = Arc::new(Namespace::new(netns, ports).unwrap());
        let recorder = Recorder::new(journal.clone());
        let id = RunId(Ulid::generate());
        let run = Run::new(id, 1, Identity::unknown(), Mode::Enforce, namespace, recorder);
        let ground = Ground {
            gate: Gate::of(judge),
            key: journal.store_key(),
            catalog: Arc::default(),
            waits_for_disk: false,
            zone: Zone::default(),
            holding: Holding::default(),
        };
        Rc::new(Self { run: Arc::new(run), ground: Arc::new(ground), server })
    }

    async fn serve(self: &Rc<Self>, listener: TcpListener) {
        loop {
            let (client, peer) = listener.accept().await.unwrap();
            let house = self.clone();
            tokio::task::spawn_local(async move {
                let destination = ([127, 0, 0, 1], house.server).into();
                let origin = Origin {
                    destination,
                    bound: None,
                    cgroup: 1,
                    pid: 1,
                    tid: 1,
                    uid: 0,
                    gid: 0,
                    cookie: 0,
                    mono_ns: 0,
                    program_ns: 0,
                    comm: "client".into(),
                };
                let ground = house.ground.clone();
                let session = Session::open(ground, house.run.clone(), origin, peer, Process::default()).unwrap();
                let classified = Classified {
                    protocol: "postgres".into(),
                    driver: "postgres".into(),
                    target: Target { address: destination, name: None },
                    sni: None,
                    alpn: Vec::new(),
                };
                session.record(classified.clone()).unwrap();
                let permit = session.ask_connect(&classified).await.unwrap();
                let target = session.dial(&permit).await.unwrap();
                let (client, target) = (Leg::new(client), Leg::new(target));
                let first = First::default();
                let legs = Legs { client, target, first, classified, tls: None, permit };
                let end = (proto::driver("postgres").serve)(&session, legs).await;
                session.close(end.outcome, end.error);
            });
        }
    }
}
