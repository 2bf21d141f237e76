//! What operations on files come to in the record, and which files are open.
//!
//! Owns an exchange for each file that is read, written or listed, from its opening to its closing, and one for each other
//! operation. Never decides.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::bodies::{Chunk, Part, Request as Asked, Response};
use crewtap_core::event::Body;
use crewtap_core::limits::{SFTP_CONTENT_BYTES, SFTP_OPEN_MAX};
use crewtap_core::mask::digest::Digest;
use crewtap_core::session::Side;
use crewtap_core::view::hexadecimal;
use crewtap_core::wire::ssh::sftp::{self, Answer, Fault, Request, normal};

use super::super::channel::Lane;
use super::super::told::one_line;
use crate::gate::Content;
use crate::recorder::{Told, Unrecorded};

/// What is asked of policy for an operation: all of it must be allowed.
pub(super) struct Question {
    pub(super) n: u32,
    pub(super) actions: Vec<Action>,
    pub(super) content: Content<'static>,
}

/// What becomes of a request.
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub(super) enum Course {
    /// It is on record, and may be asked for.
    Asked(Option<Question>),
    /// It is for a handle that nobody was given: it goes nowhere.
    NoSuchHandle,
    /// It cannot be told apart from another one.
    Broken(Fault),
}

/// A file or a directory that is open.
struct Open {
    n: u32,
    /// Bytes that were read, and written.
    bytes: [Cell<u64>; 2],
    /// Of each direction's content as far as it came in order.
    digests: [RefCell<Option<Digest>>; 2],
    names: Cell<u64>,
    /// Content did not come in the file's order.
    jumps: Cell<bool>,
}

/// What a request waits for.
enum Pending {
    Opening(Box<Open>),
    Reading {
        handle: Vec<u8>,
        offset: u64,
    },
    Listing(Vec<u8>),
    Closing(Vec<u8>),
    Single(u32),
    Home(u32),
    /// Something of an open file that is told beside its content.
    OfFile(Vec<u8>),
    Nothing,
}

impl Pending {
    /// The exchange that ends with the answer.
    fn exchange(&self) -> Option<u32> {
        match self {
            Self::Opening(open) => Some(open.n),
            Self::Single(n) | Self::Home(n) => Some(*n),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Files<'l, 'c> {
    lane: &'l Lane<'c>,
    /// Content of one file that is recorded each way, in bytes.
    content_max: usize,
    open: RefCell<HashMap<Vec<u8>, Open>>,
    pending: RefCell<HashMap<u32, Pending>>,
    /// Where relative paths begin, as the target has said.
    home: RefCell<Option<Vec<u8>>>,
    /// The client has begun, and the target has told its version.
    greeted: [Cell<bool>; 2],
}

impl<'l, 'c> Files<'l, 'c> {
    pub(super) fn new(lane: &'l Lane<'c>) -> Self {
        let ssh = lane.conversation.session.ground().ssh.as_ref();
        Self {
            lane,
            content_max: ssh.map_or(SFTP_CONTENT_BYTES, |faces| faces.content_max),
            open: RefCell::default(),
            pending: RefCell::default(),
            home: RefCell::default(),
            greeted: Default::default(),
        }
    }

    /// Whether a request can be told apart from what came before, and is for something that is open.
    fn course(&self, id: u32, request: &Request<'_>) -> Option<Course> {
        let [begun, answered] = &self.greeted;
        if *request == Request::Init {
            return begun.replace(true).then_some(Course::Broken(Fault::Order));
        }
        let (pending, open) = (self.pending.borrow(), self.open.borrow());
        let is_crowded = pending.len() >= SFTP_OPEN_MAX || open.len() + pending.len() >= 2 * SFTP_OPEN_MAX;
        if !answered.get() || is_crowded || pending.contains_key(&id) {
            return Some(Course::Broken(Fault::Order));
        }
        let (Request::Read { handle, .. }
        | Request::Write { handle, .. }
        | Request::OfHandle { handle, .. }
        | Request::Close(handle)
        | Request::ReadDirectory(handle)) = request
        else {
            return None;
        };
        (!open.contains_key(*handle)).then_some(Course::NoSuchHandle)
    }

    /// Puts a request on record; what must be asked for it, where it touches a file by its path.
    pub(super) fn request(&self, id: u32, request: &Request<'_>) -> Result<Course, Unrecorded> {
        if let Some(course) = self.course(id, request) {
            return Ok(course);
        }
        let (pending, question) = match request {
            Request::Open { path, reads, writes, attributes } => {
                let verbs: &[Verb] = match (reads, writes) {
                    (true, true) => &[Verb::WriteFile, Verb::ReadFile],
                    (_, true) => &[Verb::WriteFile],
                    _ => &[Verb::ReadFile],
                };
                let verb = if *writes { "WRITE_FILE" } else { "READ_FILE" };
                let question = self.ask(verb, verbs, &[path], (attributes, &sftp::flags_in_words(attributes)))?;
                (Pending::Opening(Box::new(self.begin(question.n))), Some(question))
            }
            Request::OpenDirectory(path) => {
                let question = self.ask("LIST", &[Verb::ReadFile], &[path], (b"", ""))?;
                (Pending::Opening(Box::new(self.begin(question.n))), Some(question))
            }
            Request::OfPath { verb, path, other, attributes, writes } => {
                let policy = if *writes { Verb::WriteFile } else { Verb::ReadFile };
                let paths: Vec<&[u8]> = std::iter::once(*path).chain(*other).collect();
                let words = sftp::attributes_in_words(attributes);
                let question = self.ask(verb, &[policy], &paths, (attributes, &words))?;
                (Pending::Single(question.n), Some(question))
            }
            Request::Unknown { name, attributes } => {
                let verb = format!("SFTP {}", one_line(name));
                let all = (*attributes, &*hexadecimal(attributes));
                let question = self.ask(&verb, &[Verb::WriteFile, Verb::ReadFile], &[b"\xff"], all)?;
                (Pending::Single(question.n), Some(question))
            }
            Request::Read { handle, offset } => (Pending::Reading { handle: handle.to_vec(), offset: *offset }, None),
            Request::Write { handle, offset, data } => {
                self.moved(handle, Side::Client, *offset, data)?;
                (Pending::Nothing, None)
            }
            Request::ReadDirectory(handle) => (Pending::Listing(handle.to_vec()), None),
            Request::Close(handle) => (Pending::Closing(handle.to_vec()), None),
            Request::OfHandle { verb, handle, writes, attributes } => {
                if *writes {
                    self.changed(verb, handle, attributes)?;
                }
                (Pending::OfFile(handle.to_vec()), None)
            }
            Request::Resolve(path) => {
                // Recorded, and not asked for: every client asks where it is before anything else.
                let n = self.ask("RESOLVE", &[], &[path], (b"", ""))?.n;
                let is_home = *path == b"." || path.is_empty();
                (if is_home { Pending::Home(n) } else { Pending::Single(n) }, None)
            }
            Request::Harmless => (Pending::Single(self.ask("SERVER", &[], &[b"what it can do"], (b"", ""))?.n), None),
            Request::Init => return Ok(Course::Asked(None)),
        };
        self.pending.borrow_mut().insert(id, pending);
        Ok(Course::Asked(question))
    }

    /// A request goes nowhere.
    pub(super) fn refused(&self, id: u32) -> Result<(), Unrecorded> {
        match self.pending.borrow_mut().remove(&id) {
            Some(pending @ (Pending::Opening(_) | Pending::Single(_))) => {
                let Some(n) = pending.exchange() else { return Ok(()) };
                self.end_of(n, "blocked", None, Facts::new())
            }
            _ => Ok(()),
        }
    }

    /// Puts an answer on record; `packet` is all of it. Why it may not go on, where nobody has asked for it.
    pub(super) fn answer(&self, id: u32, answer: &Answer<'_>, packet: &[u8]) -> Result<Result<(), Fault>, Unrecorded> {
        if *answer == Answer::Version {
            let [_, answered] = &self.greeted;
            return Ok(if answered.replace(true) { Err(Fault::Order) } else { Ok(()) });
        }
        let Some(pending) = self.pending.borrow_mut().remove(&id) else { return Ok(Err(Fault::Order)) };
        self.answered(pending, answer, packet.get(9..).unwrap_or_default()).map(Ok)
    }

    fn answered(&self, pending: Pending, answer: &Answer<'_>, said: &[u8]) -> Result<(), Unrecorded> {
        match (pending, answer) {
            (Pending::Opening(open), Answer::Handle(handle)) => {
                let before = self.open.borrow_mut().insert(handle.to_vec(), *open);
                before.map_or(Ok(()), |before| self.close(&before, "aborted"))
            }
            (pending @ (Pending::Opening(_) | Pending::Single(_)), Answer::Status { code, message }) => {
                let Some(n) = pending.exchange() else { return Ok(()) };
                let facts = Facts::from([("message".to_owned(), Fact::Text(one_line(message)))]);
                let outcome = if *code == sftp::OK { "success" } else { "failure" };
                self.end_of(n, outcome, Some(*code), facts)
            }
            (Pending::Single(n), _) => {
                self.said(n, said)?;
                self.end_of(n, "success", Some(sftp::OK), Facts::new())
            }
            (Pending::Home(n), _) => {
                if let Answer::Names(names) = answer
                    && let Some((name, _)) = names.first()
                {
                    self.home.replace(Some(name.to_vec()));
                }
                self.said(n, said)?;
                self.end_of(n, "success", None, Facts::new())
            }
            (Pending::OfFile(handle), _) => {
                let n = self.open.borrow().get(&handle).map(|open| open.n);
                n.map_or(Ok(()), |n| self.said(n, said))
            }
            (Pending::Reading { handle, offset }, Answer::Data(data)) => {
                self.moved(&handle, Side::Server, offset, data)
            }
            (Pending::Listing(handle), Answer::Names(names)) => self.listed(&handle, names),
            (Pending::Closing(handle), _) => {
                let closed = self.open.borrow_mut().remove(&handle);
                closed.map_or(Ok(()), |open| self.close(&open, "success"))
            }
            _ => Ok(()),
        }
    }

    /// The channel is over: what is still open was cut.
    pub(super) fn end(&self) -> Result<(), Unrecorded> {
        let open = std::mem::take(&mut *self.open.borrow_mut());
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        for open in open.values() {
            self.close(open, "aborted")?;
        }
        for pending in pending.values() {
            if let Some(n) = pending.exchange() {
                self.end_of(n, "aborted", None, Facts::new())?;
            }
        }
        Ok(())
    }

    fn begin(&self, n: u32) -> Open {
        let key = self.lane.conversation.session.digest_key();
        let digest = || RefCell::new(Some(key.begin()));
        Open {
            n,
            bytes: Default::default(),
            digests: [digest(), digest()],
            names: Cell::new(0),
            jumps: Cell::new(false),
        }
    }

    /// An operation by its path: its exchange, and what must be asked for it.
    /// `attributes`: what else it says, as it is and in words.
    fn ask(
        &self,
        verb: &str,
        verbs: &[Verb],
        paths: &[&[u8]],
        (attributes, words): (&[u8], &str),
    ) -> Result<Question, Unrecorded> {
        let conversation = self.lane.conversation;
        let home = self.home.borrow();
        let normal = |path: &[u8]| normal(path, home.as_deref());
        let n = conversation.next();
        let raw: Vec<String> = paths.iter().map(|path| one_line(path)).collect();
        let subject = raw.join(" to ");
        let facts = |path: &[u8]| {
            Facts::from([
                ("path".to_owned(), Fact::Text(normal(path))),
                ("user".to_owned(), Fact::Text(conversation.user.clone())),
            ])
        };
        let request = Asked {
            verb: verb.to_owned(),
            subject: subject.clone(),
            facts: facts(paths.first().copied().unwrap_or_default()),
            ..Asked::default()
        };
        // All of it, whatever a line shows: paths whole, and what else makes a difference.
        let escaped = paths.iter().map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>().join("\n");
        let shown = format!("{verb}\n{escaped}\n{words}\n").into_bytes();
        let part = Part {
            name: "operation".into(),
            media_type: "text/plain".into(),
            len: shown.len() as u64,
            coding: None,
            follows: false,
        };
        let request = Asked { parts: vec![part], ..request };
        self.tell(n, Side::Client, shown.len(), request, &shown)?;
        let action = |verb: Verb, path: &[u8]| Action { verb, subject: subject.clone(), facts: facts(path) };
        let actions = verbs.iter().flat_map(|verb| paths.iter().map(|path| action(*verb, path))).collect();
        // The clear bytes tell operation and paths apart, whatever stands in them.
        let parts = [verb.as_bytes()].into_iter().chain(paths.iter().copied()).chain([attributes]);
        let clear = parts.collect::<Vec<_>>().join(&0u8);
        let media_type = "text/plain".into();
        let content = Content { clear: clear.into(), shown: shown.into(), media_type, ..Content::default() };
        Ok(Question { n, actions, content })
    }

    /// Content that passes: the first of it is recorded, of all of it length and digest are.
    fn moved(&self, handle: &[u8], side: Side, offset: u64, data: &[u8]) -> Result<(), Unrecorded> {
        let open = self.open.borrow();
        let Some(Open { n, bytes, digests, jumps, .. }) = open.get(handle) else { return Ok(()) };
        let at = usize::from(side == Side::Client);
        let (Some(bytes), Some(digest)) = (bytes.get(at), digests.get(at)) else { return Ok(()) };
        if let Some(digest) = &mut *digest.borrow_mut() {
            if offset != bytes.get() {
                // Not in the file's order: then the places are part of what the digest is of.
                digest.update(&offset.to_be_bytes());
                jumps.set(true);
            }
            digest.update(data);
        }
        // As much of it as has passed, wherever in the file it is put.
        let room = self.content_max.saturating_sub(usize::try_from(bytes.get()).unwrap_or(usize::MAX));
        bytes.set(bytes.get() + data.len() as u64);
        let kept = data.get(..room.min(data.len())).unwrap_or_default();
        let wire = (kept.len() < data.len()).then_some(data.len() as u64);
        let chunk = Chunk { part: Some("content".into()), wire, ..Chunk::new(side, offset) };
        self.tell(*n, side, data.len(), chunk, kept)
    }

    fn listed(&self, handle: &[u8], names: &[(&[u8], &[u8])]) -> Result<(), Unrecorded> {
        let open = self.open.borrow();
        let Some(Open { n, names: count, bytes: [bytes, _], .. }) = open.get(handle) else { return Ok(()) };
        let mut lines = Vec::new();
        for (name, line) in names {
            lines.extend_from_slice(if line.is_empty() { name } else { line });
            lines.push(b'\n');
        }
        count.set(count.get() + names.len() as u64);
        let offset = bytes.replace(bytes.get() + lines.len() as u64);
        let chunk = Chunk { part: Some("names".into()), ..Chunk::new(Side::Server, offset) };
        self.tell(*n, Side::Server, lines.len(), chunk, &lines)
    }

    /// An open file gets other attributes.
    fn changed(&self, verb: &str, handle: &[u8], attributes: &[u8]) -> Result<(), Unrecorded> {
        let open = self.open.borrow();
        let Some(Open { n, .. }) = open.get(handle) else { return Ok(()) };
        let words = sftp::attributes_in_words(attributes);
        let text = format!("the client changes the file's attributes ({verb}): {words}");
        self.tell(*n, Side::Client, 0, crewtap_core::bodies::Note { code: "sftp_attributes".into(), text }, b"")
    }

    fn close(&self, open: &Open, outcome: &str) -> Result<(), Unrecorded> {
        let mut facts = Facts::new();
        let names = open.names.get();
        for ((way, bytes), digest) in ["read", "written"].into_iter().zip(&open.bytes).zip(&open.digests) {
            if bytes.get() == 0 || names > 0 {
                continue;
            }
            facts.insert(format!("bytes_{way}"), Fact::Int(i64::try_from(bytes.get()).unwrap_or(i64::MAX)));
            let digest = digest.take().map(Digest::finish).unwrap_or_default();
            let of = if open.jumps.get() { "digest_as_sent" } else { "digest" };
            facts.insert(format!("{of}_{way}"), Fact::Text(digest));
        }
        self.finish(open)?;
        let response =
            Response { count: (names > 0).then_some(names), ..self.response(outcome, Some(sftp::OK), facts) };
        self.tell(open.n, Side::Server, 0, response, b"")
    }

    /// Nothing more comes of its content: what masks had not decided is decided now.
    fn finish(&self, open: &Open) -> Result<(), Unrecorded> {
        let [up, down] = [Side::Client, Side::Server];
        let [read, written] = &open.bytes;
        for (side, bytes) in [(up, written), (down, read)] {
            if bytes.get() > 0 {
                let part = if side == down && open.names.get() > 0 { "names" } else { "content" };
                let chunk = Chunk { part: Some(part.into()), end: true, ..Chunk::new(side, bytes.get()) };
                self.tell(open.n, side, 0, chunk, b"")?;
            }
        }
        Ok(())
    }

    /// What an answer says besides how it went.
    fn said(&self, n: u32, said: &[u8]) -> Result<(), Unrecorded> {
        let chunk = Chunk { part: Some("answer".into()), end: true, ..Chunk::new(Side::Server, 0) };
        self.tell(n, Side::Server, said.len(), chunk, said)
    }

    fn end_of(&self, n: u32, outcome: &str, code: Option<u32>, facts: Facts) -> Result<(), Unrecorded> {
        self.tell(n, Side::Server, 0, self.response(outcome, code, facts), b"")
    }

    #[allow(clippy::unused_self, reason = "it belongs to the record of files")]
    fn response(&self, outcome: &str, code: Option<u32>, facts: Facts) -> Response {
        let part = Part { name: "content".into(), media_type: String::new(), len: 0, coding: None, follows: false };
        let code = code.map(|code| code.to_string());
        Response { outcome: outcome.into(), code, facts, parts: vec![part], ..Response::default() }
    }

    fn tell(&self, n: u32, side: Side, wire: usize, body: impl Into<Body>, payload: &[u8]) -> Result<(), Unrecorded> {
        let told = Told { exchange: Some(n), body: body.into(), payload: Cow::Borrowed(payload) };
        self.lane.conversation.session.record_burst(side, wire, vec![told]).map(drop)
    }
}
