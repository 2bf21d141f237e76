//! A server that does what PostgreSQL does with names, errors and Sync, against which random pipelines are compared:
//! what the conversation says of a message must be what the server did with it.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::conversed::{bind, close, describe, execute, frames, parse, query, sync};
use super::*;
use crate::wire::postgres::conversation::Doubt;
use crate::wire::postgres::reply::frame;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Parse { name: usize, text: u8 },
    Bind { portal: usize, name: usize },
    Describe { portal: bool, name: usize },
    Execute { portal: usize },
    Close { portal: bool, name: usize },
    Sync,
    Query { text: u8 },
}

/// The last two are one for the server, which reads 63 bytes of a name.
const NAMES: [&str; 4] = [
    "",
    "a",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnx",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnny",
];

/// What a text does: fails to parse, fails to run, begins and ends a transaction, prepares a statement by SQL.
fn text(text: u8) -> &'static str {
    ["one", "syntax", "fails", "begin", "commit", "prepare a", "prepare n"][usize::from(text % 7)]
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    prop_oneof![
        3 => (name.clone(), 0..7_u8).prop_map(|(name, text)| Op::Parse { name, text }),
        4 => (name.clone(), name.clone()).prop_map(|(portal, name)| Op::Bind { portal, name }),
        1 => (any::<bool>(), name.clone()).prop_map(|(portal, name)| Op::Describe { portal, name }),
        3 => name.clone().prop_map(|portal| Op::Execute { portal }),
        1 => (any::<bool>(), name).prop_map(|(portal, name)| Op::Close { portal, name }),
        3 => Just(Op::Sync),
        1 => (0..7_u8).prop_map(|text| Op::Query { text }),
    ]
}

fn bytes(op: Op) -> Vec<u8> {
    match op {
        Op::Parse { name, text: sql } => parse(NAMES[name], text(sql)),
        Op::Bind { portal, name } => bind(NAMES[portal], NAMES[name]),
        Op::Describe { portal, name } => describe(if portal { b'P' } else { b'S' }, NAMES[name]),
        Op::Execute { portal } => execute(NAMES[portal]),
        Op::Close { portal, name } => close(if portal { b'P' } else { b'S' }, NAMES[name]),
        Op::Sync => sync(),
        Op::Query { text: sql } => query(text(sql)),
    }
}

/// What was sent: the message, which the driver may have replaced, and its exchange and text as they were told.
#[derive(Clone, Debug)]
struct Sent {
    op: Op,
    refused: bool,
    exchange: u32,
    text: Option<String>,
}

#[derive(Default)]
struct Model {
    statements: HashMap<String, String>,
    portals: HashMap<String, String>,
    open: bool,
    failed: bool,
    skipping: bool,
    inbox: VecDeque<Sent>,
    /// Answers that are kept back, and the exchange that each belongs to.
    kept: VecDeque<(Vec<u8>, u32)>,
    out: VecDeque<(Vec<u8>, u32)>,
    known: usize,
}

fn key(name: usize) -> String {
    NAMES[name].chars().take(63).collect()
}

impl Model {
    fn status(&self) -> &'static [u8] {
        if self.failed {
            b"E"
        } else if self.open {
            b"T"
        } else {
            b"I"
        }
    }

    fn ready(&mut self, exchange: u32) {
        if !self.open {
            self.portals.clear();
        }
        let status = self.status();
        self.kept.push_back((frame(b'Z', |body| body.extend_from_slice(status)), exchange));
        self.flush();
    }

    fn flush(&mut self) {
        self.out.append(&mut self.kept);
    }

    /// Runs a text; false where it fails.
    fn run(&mut self, text: &str) -> bool {
        match text {
            "commit" => (self.open, self.failed) = (false, false),
            _ if self.failed => return false,
            "fails" | "syntax" => return false,
            "begin" => self.open = true,
            "prepare a" => drop(self.statements.insert(key(1), "by sql".into())),
            "prepare n" => drop(self.statements.insert(key(2), "by sql".into())),
            _ => {}
        }
        true
    }

    fn fail(&mut self, exchange: u32) {
        self.failed = self.open;
        self.kept.push_back((frame(b'E', |body| body.extend_from_slice(b"SERROR\0C42000\0\0")), exchange));
        self.flush();
    }

    /// Does one message.
    fn work(&mut self, sent: &Sent) {
        let Sent { op, exchange, refused, .. } = *sent;
        if op == Op::Sync {
            self.skipping = false;
            return self.ready(0);
        }
        if self.skipping {
            return;
        }
        if let Op::Query { text: sql } = op {
            self.statements.remove("");
            self.portals.remove("");
            if !refused && self.run(text(sql)) {
                self.kept.push_back((frame(b'C', |body| body.extend_from_slice(b"DONE\0")), exchange));
            } else {
                self.fail(exchange);
            }
            return self.ready(exchange);
        }
        let answers: Option<&[u8]> = match op {
            _ if refused => None,
            Op::Parse { name, text: sql } => {
                let sql = text(sql);
                let taken = !NAMES[name].is_empty() && self.statements.contains_key(&key(name));
                if NAMES[name].is_empty() {
                    self.statements.remove("");
                }
                let fine = !taken && sql != "syntax" && (!self.failed || sql == "commit");
                fine.then(|| drop(self.statements.insert(key(name), sql.into()))).map(|()| &b"1"[..])
            }
            Op::Bind { portal, name } => self.bind(sent, portal, name).then_some(b"2"),
            Op::Describe { portal: true, name } => self.portals.contains_key(&key(name)).then_some(b"n"),
            Op::Describe { portal: false, name } => self.statements.contains_key(&key(name)).then_some(b"tn"),
            Op::Execute { portal } => {
                let sql = self.portals.get(&key(portal)).cloned();
                sql.is_some_and(|sql| self.run(&sql)).then_some(b"C")
            }
            Op::Close { portal, name } => {
                let key = key(name);
                drop(if portal { self.portals.remove(&key) } else { self.statements.remove(&key) });
                Some(b"3")
            }
            Op::Sync | Op::Query { .. } => unreachable!(),
        };
        for tag in answers.unwrap_or_default() {
            let body: &[u8] = match tag {
                b't' => &[0, 0],
                b'C' => b"DONE\0",
                _ => b"",
            };
            self.kept.push_back((frame(*tag, |to| to.extend_from_slice(body)), exchange));
        }
        if answers.is_none() {
            self.fail(exchange);
            self.skipping = true;
        }
    }

    fn bind(&mut self, sent: &Sent, portal: usize, name: usize) -> bool {
        let Some(sql) = self.statements.get(&key(name)).cloned() else { return false };
        if self.failed && sql != "commit" {
            return false;
        }
        // What was said of it when it was judged.
        assert!(sent.text.as_ref().is_none_or(|text| *text == sql), "{sent:?} ran {sql:?}");
        self.known += usize::from(sent.text.is_some());
        if !NAMES[portal].is_empty() && self.portals.contains_key(&key(portal)) {
            return false;
        }
        self.portals.insert(key(portal), sql);
        true
    }
}

/// Takes the client's next message through the conversation; false where it must wait.
fn say(conversation: &mut Conversation, model: &mut Model, op: Op, refuse: bool) -> bool {
    let bytes = bytes(op);
    let (exchange, told) = match conversation.next(Client, &bytes).unwrap() {
        Step::Wait => return false,
        Step::Request { exchange, request, len } => {
            assert_eq!(len, bytes.len());
            match request {
                Request::Bind { statement, .. } => {
                    let text = statement.and_then(|statement| statement.text().map(<[u8]>::to_vec));
                    (exchange, text.map(|text| String::from_utf8(text).unwrap()))
                }
                _ => (exchange, None),
            }
        }
        other => panic!("{other:?}"),
    };
    let refused = refuse && matches!(op, Op::Parse { .. } | Op::Bind { .. } | Op::Query { .. });
    // What the driver does: refuse, or doubt what makes names or is not known.
    let doubtful = match op {
        Op::Query { text: sql } => text(sql).starts_with("prepare"),
        Op::Bind { .. } => told.as_ref().is_none_or(|text| text.starts_with("prepare")),
        _ => false,
    };
    if refused {
        conversation.refuse_last();
    } else if doubtful {
        conversation.doubt_names(Doubt::All);
    }
    while let Step::Skipped { .. } = conversation.next(Client, b"").unwrap() {}
    model.inbox.push_back(Sent { op, refused, exchange, text: told });
    true
}

/// Lets the server do `count` messages, and gives what it sends to the conversation.
fn serve(conversation: &mut Conversation, model: &mut Model, count: usize) -> bool {
    for _ in 0..count {
        let Some(sent) = model.inbox.pop_front() else { break };
        model.work(&sent);
    }
    let moved = !model.out.is_empty();
    while let Some((bytes, expected)) = model.out.pop_front() {
        loop {
            match conversation.next(Server, &bytes).unwrap() {
                Step::Answer { exchange, len, .. } => {
                    assert_eq!((exchange, len), (expected, bytes.len()), "{:?}", frames(&bytes));
                    break;
                }
                Step::Skipped { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        while let Step::Skipped { .. } = conversation.next(Server, b"").unwrap() {}
    }
    moved
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn what_is_said_of_a_message_is_what_the_server_does_with_it(
        ops in proptest::collection::vec((op(), proptest::bool::weighted(0.1), 0..4_usize), 1..60)
    ) {
        let (mut conversation, mut model) = (Conversation::after_ready(), Model::default());
        for (op, refuse, count) in ops {
            while !say(&mut conversation, &mut model, op, refuse) {
                let before = model.inbox.len();
                let moved = serve(&mut conversation, &mut model, 1);
                prop_assert!(moved || before > 0, "client and server wait for each other");
            }
            serve(&mut conversation, &mut model, count);
        }
        prop_assert!(say(&mut conversation, &mut model, Op::Sync, false));
        serve(&mut conversation, &mut model, usize::MAX);
        prop_assert!(conversation.is_idle(), "answers are owed: {conversation:?}");
        prop_assert_eq!(conversation.end(Server).unanswered, Vec::<u32>::new());
    }
}
