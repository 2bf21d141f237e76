//! The tap behind a log-in: statements are judged and recorded before they go, answers as they pass.
//!
//! Bytes are forwarded as they came, but for four things: a refused statement, in whose place one goes that fails; its error,
//! in whose place ours comes; the cancel key; and values that masks hide from the client. Never holds a row, and never decides what a statement does.

use std::borrow::Cow;
use std::collections::HashMap;

use crewtap_core::bodies::Note;
use crewtap_core::mask::outgoing::Outgoing;
use crewtap_core::run::Mode;
use crewtap_core::secret::Secret;
use crewtap_core::session::Side;
use crewtap_core::target::Target;
use crewtap_core::verdict::Effect;
use crewtap_core::wire::postgres::reply::{self, Complaint};
use crewtap_core::wire::postgres::{Conversation, Fault, MEDIA_TYPE, Request, Statement, Step};

use super::burst::Burst;
use super::exchange::Exchange;
use super::held::{self, Held, Refused};
use super::login::{self, LoggedIn};
use super::told::{Asked, Described, Teller, copied, parameters};
use crate::cancels::Issued;
use crate::gate::Passage;
use crate::leg::Farewell;
use crate::recorder::Told;
use crate::redacted::Redacted;
use crate::relay::{Blocked, Decision, Next, Taken, Tap};
use crate::session::Session;

/// The tap of one session.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most pairs of them occur")]
pub(super) struct Statements<'s> {
    pub(super) session: &'s Session,
    pub(super) target: Target,
    pub(super) teller: Teller,
    pub(super) conversation: Conversation,
    /// Those that have begun and whose outcome may still change, by their numbers on record.
    pub(super) exchanges: HashMap<u32, Exchange>,
    /// The exchange that the newest bytes of each side belong to: client, server.
    pub(super) newest: [u32; 2],
    /// Before the first `ReadyForQuery`.
    pub(super) entering: bool,
    /// What the client calls itself.
    pub(super) application_name: Vec<u8>,
    pub(super) issued: Option<Issued>,
    /// A statement that waits for a human.
    pub(super) held: Option<Held>,
    /// Refused ones whose errors have not come, by their numbers on record.
    pub(super) refused: HashMap<u32, Refused>,
    /// The message that is told in pieces was refused: its pieces go nowhere.
    swallows: bool,
    server_ended: bool,
    /// The session speaks the replication protocol once its server is ready.
    pub(super) replicates: bool,
    /// From now on bytes are relayed as they are.
    pub(super) opaque: Option<Redacted<'s>>,
    /// What the target says, where masks hide values from the client.
    pub(super) outgoing: Option<Outgoing>,
    /// Masks look for names of columns.
    pub(super) masks_columns: bool,
}

impl<'s> Statements<'s> {
    pub(super) fn new(session: &'s Session, target: Target, teller: Teller, entered: &LoggedIn) -> Self {
        Self {
            session,
            target,
            teller,
            conversation: Conversation::new(),
            exchanges: HashMap::from([(login::EXCHANGE, Exchange::settled())]),
            newest: [login::EXCHANGE; 2],
            entering: true,
            application_name: entered.application_name.clone(),
            issued: None,
            held: None,
            refused: HashMap::new(),
            swallows: false,
            server_ended: false,
            replicates: entered.replicates,
            opaque: None,
            masks_columns: session.masks_columns(),
            outgoing: session.wire_plan().map(|plan| session.outgoing(&plan, MEDIA_TYPE)),
        }
    }

    /// The log-in was the first exchange. What belongs to none, belongs to what came before it.
    pub(super) fn numbered(&self, side: Side, exchange: u32) -> u32 {
        let [client, server] = self.newest;
        match (exchange, side) {
            (0, Side::Client) => client,
            (0, Side::Server) => server,
            (exchange, _) => exchange + login::EXCHANGE,
        }
    }

    /// Records what cannot be understood, and goes on without understanding, or not at all.
    fn lost(&mut self, fault: Fault) -> Result<(), Blocked> {
        let enforced = self.session.mode() == Mode::Enforce;
        let then = if enforced { "the session ends" } else { "the bytes are relayed and recorded as they are" };
        let text = format!("{fault}: {then}");
        self.session.record(Note { code: format!("postgres_{}", fault.code()), text: text.clone() })?;
        if enforced {
            return Err(Blocked::Refused { why: text.clone(), answer: Self::farewell("08P01", &text) });
        }
        self.opaque = Some(Redacted::new(self.session));
        Ok(())
    }

    fn relayed(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        let session = self.session;
        let mut taken = self.opaque.get_or_insert_with(|| Redacted::new(session)).take(side, bytes)?;
        if side == Side::Server {
            let mut held = self.let_go();
            if !held.is_empty() {
                held.extend_from_slice(bytes.get(..taken.len).unwrap_or_default());
                taken.instead = Some(held);
            }
        }
        Ok(taken)
    }

    /// One message of the client; whether the next may follow.
    fn request(&mut self, burst: &mut Burst<'_>, step: &Step<'_>) -> Result<Option<Next>, Blocked> {
        match step {
            // Servers end the connection over it; who knows what another one does.
            Step::Request { request: Request::Other(tag), .. } if self.session.mode() == Mode::Enforce => {
                Err(unknown(*tag))
            }
            Step::Request { exchange, len, request } => {
                let exchange = self.numbered(Side::Client, *exchange);
                self.attach(burst, exchange);
                let Some(asked) = self.judged(exchange, request) else {
                    burst.pass(*len);
                    return Ok(None);
                };
                // What is prepared without a name does nothing before it is bound, and nothing else can call it: whoever approves it
                // is asked then, with its values.
                let is_asked_later = matches!(request, Request::Parse(parse) if parse.name.is_empty())
                    && !self.session.is_open(&self.target)
                    && self.session.foresee(Some(exchange), asked.described.action(), &self.target).is_held;
                if is_asked_later {
                    self.exchanges.entry(exchange).or_default().told = false;
                    if let Some(piece) = &mut burst.piece {
                        piece.request = Some((asked.described, asked.parameters));
                    }
                    burst.pass(*len);
                    return Ok(None);
                }
                self.judge(burst, exchange, asked, *len)
            }
            Step::TooLarge { exchange, statement, .. } => {
                let exchange = self.numbered(Side::Client, *exchange);
                self.attach(burst, exchange);
                let described = match statement {
                    Some(statement) => self.teller.prepared(exchange, Some(statement)),
                    None => self.teller.unknown("a message that is too large to be read"),
                };
                if let Some(doubt) = described.doubt {
                    self.conversation.doubt_names(doubt);
                }
                self.judge(burst, exchange, Asked { described, parameters: None, sql: None }, 0)
            }
            // Of an exchange that is none are messages of unknown types alone.
            Step::Piece { exchange: 0, tag, .. } if self.session.mode() == Mode::Enforce => Err(unknown(*tag)),
            Step::Piece { exchange, first, last, len, .. } => {
                let exchange = self.numbered(Side::Client, *exchange);
                self.attach_piece(burst, exchange, *first);
                if self.swallows {
                    burst.replace(*len, b"", None);
                    self.swallows = !*last;
                } else {
                    burst.pass(*len);
                }
                Ok(None)
            }
            Step::CopyData { exchange, len, .. } => {
                let exchange = self.numbered(Side::Client, *exchange);
                self.attach(burst, exchange);
                burst.pass(*len);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// What a message that can run something does; none for the others.
    fn judged<'m>(&mut self, exchange: u32, request: &'m Request<'_>) -> Option<Asked<'m>> {
        let asked = match request {
            Request::Query(query) => {
                Asked { described: self.teller.text(query.text), parameters: None, sql: Some(query.text) }
            }
            Request::Parse(parse) => {
                let described = self.teller.prepare(exchange - login::EXCHANGE, parse.sql);
                Asked { described, parameters: None, sql: Some(parse.sql) }
            }
            Request::Bind { bind, statement } => {
                let statement = statement.as_deref();
                let described = self.teller.prepared(exchange, statement);
                Asked {
                    described,
                    parameters: parameters(bind, statement, self.masks_columns),
                    sql: statement.and_then(Statement::text),
                }
            }
            Request::Execute { known: false, .. } => self.unknown("a portal that is not known by its name"),
            Request::FunctionCall(call) => self.unknown(&format!("function {}", call.function)),
            Request::Execute { known: true, .. } => {
                self.teller.executed(exchange);
                return None;
            }
            Request::Sync => {
                self.teller.unsettle();
                return None;
            }
            _ => return None,
        };
        // What a Parse makes does nothing yet.
        if let Some(doubt) = asked.described.doubt
            && !matches!(request, Request::Parse(_))
        {
            self.conversation.doubt_names(doubt);
        }
        Some(asked)
    }

    fn unknown(&mut self, subject: &str) -> Asked<'static> {
        Asked { described: self.teller.unknown(subject), parameters: None, sql: None }
    }

    /// Asks for a message, which is on record before the answer; how it goes on, where not at once.
    fn judge(
        &mut self,
        burst: &mut Burst<'_>,
        exchange: u32,
        asked: Asked<'_>,
        len: usize,
    ) -> Result<Option<Next>, Blocked> {
        let Asked { described, parameters, sql } = asked;
        let state = self.exchanges.entry(exchange).or_default();
        state.told = false;
        if let Some(media_type) = sql.filter(|_| self.masks_columns).and_then(copied) {
            state.copies(media_type);
        }
        if let Some(piece) = &mut burst.piece {
            let parameters = parameters.clone().or_else(|| piece.request.take().and_then(|(_, parameters)| parameters));
            piece.request = Some((described.clone(), parameters));
        }
        if self.session.is_open(&self.target) {
            burst.pass(len);
            return Ok(None);
        }
        // What is asked for is on record with its bytes, and they are not forwarded yet.
        if let Some(piece) = &mut burst.piece {
            piece.shown.pass(len);
        }
        let end = burst.forward.end() + len;
        self.record(burst, end)?;
        // What comes in pieces, and what nobody knows the text of, cannot be seen whole by whoever would approve it.
        let message = burst.rest().get(..len).filter(|message| !message.is_empty());
        let content = sql.zip(message).map(|(sql, message)| Described::content(sql, message, parameters.as_deref()));
        let decision = self.session.ask(Some(exchange), described.action(), &self.target, content.as_ref())?;
        // That, too, is durable before the bytes go.
        burst.position = Some(self.session.newest());
        let refused = Refused::by_policy(self.session.id(), exchange, &decision.verdict);
        match decision.passage {
            Passage::Open(_) => burst.forward.pass(len),
            Passage::Closed if decision.verdict.effect == Effect::Ask => {
                self.refuse(burst, exchange, len, refused.unseen());
            }
            Passage::Closed => self.refuse(burst, exchange, len, refused),
            Passage::Held(held) => {
                let cancel = self.issued.as_ref().map(|issued| issued.cancel().clone());
                self.held = Some(Held::new(exchange, len, held, cancel, refused));
                return Ok(Some(Next::Held));
            }
        }
        Ok(None)
    }

    /// Something that fails goes in the place of the message.
    fn refuse(&mut self, burst: &mut Burst<'_>, exchange: u32, len: usize, refused: Refused) {
        let tag = burst.rest().first().copied().unwrap_or_default();
        burst.forward.replace(len, &Refused::instead(tag));
        // One that is told in pieces: they follow.
        self.swallows = len == 0;
        // Where something before it has failed meanwhile, the server skips it, and no error of it comes.
        if self.conversation.refuse_last() {
            self.refused.insert(exchange, refused);
        }
    }

    /// The statement that was held goes on, or does not; none while it still waits.
    fn resume(&mut self, burst: &mut Burst<'_>) -> Option<()> {
        let Some(held) = &mut self.held else { return Some(()) };
        let allowed = held.answer()?;
        let Held { exchange, len, refused, .. } = self.held.take()?;
        if allowed {
            burst.forward.pass(len);
        } else {
            self.refuse(burst, exchange, len, refused);
        }
        burst.recorded = burst.forward.end();
        burst.position = Some(self.session.newest());
        Some(())
    }
}

impl Tap for Statements<'_> {
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        if self.opaque.is_some() {
            return self.relayed(side, bytes);
        }
        let mut burst = Burst::new(side, bytes);
        // Nobody is left to answer.
        if side == Side::Client && self.server_ended {
            return Ok(Taken::some(0, None, Next::Over));
        }
        if side == Side::Client && self.resume(&mut burst).is_none() {
            return Ok(Taken::some(0, None, Next::Held));
        }
        let next = loop {
            let step = match self.conversation.next(side, burst.rest()) {
                Ok(step) => step,
                // What came before it goes its way first.
                Err(_) if burst.forward.end() > 0 => break Next::Again,
                Err(fault) => {
                    self.record(&mut burst, 0)?;
                    self.lost(fault)?;
                    break Next::Again;
                }
            };
            let paused = match &step {
                Step::NeedMore => Some(Next::More),
                Step::Wait => Some(Next::Wait),
                Step::Over if burst.rest().is_empty() => Some(Next::More),
                Step::Over => Some(Next::Over),
                Step::Opaque => {
                    self.opaque = Some(Redacted::new(self.session));
                    Some(Next::Again)
                }
                Step::Skipped { exchange } => {
                    self.skip(&mut burst, *exchange);
                    None
                }
                step if side == Side::Client => self.request(&mut burst, step)?,
                step => self.answer(&mut burst, step)?,
            };
            if let Some(next) = paused {
                break next;
            }
        };
        let end = burst.forward.end();
        self.record(&mut burst, end)?;
        let (len, position) = (burst.forward.end(), burst.position);
        Ok(Taken { instead: burst.forward.instead(), ..Taken::some(len, position, next) })
    }

    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked> {
        let held = if side == Side::Server { self.let_go() } else { Vec::new() };
        let instead = (!held.is_empty()).then_some(held);
        if let Some(opaque) = &mut self.opaque {
            return Ok(Taken { instead, ..opaque.ended(side, rest, farewell)? });
        }
        self.server_ended |= side == Side::Server;
        if !rest.is_empty() {
            let who = if side == Side::Client { "the client" } else { "the target" };
            let why = if self.held.is_some() { "while a statement was held" } else { "in the middle of a message" };
            let text = format!("{who} ended {why}: {} bytes were not forwarded", rest.len());
            self.session.record(Note { code: "postgres_cut".into(), text })?;
        }
        Ok(Taken { instead, ..Taken::some(0, None, Next::Over) })
    }

    fn decision(&mut self) -> Decision {
        match &mut self.held {
            Some(held) => held.decision(),
            None => Box::pin(std::future::ready(())),
        }
    }
}

impl Statements<'_> {
    /// Gives the client a key of ours for the target's: what it gets, and what the record shows.
    pub(super) fn issue(&mut self, process: u32, key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Blocked> {
        let whom = (self.session.id(), self.session.origin().destination);
        let issued = self.session.run().cancels.issue(process, whom, Secret::new(key.to_vec()));
        let issued = issued.map_err(|error| Blocked::Refused { why: error.to_string(), answer: Vec::new() })?;
        let ours = reply::backend_key(process, issued.secret());
        self.issued = Some(issued);
        Ok((ours, reply::backend_key(process, &vec![b'*'; key.len()])))
    }

    /// The last word to a client.
    pub(super) fn farewell(code: &str, text: &str) -> Vec<u8> {
        let message = format!("crewtap: {text}");
        Complaint { severity: "FATAL", code, message: &message, detail: "", hint: "" }.error()
    }

    /// Records what is known only at the end.
    pub(super) fn finish(mut self) {
        let mut open: Vec<u32> =
            self.exchanges.iter().filter(|(_, state)| !state.told).map(|(number, _)| *number).collect();
        open.sort_unstable();
        let told = open.into_iter().map(|number| {
            let body = held::cut(self.held.as_ref().is_some_and(|held| held.exchange == number));
            Told { exchange: Some(number), body, payload: Cow::Borrowed(b"") }
        });
        let told: Vec<_> = told.collect();
        if !told.is_empty()
            && let Err(error) = self.session.record_burst(Side::Client, 0, told)
        {
            tracing::error!(session = %self.session.id(), %error, "what was cut off could not be recorded");
        }
        if let Some(opaque) = self.opaque.take() {
            opaque.finish();
        }
    }
}

/// A message of a type that nobody here knows.
fn unknown(tag: u8) -> Blocked {
    let why = format!("a message of the unknown type {:?} cannot be judged", char::from(tag));
    Blocked::Refused { answer: Statements::farewell("08P01", &why), why }
}
