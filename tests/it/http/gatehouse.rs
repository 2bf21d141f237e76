//! The real HTTP driver between a raw client and a scripted server, with a gate whose verdicts a test writes. What redirects
//! connections is left out: clients connect to it themselves, inside the host's own namespace.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
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
use crewtap_core::action::{Action, Fact, Verb};
use crewtap_core::bodies::Classified;
use crewtap_core::id::{RunId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::origin::Origin;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::{Mode, Process};
use crewtap_core::target::{Name, Proof, Target};
use crewtap_core::verdict::{Effect, Verdict};
use crewtap_tests::host::Host;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// Where clients connect to.
pub const PORT: u16 = 6580;

/// Questions that wait for a test: far more than one asks.
const QUESTIONS_MAX: usize = 64;

/// A request that waits, and the way to answer it.
pub struct Question {
    pub verb: Verb,
    pub clear: Vec<u8>,
    pub shown: String,
    pub answer: watch::Sender<Option<bool>>,
}

/// Judged actions that wait for a test.
const JUDGED_MAX: usize = 256;

type Rule = Box<dyn Fn(&Action) -> Effect + Send + Sync>;
type Open = Arc<Mutex<HashMap<Vec<u8>, watch::Receiver<Option<bool>>>>>;

struct Script {
    rule: Rule,
    questions: mpsc::SyncSender<Question>,
    open: Open,
    withdrawn: Arc<AtomicUsize>,
    judged: mpsc::SyncSender<Action>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

/// Counts a question that was dropped unanswered.
struct Watch {
    withdrawn: Arc<AtomicUsize>,
    settled: Arc<AtomicBool>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.withdrawn.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Judge for Script {
    fn judge(&self, question: &gate::Question<'_>) -> Verdict {
        // A test that does not listen loses what is beyond.
        let _ = self.judged.try_send(question.action.clone());
        Verdict::of((self.rule)(question.action), vec!["the-script".into()])
    }

    fn approval(&self, question: &gate::Question<'_>, _: &Verdict) -> Approval {
        let clear = question.content.clear.to_vec();
        let mut open = self.open.lock().unwrap();
        let mut answered = open.get(&clear).cloned().unwrap_or_else(|| {
            let (answer, answered) = watch::channel(None);
            let shown = String::from_utf8_lossy(&question.content.shown).into_owned();
            // A test that does not listen never approves.
            let question = Question { verb: question.action.verb, clear: clear.clone(), shown, answer };
            let _ = self.questions.try_send(question);
            answered
        });
        open.insert(clear.clone(), answered.clone());
        let settled = Arc::new(AtomicBool::new(false));
        let watch = Watch { withdrawn: self.withdrawn.clone(), settled: settled.clone() };
        let (all, left) = (self.open.clone(), settled.clone());
        let answer = async move {
            let approved = answered.wait_for(Option::is_some).await.is_ok_and(|answer| *answer == Some(true));
            watch.settled.store(true, Ordering::Relaxed);
            all.lock().unwrap().remove(&clear);
            gate::Answer { approved, why: "denied by the script: not today".into() }
        };
        let leave = Box::new(move || left.store(true, Ordering::Relaxed));
        Approval { id: "operation-1".into(), answer: Box::pin(answer), leave }
    }
}

/// What a house is like.
pub struct Plan {
    pub mode: Mode,
    pub rule: Rule,
    pub catalog: String,
    pub holding: Holding,
    pub name: Option<Name>,
}

impl Plan {
    pub fn new(rule: impl Fn(&Action) -> Effect + Send + Sync + 'static) -> Self {
        let name = Some(Name { host: "api.test".into(), proof: Proof::Dns });
        let holding = Holding::default();
        Self { mode: Mode::Enforce, rule: Box::new(rule), catalog: String::new(), holding, name }
    }
}

/// A driver that serves until it is dropped.
pub struct Gatehouse {
    pub questions: mpsc::Receiver<Question>,
    /// What was judged, in order; the connection first.
    pub judged: mpsc::Receiver<Action>,
    withdrawn: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a rule says of requests whose path has a word.
pub fn by_word(action: &Action) -> Effect {
    let path = fact(action, "raw_path");
    match () {
        () if path.contains("held") => Effect::Ask,
        () if path.contains("denied") => Effect::Deny,
        () => Effect::Allow,
    }
}

/// A fact as text; empty where there is none.
pub fn fact(action: &Action, name: &str) -> String {
    match action.facts.get(name) {
        Some(Fact::Text(text)) => text.clone(),
        Some(Fact::Set(set)) => set.iter().cloned().collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

impl Gatehouse {
    /// Serves for the server on a port of the host's namespace.
    pub fn start(host: &Host, server: &str, plan: Plan) -> Self {
        let (asked, questions) = mpsc::sync_channel(QUESTIONS_MAX);
        let (told, judged) = mpsc::sync_channel(JUDGED_MAX);
        let withdrawn = Arc::new(AtomicUsize::new(0));
        let judge = Arc::new(Script {
            rule: plan.rule,
            questions: asked,
            open: Open::default(),
            withdrawn: withdrawn.clone(),
            judged: told,
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (directory, beside): (PathBuf, PathBuf) = (host.data_dir(), host.path("."));
        let server: u16 = server.parse().unwrap();
        let catalog = Catalog::parse(&plan.catalog, &beside).unwrap();
        let thread = host.inside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let journal = Journal::open(&directory, &Options::default(), None).unwrap();
                let ground = Ground {
                    gate: Gate::of(judge),
                    key: journal.store_key(),
                    catalog: Arc::new(catalog),
                    waits_for_disk: false,
                    zone: Zone::default(),
                    holding: plan.holding,
                };
                let house = House::new(&journal, ground, plan.mode, (server, plan.name));
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
        Self { questions, judged, withdrawn, stop: Some(stop), thread: Some(thread) }
    }

    /// How many questions were dropped before their answer.
    pub fn withdrawn(&self) -> usize {
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// The next request that was judged.
    pub fn next_judged(&self) -> Action {
        loop {
            let action = self.judged.recv().unwrap();
            if action.verb != Verb::Connect {
                return action;
            }
        }
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
    name: Option<Name>,
}

impl House {
    fn new(journal: &Journal, ground: Ground, mode: Mode, (server, name): (u16, Option<Name>)) -> Rc<Self> {
        let netns = NetworkNamespace::current().unwrap();
        // Its listeners are not served: the ports only say what must not be dialled.
        let ports = Listeners::bind(&netns).unwrap().ports();
        let namespace = Arc::new(Namespace::new(netns, ports).unwrap());
        let recorder = Recorder::new(journal.clone());
        let id = RunId(Ulid::generate());
        let run = Run::new(id, 1, Identity::unknown(), mode, namespace, recorder);
        Rc::new(Self { run: Arc::new(run), ground: Arc::new(ground), server, name })
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
                    protocol: "http".into(),
                    driver: "http".into(),
                    target: Target { address: destination, name: house.name.clone() },
                    sni: None,
                    alpn: Vec::new(),
                };
                session.record(classified.clone()).unwrap();
                let permit = session.ask_connect(&classified).await.unwrap();
                let target = session.dial(&permit).await.unwrap();
                let (client, target) = (Leg::new(client), Leg::new(target));
                let first = First::default();
                let legs = Legs { client, target, first, classified, tls: None, permit };
                let end = (proto::driver("http").serve)(&session, legs).await;
                session.close(end.outcome, end.error);
            });
        }
    }
}
