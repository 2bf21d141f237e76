//! HTTP/1.1, in clear or inside TLS that was opened: exchanges, judged before and recorded as they pass.
//!
//! Bytes are forwarded exactly as they came; the conversation of the core says which of them are a head, framing or content,
//! and refuses what two readers could understand in two ways. Never rebuilds a message, and buffers a body only where policy
//! or a human must see all of it.

mod ahead;
mod asking;
mod burst;
mod foreign;
mod forward;
mod held;
mod host;
mod inject;
mod refusal;
mod scrub;
mod steps;
mod told;
mod wired;

use std::borrow::Cow;

use crewtap_core::bodies::{Chunk, Note};
use crewtap_core::policy::catalog::Channel;
use crewtap_core::run::Mode;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::target::Target;
use crewtap_core::wire::http::{Conversation, Refusal, Step};

use super::{Driver, Legs, Opened};
use crate::gate::Permit;
use crate::lease::LeaseError;
use crate::leg::Farewell;
use crate::recorder::{Told, Unrecorded};
use crate::redacted::Redacted;
use crate::relay::{self, Blocked, Decision, End, First, Next, Taken, Tap};
use crate::session::Session;

use ahead::Ahead;
use asking::{Course, Refusing};
use burst::Burst;
use held::Held;
use host::Hosts;
use inject::Injections;
pub use refusal::refused_connection;
use scrub::Scrubbed;
use told::Teller;
use wired::Wired;

/// The row of the table.
pub const DRIVER: Driver = Driver {
    name: "http",
    protocols: &["http"],
    turn: None,
    refuse: Some(|_, _, refused| {
        Box::pin(async { refused_connection(refused.session, &refused.policies, &refused.why) })
    }),
    serve: |session, legs| Box::pin(serve(session, legs)),
};

async fn serve(session: &Session, legs: Legs) -> End {
    let Legs { client, target, first, classified, tls, permit } = legs;
    let channel = tls.as_ref().map_or(Channel::Clear, Opened::channel);
    let injections = match injections(session, &permit, channel).await {
        Ok(injections) => injections,
        Err(error) => return End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) },
    };
    let mut tap = Exchanges {
        session,
        target: classified.target.clone(),
        teller: Teller::new(session, &classified, tls.is_some()),
        hosts: Hosts::new(&classified.target, tls.as_ref()),
        conversation: Conversation::new(),
        sides: [Progress::default(), Progress::default()],
        answering: None,
        ended: [false; 2],
        refused: None,
        ahead: None,
        held: None,
        refusing: None,
        swallows: false,
        continued: None,
        injections,
        upgraded: None,
        wired: Wired::new(session),
    };
    let end = relay::relay(session, &mut tap, (&client, first), (&target, First::default())).await;
    tap.finish();
    end
}

/// What goes into the requests of the session.
enum Credentials {
    /// What their client sends.
    Own,
    /// What the catalog has for the target.
    Leased(Injections),
    /// The catalog has something that cannot be used: no request goes anywhere, since the client's own credentials would go to
    /// whoever has answered.
    Withheld,
}

impl Credentials {
    fn leased(&self) -> Option<&Injections> {
        if let Self::Leased(injections) = self { Some(injections) } else { None }
    }
}

async fn injections(session: &Session, permit: &Permit, channel: Channel<'_>) -> Result<Credentials, Unrecorded> {
    let leased = match session.lease_injections(permit, channel).await {
        Ok(leased) => leased,
        Err(LeaseError::Unrecorded(error)) => return Err(error),
        // It is on record.
        Err(_) => return Ok(Credentials::Withheld),
    };
    match Injections::new(leased) {
        Ok(injections) => Ok(injections.map_or(Credentials::Own, Credentials::Leased)),
        Err(why) => {
            session.record(Note { code: "credential_unusable".into(), text: why.into() })?;
            Ok(Credentials::Withheld)
        }
    }
}

/// How far one side's message is.
#[derive(Default)]
struct Progress {
    /// Bytes of the present body that are on record.
    body: u64,
    /// Bytes of trailers that are on record.
    trailers: u64,
}

struct Exchanges<'s> {
    session: &'s Session,
    target: Target,
    teller: Teller<'s>,
    hosts: Hosts,
    conversation: Conversation,
    sides: [Progress; 2],
    /// The exchange whose answer has begun and is not complete.
    answering: Option<u32>,
    /// Which sides have said everything.
    ended: [bool; 2],
    /// The exchange that was refused, and has its outcome.
    refused: Option<u32>,
    /// A request that is not decided yet.
    ahead: Option<Ahead>,
    /// A request that waits for a human.
    held: Option<Held>,
    /// A request that was refused, whose turn to be answered has not come.
    refusing: Option<Refusing>,
    /// The content of the present request goes nowhere.
    swallows: bool,
    /// The exchange whose client we have told to go on.
    continued: Option<u32>,
    injections: Credentials,
    /// After 101 or a tunnel is open, or when it never was HTTP: bytes that are relayed as they are.
    upgraded: Option<Redacted<'s>>,
    /// What the client receives, where masks hide values from it.
    wired: Option<Wired<'s>>,
}

impl Tap for Exchanges<'_> {
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        let Some(scrubbed) = self.injections.leased().filter(|_| side == Side::Server) else {
            return self.take_as_it_is(side, bytes);
        };
        let Scrubbed { clean, safe } = scrubbed.scrub.look(&self.conversation, bytes);
        let shown = clean.as_deref().unwrap_or(bytes);
        let mut taken = self.take_as_it_is(side, shown.get(..safe).unwrap_or_default())?;
        if clean.is_some() && taken.instead.is_none() {
            taken.instead = shown.get(..taken.len).map(<[u8]>::to_vec);
        }
        Ok(taken)
    }

    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked> {
        let [client, server] = &mut self.ended;
        *(if side == Side::Client { client } else { server }) = true;
        if let Some(upgraded) = self.upgraded.as_mut().filter(|_| rest.is_empty()) {
            return upgraded.ended(side, rest, farewell);
        }
        let mut burst = Burst::new(rest);
        if side == Side::Client && self.ahead.take().is_some_and(|ahead| ahead.head.is_some()) {
            // What never became whole was never judged; what there is of it is on record.
            let _ = self.cover(&mut burst, true);
        } else if !rest.is_empty() && self.conversation.is_over(side) {
            burst.tell(0, dropped(rest), b"");
        }
        if side == Side::Server && self.injections.leased().is_some() {
            self.let_go(&mut burst)?;
        }
        let ended = self.conversation.end(side);
        if side == Side::Server {
            self.let_out(&mut burst, ended.completed.is_some() && farewell != Farewell::Cut)?;
        }
        // A body that the end completes is complete only where the end is one: TLS says so, or it was cut off.
        let (whole, cut) = if farewell == Farewell::Cut { (None, ended.completed) } else { (ended.completed, None) };
        if let Some(exchange) = whole {
            burst.tell(exchange, Chunk { end: true, wire: Some(0), ..self.chunk(side) }, b"");
            self.answering = None;
        }
        let unanswered = ended.unanswered;
        let cut = cut.into_iter().chain(ended.cut).filter(|exchange| !unanswered.contains(exchange));
        for exchange in cut.chain(unanswered.iter().copied()) {
            burst.tell(exchange, self.cut(side, exchange), b"");
        }
        self.record(side, &mut burst)?;
        // A head that never became whole is not a message, and is not forwarded.
        Ok(burst.taken(Next::Over))
    }

    fn decision(&mut self) -> Decision {
        match &mut self.held {
            Some(held) => held.decision(),
            None => Box::pin(std::future::ready(())),
        }
    }
}

impl Exchanges<'_> {
    fn take_as_it_is(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked> {
        let mut burst = Burst::new(bytes);
        // Nobody is left to answer another request.
        if side == Side::Client && self.has_ended(Side::Server) && self.upgraded.is_none() && !self.is_sending() {
            return Ok(burst.taken(Next::Over));
        }
        if self.is_foreign(side, bytes) {
            self.give_way()?;
        }
        if self.upgraded.is_some() && self.conversation.exchanges() == 0 {
            self.opaque(side, bytes, &mut burst)?;
            return Ok(burst.taken(Next::More));
        }
        if side == Side::Client
            && let Some(next) = self.resume(&mut burst)?
        {
            return Ok(burst.taken(next));
        }
        let next = loop {
            if side == Side::Client && self.is_judged() && self.conversation.may_begin() && !burst.rest().is_empty() {
                match self.consider(&mut burst)? {
                    Course::Step => {}
                    Course::Decided => continue,
                    Course::Pause(next) => break next,
                }
            }
            let rest = burst.rest();
            let before = self.wired.is_some().then(|| self.conversation.clone());
            let step = match self.conversation.next(side, rest) {
                Ok(step) => step,
                // What came before it goes its way first.
                Err(_) if !burst.is_empty() => break Next::Again,
                Err(refusal) => return Err(self.refuse(side, refusal, rest)),
            };
            match step {
                Step::NeedMore => break Next::More,
                Step::Wait if self.has_ended(Side::Server) => break Next::Over,
                Step::Wait => break Next::Wait,
                Step::Over => break Next::Over,
                Step::Upgraded => break self.opaque(side, rest, &mut burst)?,
                Step::RequestHead { .. } if self.is_judged() => {
                    let why = "a request could not be read twice in the same way".to_owned();
                    return Err(Blocked::Refused { why, answer: Vec::new() });
                }
                step => {
                    self.may_switch(&step)?;
                    if let Some(why) = self.unmaskable(&step) {
                        // What came before it goes its way first.
                        match before.filter(|_| !burst.is_empty()) {
                            Some(before) => self.conversation = before,
                            None => return Err(self.refuse_answer(&step, rest, &why)?),
                        }
                        break Next::Again;
                    }
                    self.step(side, &step, rest, &mut burst);
                    self.forward(side, &step, &mut burst)?;
                }
            }
        };
        self.record(side, &mut burst)?;
        Ok(burst.taken(next))
    }

    /// Content that could have been the beginning of a secret, and was not.
    fn let_go(&mut self, burst: &mut Burst<'_>) -> Result<(), Blocked> {
        while let Ok(step @ (Step::Body { .. } | Step::Framing { .. })) =
            self.conversation.next(Side::Server, burst.rest())
        {
            self.step(Side::Server, &step, burst.rest(), burst);
            self.forward(Side::Server, &step, burst)?;
        }
        Ok(())
    }

    /// Whether each request is looked at before it is forwarded.
    fn is_judged(&self) -> bool {
        !self.session.is_open(&self.target) || !matches!(self.injections, Credentials::Own) || self.wired.is_some()
    }

    /// Whether content of a request is on its way.
    fn is_sending(&self) -> bool {
        let waits = self.held.is_some() || self.refusing.is_some() || self.swallows;
        !waits && self.conversation.is_in_content(Side::Client)
    }

    /// What a protocol that nobody here reads would carry could be anything, more requests too (h2c): only what is no way to
    /// send those is switched to.
    fn may_switch(&self, step: &Step<'_>) -> Result<(), Blocked> {
        let Step::ResponseHead { head, .. } = step else { return Ok(()) };
        let foreign = head.status == 101 && !head.fields.has_member("upgrade", "websocket");
        if foreign && self.session.mode() == Mode::Enforce {
            let why = "the target switched to a protocol in which requests cannot be judged".to_owned();
            self.session.record(Note { code: "http_unjudged_protocol".into(), text: why.clone() })?;
            return Err(Blocked::Refused { why, answer: Vec::new() });
        }
        Ok(())
    }

    /// Records why the rest goes nowhere, and says what the client is told.
    fn refuse(&mut self, side: Side, refusal: Refusal, rest: &[u8]) -> Blocked {
        // What is wrong may be in the content of a request that has begun.
        let begun = side == Side::Server || self.conversation.is_in_content(side);
        let exchange = match side {
            Side::Client => self.conversation.exchanges() + u32::from(!begun),
            Side::Server => self.conversation.answered_next(),
        };
        self.refused = Some(exchange);
        let told = self.teller.refused(exchange, begun, refusal, rest);
        if let Err(error) = self.session.record_burst(side, 0, told) {
            return error.into();
        }
        // An answer that has begun, or requests that wait for theirs, leave no room for one of ours.
        let waiting = self.conversation.outstanding();
        let room = self.answering.is_none() && waiting == usize::from(begun);
        let answer = if room { self.teller.answer(side, refusal) } else { Vec::new() };
        Blocked::Refused { why: format!("HTTP {}: {refusal}", refusal.code()), answer }
    }

    /// A message, or the answer to one, that never became whole.
    fn cut(&self, side: Side, exchange: u32) -> crewtap_core::event::Body {
        let held = self.held.as_ref().is_some_and(|held| held.refused.exchange == exchange);
        Teller::cut(side, self.answering == Some(exchange), held)
    }

    fn begin(&mut self, side: Side) {
        *self.progress(side) = Progress::default();
    }

    fn progress(&mut self, side: Side) -> &mut Progress {
        let [client, server] = &mut self.sides;
        match side {
            Side::Client => client,
            Side::Server => server,
        }
    }

    fn chunk(&mut self, side: Side) -> Chunk {
        Chunk::new(side, self.progress(side).body)
    }

    fn has_ended(&self, side: Side) -> bool {
        let [client, server] = self.ended;
        if side == Side::Client { client } else { server }
    }

    /// A protocol that only looked like HTTP until its first line was whole, in a mode that refuses nothing.
    fn is_foreign(&self, side: Side, bytes: &[u8]) -> bool {
        side == Side::Client
            && self.conversation.exchanges() == 0
            && self.upgraded.is_none()
            && self.session.mode() != Mode::Enforce
            && matches!(self.injections, Credentials::Own)
            && foreign::is_foreign(bytes)
    }

    /// From now on nothing is taken for HTTP.
    fn give_way(&mut self) -> Result<(), Blocked> {
        let text = "the first line looks like HTTP and is none: the bytes are relayed and recorded as they are";
        self.session.record(Note { code: "http_foreign".into(), text: text.into() })?;
        self.upgraded = Some(Redacted::new(self.session));
        Ok(())
    }

    /// Records what is known only at the end: which messages never became whole, and how much was redacted.
    fn finish(mut self) {
        let mut told = Vec::new();
        for side in [Side::Client, Side::Server] {
            if self.upgraded.is_some() || self.has_ended(side) {
                continue;
            }
            let ended = self.conversation.end(side);
            for exchange in ended.completed.into_iter().chain(ended.cut).chain(ended.unanswered) {
                if self.refused != Some(exchange) && exchange > 0 {
                    let body = self.cut(side, exchange);
                    told.push(Told { exchange: Some(exchange), body, payload: Cow::Borrowed(b"") });
                }
            }
        }
        if !told.is_empty()
            && let Err(error) = self.session.record_burst(Side::Client, 0, told)
        {
            tracing::error!(session = %self.session.id(), %error, "what was cut off could not be recorded");
        }
        if let Some(upgraded) = self.upgraded {
            upgraded.finish();
        }
    }
}

/// Bytes that came behind the last message that may come.
fn dropped(rest: &[u8]) -> Note {
    let text =
        format!("bytes came behind the last message of the connection and were not forwarded, {} at least", rest.len());
    Note { code: "http_behind_the_end".into(), text }
}
