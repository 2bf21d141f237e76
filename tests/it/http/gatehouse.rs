//! The real HTTP driver between a raw client and a scripted server, with a gate whose verdicts a test writes.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crewtap::gate::{self, Approval, Judge};
use crewtap::session::Holding;
use crewtap_core::action::{Action, Fact, Verb};
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::Mode;
use crewtap_core::target::{Name, Proof};
use crewtap_core::verdict::{Effect, Verdict};
use crewtap_tests::host::Host;
use serde_json::Value;
use tokio::sync::watch;

use crate::house::{House, Site};

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
        let clear = question.content.unwrap().clear.to_vec();
        let mut open = self.open.lock().unwrap();
        let mut answered = open.get(&clear).cloned().unwrap_or_else(|| {
            let (answer, answered) = watch::channel(None);
            let shown = String::from_utf8_lossy(&question.content.unwrap().shown).into_owned();
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
    house: House,
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
        let site = Site {
            port: PORT,
            server: server.parse().unwrap(),
            protocol: "http",
            mode: plan.mode,
            name: plan.name,
            catalog: Catalog::parse(&plan.catalog, &host.path(".")).unwrap(),
            holding: plan.holding,
        };
        Self { questions, judged, withdrawn, house: House::open(host, site, judge) }
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
    pub fn exchanges(self, host: &Host) -> Vec<Value> {
        self.house.exchanges(host)
    }
}
