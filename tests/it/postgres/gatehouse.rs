//! The real PostgreSQL driver between a real client and a real server, with a gate whose verdicts a test writes.

use std::fmt;
use std::sync::{Arc, mpsc};

use crewtap::gate::{self, Approval, Judge};
use crewtap::session::Holding;
use crewtap_core::action::{Action, Fact};
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::run::Mode;
use crewtap_core::verdict::{Effect, Verdict};
use crewtap_tests::host::Host;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::house::{House, Site};

/// Where clients connect to.
pub const PORT: u16 = 6543;

/// Questions that wait for a test: far more than one asks.
const QUESTIONS_MAX: usize = 64;

/// A statement that waits, and the way to answer it.
pub struct Question {
    pub text: String,
    /// What its approver sees.
    pub shown: String,
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
        let shown = String::from_utf8_lossy(&question.content.unwrap().shown).into_owned();
        let _ = self.questions.try_send(Question { text: text(question.action), shown, answer });
        Approval::of(async {
            let approved = answered.await.unwrap_or(false);
            gate::Answer { approved, why: "the script said so".into() }
        })
    }
}

/// A driver that serves until it is dropped.
pub struct Gatehouse {
    pub questions: mpsc::Receiver<Question>,
    house: House,
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
        let (catalog, holding) = (Catalog::default(), Holding::default());
        let site = Site { port: PORT, server, protocol: "postgres", mode: Mode::Enforce, name: None, catalog, holding };
        Self { questions, house: House::open(host, site, judge) }
    }

    /// Ends, and tells the recorded exchanges in the order of their sessions and numbers.
    pub fn exchanges(self, host: &Host) -> Vec<Value> {
        self.house.exchanges(host)
    }
}
