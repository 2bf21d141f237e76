//! What commands, shells and forwards come to in the neutral set of events.
//!
//! Values only: each text in the form that policies see, and in the one that is recorded. Never decides and never records.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::bodies::{Part, Request, Response};
use crewtap_core::limits::FACT_TEXT_MAX;
use crewtap_core::mask::argv::{Redacted, redact};
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::wire::ssh::words::{ANYTHING, words};
use russh::Sig;

use super::queue::{Start, Terminal};
use crate::gate::Content;

/// What stands for a text that policies cannot see whole.
const UNPARSED: &str = "UNPARSED";

/// Bytes of a command that are its line in a list.
const SUBJECT_BYTES_MAX: usize = 1024;

/// What stands before the address at which a target listens for its client.
pub(super) const LISTEN: &str = "listen:";

/// What stands before the address that a target has accepted a connection from.
pub(super) const FROM: &str = "from:";

/// What is asked for on a channel.
pub(super) struct Asked {
    pub(super) action: Action,
    verb: &'static str,
    /// What would run.
    text: Text,
    /// What else makes a difference to it, in lines: who, in which terminal, with which variables.
    around: Text,
    /// Facts that are recorded in another form than policy sees.
    shown: Facts,
}

/// A text, and the form of it that may be written down and shown: without credentials.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    clear: Vec<u8>,
    shown: Vec<u8>,
}

impl Text {
    /// A command for a shell.
    fn command(clear: &[u8], key: &DigestKey) -> Self {
        let script = ["sh", "-c"].map(str::to_owned).into_iter().chain([String::from_utf8_lossy(clear).into_owned()]);
        let Redacted { argv, count, .. } = redact(&script.collect::<Vec<_>>(), &|value| key.digest(value));
        let hidden = argv.into_iter().next_back().filter(|_| count > 0).map(String::into_bytes);
        Self { clear: clear.to_vec(), shown: hidden.unwrap_or_else(|| clear.to_vec()) }
    }

    fn plain(clear: Vec<u8>) -> Self {
        Self { shown: clear.clone(), clear }
    }

    /// A line with a variable.
    pub(super) fn variable(name: &str, value: &str, key: &DigestKey) -> Self {
        let line = format!("{name}={value}");
        let shown = redact(std::slice::from_ref(&line), &|value| key.digest(value)).argv.concat();
        Self { clear: line.into_bytes(), shown: shown.into_bytes() }
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.shown)
    }

    /// Another one behind it, as a line.
    pub(super) fn push(&mut self, line: &Self) {
        for (to, from) in [(&mut self.clear, &line.clear), (&mut self.shown, &line.shown)] {
            to.extend_from_slice(from);
            to.push(b'\n');
        }
    }

    /// Bytes that it holds.
    pub(super) fn len(&self) -> usize {
        self.clear.len() + self.shown.len()
    }
}

/// What policies see of a command: its text, and its words.
fn facts_of(command: &[u8]) -> Facts {
    let (command, argv) = match std::str::from_utf8(command) {
        Ok(text) if text.len() <= FACT_TEXT_MAX => (text.to_owned(), words(command)),
        _ => (UNPARSED.to_owned(), BTreeSet::from([ANYTHING.to_owned()])),
    };
    Facts::from([("command".to_owned(), Fact::Text(command)), ("argv".to_owned(), Fact::Set(argv))])
}

impl Asked {
    /// A command, a shell or a subsystem; `user` has set `variables`.
    pub(super) fn start(
        start: &Start,
        terminal: Option<&Terminal>,
        (user, variables): (&str, &Text),
        key: &DigestKey,
    ) -> Self {
        let (verb, policy, text) = match start {
            Start::Exec(command) => ("EXEC", Verb::Exec, Text::command(command, key)),
            Start::Shell => ("SHELL", Verb::Shell, Text::default()),
            // A program behind a name that the server chooses.
            Start::Subsystem(name) => ("SUBSYSTEM", Verb::Exec, Text::plain(format!("subsystem:{name}").into_bytes())),
        };
        let mut facts = Facts::from([("user".to_owned(), Fact::Text(user.to_owned()))]);
        let mut shown = Facts::default();
        if policy == Verb::Exec {
            facts.extend(facts_of(&text.clear));
            if text.shown != text.clear {
                shown = facts_of(&text.shown);
            }
        }
        let mut around = Text::plain(format!("user {user}\nterminal {}", terminal.is_some()).into_bytes());
        around.push(&Text::default());
        around.clear.extend_from_slice(&variables.clear);
        around.shown.extend_from_slice(&variables.shown);
        if let Some(terminal) = terminal {
            let size = format!("{} {}x{}", terminal.term, terminal.size.columns, terminal.size.rows);
            facts.insert("terminal".into(), Fact::Text(size));
        }
        let subject = if text.clear.is_empty() { format!("a shell as {user}") } else { one_line(&text.shown) };
        Self { action: Action { verb: policy, subject, facts }, verb, text, around, shown }
    }

    /// A connection through the other host, to `host` and `port`; `verb`: how it comes about. A socket in the file system has none.
    pub(super) fn forward(verb: &'static str, host: &str, port: Option<u32>, user: &str) -> Self {
        let line = one_line(host.as_bytes());
        let bare = line.trim_start_matches(LISTEN).trim_start_matches(FROM);
        let line = if bare.parse::<Ipv6Addr>().is_ok() { line.replace(bare, &format!("[{bare}]")) } else { line };
        let label = port.map(|port| format!("{line}:{port}")).unwrap_or(line);
        // Too long for a name is none that a policy could mean.
        let to_host = if host.len() > SUBJECT_BYTES_MAX { UNPARSED } else { host };
        let port = port.unwrap_or_default();
        let facts = Facts::from([
            ("user".to_owned(), Fact::Text(user.to_owned())),
            ("to_host".to_owned(), Fact::Text(to_host.to_owned())),
            ("to_port".to_owned(), Fact::Int(port.into())),
        ]);
        let text = Text::plain(format!("{verb} {port} {host}").into_bytes());
        let around = Text::plain(format!("user {user}\n").into_bytes());
        let action = Action { verb: Verb::Forward, subject: label, facts };
        Self { action, verb, text, around, shown: Facts::default() }
    }

    /// For the record, with its payload: the text in lines of its own, before what the client types.
    pub(super) fn request(&self) -> (Request, Vec<u8>) {
        let mut payload = self.text.shown.clone();
        payload.push(b'\n');
        let part = Part {
            name: "command".into(),
            media_type: "text/plain; charset=utf-8".into(),
            len: payload.len() as u64,
            coding: None,
            follows: false,
        };
        let mut facts = self.action.facts.clone();
        facts.extend(self.shown.clone());
        let subject = self.action.subject.clone();
        (Request { verb: self.verb.into(), subject, facts, parts: vec![part], ..Request::default() }, payload)
    }

    /// What a human would look at.
    pub(super) fn content(&self) -> Content<'_> {
        let clear = [&*self.text.clear, b"\0", &*self.around.clear].concat();
        let shown = [&*self.text.shown, b"\n\n", &*self.around.shown].concat();
        let (media_type, facts) = ("text/plain".into(), self.shown.clone());
        Content { clear: clear.into(), shown: shown.into(), media_type, facts }
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
