//! What commands, shells and forwards come to in the neutral set of events.
//!
//! Values only. Never decides and never records.

use std::collections::BTreeSet;

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::bodies::{Part, Request, Response};
use crewtap_core::limits::FACT_TEXT_MAX;
use crewtap_core::wire::ssh::words::{ANYTHING, words};
use russh::Sig;

use super::queue::{Start, Terminal};
use crate::gate::Content;

/// What stands for a text that policies cannot see whole.
const UNPARSED: &str = "UNPARSED";

/// Bytes of a command that are its line in a list.
const SUBJECT_BYTES_MAX: usize = 1024;

/// What is asked for on a channel.
pub(super) struct Asked {
    pub(super) action: Action,
    verb: &'static str,
    /// What would run.
    text: Vec<u8>,
    /// What else makes a difference to it, in lines: who, in which terminal, with which variables.
    around: String,
}

impl Asked {
    /// A command, a shell or a subsystem.
    pub(super) fn start(start: &Start, terminal: Option<&Terminal>, (user, variables): (&str, &str)) -> Self {
        let (verb, policy, text) = match start {
            Start::Exec(command) => ("EXEC", Verb::Exec, command.clone()),
            Start::Shell => ("SHELL", Verb::Shell, Vec::new()),
            // A program behind a name that the server chooses.
            Start::Subsystem(name) => ("SUBSYSTEM", Verb::Exec, format!("subsystem:{name}").into_bytes()),
        };
        let mut facts = Facts::from([("user".to_owned(), Fact::Text(user.to_owned()))]);
        if policy == Verb::Exec {
            let (command, argv) = match std::str::from_utf8(&text) {
                Ok(command) if text.len() <= FACT_TEXT_MAX => (command.to_owned(), words(&text)),
                _ => (UNPARSED.to_owned(), BTreeSet::from([ANYTHING.to_owned()])),
            };
            facts.insert("command".into(), Fact::Text(command));
            facts.insert("argv".into(), Fact::Set(argv));
        }
        let around = format!("user {user}\nterminal {}\n{variables}", terminal.is_some());
        if let Some(terminal) = terminal {
            let size = format!("{} {}x{}", terminal.term, terminal.size.columns, terminal.size.rows);
            facts.insert("terminal".into(), Fact::Text(size));
        }
        let subject = if text.is_empty() { format!("a shell as {user}") } else { one_line(&text) };
        Self { action: Action { verb: policy, subject, facts }, verb, text, around }
    }

    /// A connection through the other host, to `host` and `port`; `verb`: how it comes about.
    pub(super) fn forward(verb: &'static str, host: &str, port: u32, user: &str) -> Self {
        let (whole, host) = (host, one_line(host.as_bytes()));
        let label = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let facts = Facts::from([
            ("user".to_owned(), Fact::Text(user.to_owned())),
            // Too long for a name is none that a policy could mean.
            (
                "to_host".to_owned(),
                Fact::Text(if whole.len() > SUBJECT_BYTES_MAX { UNPARSED.to_owned() } else { whole.to_owned() }),
            ),
            ("to_port".to_owned(), Fact::Int(port.into())),
        ]);
        let text = format!("{verb} {port} {whole}").into_bytes();
        let around = format!("user {user}\n");
        Self { action: Action { verb: Verb::Forward, subject: label, facts }, verb, text, around }
    }

    /// For the record, with its payload: the text in lines of its own, before what the client types.
    pub(super) fn request(&self) -> (Request, Vec<u8>) {
        let mut payload = self.text.clone();
        payload.push(b'\n');
        let part = Part {
            name: "command".into(),
            media_type: "text/plain; charset=utf-8".into(),
            len: payload.len() as u64,
            coding: None,
            follows: false,
        };
        let request = Request {
            verb: self.verb.into(),
            subject: self.action.subject.clone(),
            facts: self.action.facts.clone(),
            parts: vec![part],
            ..Request::default()
        };
        (request, payload)
    }

    /// What a human would look at.
    pub(super) fn content(&self) -> Content<'_> {
        let clear = [&self.text, b"\0".as_slice(), self.around.as_bytes()].concat();
        let shown = [&self.text, b"\n\n".as_slice(), self.around.as_bytes()].concat();
        Content { clear: clear.into(), shown: shown.into(), media_type: "text/plain".into() }
    }
}

/// How a command ended, or why nobody knows.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Status(u32),
    Signal(Sig, bool),
    /// It could not be started there.
    Failed(&'static str),
    /// The target said no more of it.
    Closed,
    Blocked,
    Aborted(&'static str),
}

impl Ended {
    /// For the record.
    pub(super) fn response(&self) -> Response {
        let (outcome, code, why) = match self {
            Self::Status(0) => ("success", Some("0".to_owned()), None),
            Self::Status(status) => ("failure", Some(status.to_string()), None),
            Self::Signal(signal, core) => ("failure", Some(name(signal)), core.then_some("with a core dump")),
            Self::Failed(why) => ("failure", None, Some(*why)),
            Self::Closed => ("success", None, None),
            Self::Blocked => ("blocked", None, None),
            Self::Aborted(why) => ("aborted", None, Some(*why)),
        };
        let facts = why.map(|why| ("why".to_owned(), Fact::Text(why.into()))).into_iter().collect();
        let part =
            Part { name: "output".into(), media_type: "text/plain".into(), len: 0, coding: None, follows: false };
        Response { outcome: outcome.into(), code, facts, parts: vec![part], ..Response::default() }
    }
}

fn name(signal: &Sig) -> String {
    let name = match signal {
        Sig::Custom(name) => return format!("SIG{}", one_line(name.as_bytes())),
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
    };
    format!("SIG{name}")
}

/// A text in one line, as much of it as a list shows.
pub(super) fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..text.len().min(SUBJECT_BYTES_MAX)).unwrap_or_default());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
