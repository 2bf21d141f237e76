//! Requests that are asked for before a byte of them is forwarded.
//!
//! Owns how much of a request is needed for that, and the order of record, question, answer and forwarding. Never decides.

use std::borrow::Cow;
use std::ops::Range;

use crewtap_core::action::{Action, Fact, Verb};
use crewtap_core::bodies::Note;
use crewtap_core::limits::{HTTP_DROPPED_BYTES_MAX, RELAY_BUFFER_BYTES};
use crewtap_core::run::Mode;
use crewtap_core::session::Side;
use crewtap_core::verdict::Effect;
use crewtap_core::view::coding::{Decoder, End};
use crewtap_core::wire::http::{Refusal, RequestHead, Step};
use crewtap_core::wire::llm::{self, Asked, UNPARSED};
use zeroize::Zeroizing;

use super::ahead::{self, Ahead, Sight};
use super::burst::Burst;
use super::held::Held;
use super::refusal::Problem;
use super::told::Teller;
use super::wired::Wired;
use super::{Credentials, Exchanges};
use crate::gate::{Content, Passage};
use crate::recorder::Told;
use crate::relay::{Blocked, Next};

/// Told to a client that waits for it before it sends what must be seen first.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How it goes on with the client's bytes.
pub(super) enum Course {
    /// By the conversation.
    Step,
    /// A request was decided; what follows is next.
    Decided,
    /// Not now.
    Pause(Next),
}

/// A request that was refused, until it is its turn to be answered.
pub(super) struct Refusing {
    pub(super) exchange: u32,
    pub(super) problem: Problem,
    /// Its answer has no content.
    head_only: bool,
    /// The connection cannot go on behind it.
    close: bool,
}

/// A request whose head is there.
struct Request<'b> {
    head: RequestHead<'b>,
    /// Where the head is in the bytes.
    at: Range<usize>,
    bytes: &'b [u8],
    /// How many bytes it has, where all of it is there.
    whole: Option<usize>,
    has_content: bool,
}

impl Request<'_> {
    fn refusing(&self, exchange: u32, problem: Problem) -> Refusing {
        let goes_on = ahead::can_go_on(&self.head, self.whole.is_some(), self.has_content, HTTP_DROPPED_BYTES_MAX);
        Refusing { exchange, problem, head_only: self.head.method == "HEAD", close: !goes_on }
    }
}

impl Exchanges<'_> {
    /// Looks at the next request, and asks for it as soon as enough of it is there.
    pub(super) fn consider(&mut self, burst: &mut Burst<'_>) -> Result<Course, Blocked> {
        let bytes = burst.rest();
        let mut ahead = self.ahead.take().unwrap_or_else(Ahead::new);
        let sight = ahead.look(bytes, self.session.holding().body_max);
        let head = ahead.head.clone().and_then(|at| Some((RequestHead::parse(bytes.get(at.clone())?).ok()?, at)));
        if let (Some((head, _)), Some(wired)) = (&head, &mut self.wired) {
            wired.asked(head.version);
        }
        let Some((head, at)) = head else {
            let course = if sight == Sight::Wrong { Course::Step } else { Course::Pause(Next::More) };
            self.ahead = (sight != Sight::Wrong).then_some(ahead);
            return Ok(course);
        };
        match sight {
            Sight::Wrong if !burst.is_empty() => {
                self.ahead = Some(ahead);
                return Ok(Course::Pause(Next::Again));
            }
            Sight::Wrong => return Err(self.spoiled(burst)),
            Sight::Head if ahead.is_needed => return Ok(self.wait_for(ahead, &head, burst)),
            _ => {}
        }
        let whole = if let Sight::Whole(len) = sight { Some(len) } else { None };
        let request = Request { head, at, bytes, whole, has_content: ahead.has_content() };
        let (action, objection) = self.action(&request);
        if let Some(problem) = objection {
            return self.refuse_unasked(burst, &request, Vec::new(), problem);
        }
        if self.session.is_open(&self.target) {
            return self.pass_unasked(burst, &request);
        }
        // A model's name stands in the content.
        let needs_all = action.verb == Verb::LlmCall;
        let is_large = whole.is_none_or(|len| len > RELAY_BUFFER_BYTES);
        let exchange = self.conversation.exchanges() + 1;
        let foreseen = (is_large && !(needs_all && sight == Sight::Head))
            .then(|| self.session.foresee(Some(exchange), action.clone(), &self.target));
        let is_held = foreseen.as_ref().is_none_or(|foreseen| foreseen.is_held);
        if sight == Sight::Head && is_held {
            ahead.is_needed = true;
            return Ok(self.wait_for(ahead, &request.head, burst));
        }
        match foreseen {
            Some(foreseen) if whole.is_none() && is_held => {
                let max = self.session.holding().body_max;
                let problem = Problem::policy(&foreseen.decided.verdict).too_large(max);
                let decided =
                    Told { exchange: Some(exchange), body: foreseen.decided.into(), payload: Cow::Borrowed(b"") };
                self.refuse_unasked(burst, &request, vec![decided], problem)
            }
            _ => self.ask(burst, &request, action, is_held),
        }
    }

    /// What the request would do, and what speaks against it whatever policy says.
    fn action(&self, request: &Request<'_>) -> (Action, Option<Problem>) {
        let head_bytes = request.bytes.get(request.at.clone()).unwrap_or_default();
        let mut action = self.teller.action(&request.head, head_bytes);
        let other = self.hosts.judge_by(&request.head, &mut action);
        let path = request.head.path().unwrap_or_default();
        if llm::is_call(request.head.method, path) {
            let Asked { model, tools } = self.asked(request, &action);
            action.verb = Verb::LlmCall;
            action.facts.insert("model".into(), Fact::Text(model));
            action.facts.insert("tools".into(), Fact::Set(tools));
        }
        let other = other.filter(|_| !self.session.is_open(&self.target) && self.session.mode() == Mode::Enforce);
        let objection = match (&self.injections, other) {
            (Credentials::Withheld, _) => Some(Problem::uncredentialed()),
            (Credentials::Leased(_), _) if request.head.method.eq_ignore_ascii_case("TRACE") => Some(Problem::echoed()),
            (_, Some(host)) => Some(Problem::misdirected(&host, &self.hosts.label())),
            _ => None,
        };
        (action, objection)
    }

    /// What a model is asked.
    fn asked(&self, request: &Request<'_>, action: &Action) -> Asked {
        let (Some(len), Some(Fact::Text(path))) = (request.whole, action.facts.get("path")) else {
            return Asked::unparsed();
        };
        // A model's name may stand in it.
        if path == UNPARSED {
            return Asked::unparsed();
        }
        let (content, _) = ahead::content(request.bytes.get(..len).unwrap_or_default());
        match decoded(&request.head, content, self.session.holding().body_max) {
            Some(content) => Asked::read(path, &content),
            None => Asked::unparsed(),
        }
    }

    /// More of the request is needed; a client that waits to be told so is told.
    fn wait_for(&mut self, mut ahead: Ahead, head: &RequestHead<'_>, burst: &mut Burst<'_>) -> Course {
        let mut next = Next::More;
        if head.expects_continue() && !ahead.has_content() && !ahead.continued {
            // It is told behind the answers to what it asked before.
            if self.conversation.outstanding() > 0 {
                next = Next::Wait;
            } else {
                ahead.continued = true;
                let exchange = self.conversation.exchanges() + 1;
                self.continued = Some(exchange);
                let text =
                    "crewtap told the client to go on (100 Continue): all of the request is judged before it is sent";
                burst.tell(0, Note { code: "http_continued".into(), text: text.into() }, b"");
                burst.answer = Some(CONTINUE.to_vec());
            }
        }
        self.ahead = Some(ahead);
        Course::Pause(next)
    }

    /// Puts the request on record, then asks for it.
    fn ask(
        &mut self,
        burst: &mut Burst<'_>,
        request: &Request<'_>,
        action: Action,
        may_be_held: bool,
    ) -> Result<Course, Blocked> {
        self.present(burst, request)?;
        let exchange = self.conversation.exchanges();
        let content = request.whole.filter(|_| may_be_held).map(|len| self.content(request, len));
        let decision = self.session.ask(Some(exchange), action, &self.target, content.as_ref())?;
        // That, too, is durable before the bytes go.
        burst.position = Some(self.session.newest());
        let problem = Problem::policy(&decision.verdict);
        match (decision.passage, request.whole) {
            (Passage::Open(_), _) => {
                self.send(burst, &request.at);
                Ok(Course::Decided)
            }
            (Passage::Held(held), Some(len)) => {
                let wait = self.session.holding().http_wait;
                self.held = Some(Held::new((request.at.clone(), len), held, wait, request.refusing(exchange, problem)));
                Ok(Course::Pause(Next::Held))
            }
            // Rules that have changed within this moment ask for what was not looked at as a whole.
            (Passage::Closed, _) if decision.verdict.effect == Effect::Ask => {
                self.turn_down(burst, request.refusing(exchange, problem.denied("send it again")))
            }
            (Passage::Held(_) | Passage::Closed, _) => self.turn_down(burst, request.refusing(exchange, problem)),
        }
    }

    /// Steps over as much of the request as was looked at, and puts it on record.
    fn present(&mut self, burst: &mut Burst<'_>, request: &Request<'_>) -> Result<(), Blocked> {
        if let Err(refusal) = self.cover(burst, request.whole.is_some()) {
            return Err(self.refuse(Side::Client, refusal, burst.rest()));
        }
        self.record(Side::Client, burst)
    }

    /// Steps over the next request: all that there is of it, or its head.
    pub(super) fn cover(&mut self, burst: &mut Burst<'_>, whole: bool) -> Result<(), Refusal> {
        loop {
            let rest = burst.rest();
            let step = self.conversation.next(Side::Client, rest)?;
            let is_done = match step {
                Step::RequestHead { .. } => !whole,
                Step::End { .. } => true,
                step => step.is_empty(),
            };
            self.step(Side::Client, &step, rest, burst);
            if is_done {
                return Ok(());
            }
        }
    }

    /// What a human would look at, and what is bound to the answer.
    fn content<'b>(&self, request: &Request<'b>, len: usize) -> Content<'b> {
        let head = request.bytes.get(request.at.clone()).unwrap_or_default();
        let mut shown = self.teller.shown(head);
        let media_type = Cow::Borrowed("message/http");
        let bytes = request.bytes.get(..len).unwrap_or_default();
        let (content, trailers) = ahead::content(bytes);
        // Shown as it reads: what cannot be decoded, as it was sent.
        let max = self.session.holding().body_max;
        let readable = decoded(&request.head, content.clone(), max).unwrap_or(content);
        shown.extend_from_slice(&readable);
        if let Some(trailers) = bytes.get(trailers).filter(|trailers| !trailers.is_empty()) {
            shown.extend_from_slice(b"\r\n");
            shown.extend_from_slice(&self.teller.shown(trailers));
        }
        Content { clear: Cow::Borrowed(bytes), shown: shown.into(), media_type, ..Content::default() }
    }

    /// What is covered and was decided goes to the target, with the catalog's credentials in its head.
    fn send(&mut self, burst: &mut Burst<'_>, head: &Range<usize>) {
        let bytes = burst.waiting().get(head.clone()).unwrap_or_default();
        let mut rewritten = self.injections.leased().map(|injections| injections.rewrite(bytes));
        if self.wired.is_some() {
            let asked = Wired::request(rewritten.as_deref().map_or(bytes, Vec::as_slice));
            rewritten = Some(Zeroizing::new(asked));
        }
        if let Some(rewritten) = rewritten {
            burst.forward.pass(head.start);
            burst.forward.replace(head.len(), &rewritten);
        }
        burst.pass();
    }

    /// Nobody is asked; only the head is put into another form.
    fn pass_unasked(&mut self, burst: &mut Burst<'_>, request: &Request<'_>) -> Result<Course, Blocked> {
        if let Err(refusal) = self.cover(burst, false) {
            return Err(self.refuse(Side::Client, refusal, burst.rest()));
        }
        self.send(burst, &request.at);
        Ok(Course::Decided)
    }

    /// Refuses a request that nobody is asked for, with what is told of it beside.
    fn refuse_unasked(
        &mut self,
        burst: &mut Burst<'_>,
        request: &Request<'_>,
        told: Vec<Told<'static>>,
        problem: Problem,
    ) -> Result<Course, Blocked> {
        self.present(burst, request)?;
        if !told.is_empty() {
            self.session.record_burst(Side::Client, 0, told)?;
        }
        let exchange = self.conversation.exchanges();
        let text = format!("crewtap refused the request: {}", problem.detail);
        let note = Note { code: format!("http_{}", problem.kind.replace('-', "_")), text };
        let note = Told { exchange: Some(exchange), body: note.into(), payload: Cow::Borrowed(b"") };
        self.session.record_burst(Side::Client, 0, vec![note])?;
        self.turn_down(burst, request.refusing(exchange, problem))
    }

    /// The request goes nowhere, and is answered when it is its turn.
    fn turn_down(&mut self, burst: &mut Burst<'_>, refusing: Refusing) -> Result<Course, Blocked> {
        burst.discard();
        self.swallows = self.conversation.is_in_content(Side::Client);
        self.refusing = Some(refusing);
        Ok(self.answer_refused(burst)?.map_or(Course::Decided, Course::Pause))
    }

    /// Answers a refused request; how it goes on where not at once.
    fn answer_refused(&mut self, burst: &mut Burst<'_>) -> Result<Option<Next>, Blocked> {
        let Some(refusing) = self.refusing.take() else { return Ok(None) };
        // Answers keep their order, and what was allowed before goes its way.
        let waits = self.conversation.outstanding() > 1;
        if waits || refusing.close && !burst.is_empty() {
            self.refusing = Some(refusing);
            return Ok(Some(if waits { Next::Wait } else { Next::Again }));
        }
        let Refusing { exchange, problem, head_only, close } = refusing;
        self.refused = Some(exchange);
        self.session.record_burst(Side::Server, 0, vec![Teller::blocked(exchange, problem.status)])?;
        self.conversation.refuse_last();
        let answer = problem.answer(self.session.id(), Some(exchange), head_only, close);
        if close {
            return Err(Blocked::Refused { why: format!("exchange {exchange}: {}", problem.detail), answer });
        }
        burst.answer = Some(answer);
        Ok(Some(Next::Again))
    }

    /// Goes on with what waited; how it goes on where not at once.
    pub(super) fn resume(&mut self, burst: &mut Burst<'_>) -> Result<Option<Next>, Blocked> {
        if let Some(mut held) = self.held.take() {
            let Some(approved) = held.answer() else {
                self.held = Some(held);
                return Ok(Some(Next::Held));
            };
            burst.at = held.len;
            burst.recorded = held.len;
            burst.position = Some(self.session.newest());
            if approved {
                self.send(burst, &held.head);
            } else {
                burst.discard();
                self.refusing = Some(held.refused);
            }
        }
        self.answer_refused(burst)
    }

    /// A request is wrong behind its head, and was not asked for yet.
    fn spoiled(&mut self, burst: &mut Burst<'_>) -> Blocked {
        let covered = self.cover(burst, true);
        if let Err(error) = self.record(Side::Client, burst) {
            return error;
        }
        match covered {
            Err(refusal) => self.refuse(Side::Client, refusal, burst.rest()),
            Ok(()) => Blocked::Refused { why: "a request could not be read twice".into(), answer: Vec::new() },
        }
    }
}

/// Content without its codings; none where they cannot be undone as a whole.
fn decoded(head: &RequestHead<'_>, content: Vec<u8>, max: usize) -> Option<Vec<u8>> {
    let codings: Vec<&[u8]> = head.fields.members("content-encoding").collect();
    if codings.is_empty() {
        return Some(content);
    }
    let mut decoder = Decoder::new(&codings, max);
    decoder.feed(&content);
    let decoded = decoder.finish();
    (decoded.end == End::Whole).then_some(decoded.bytes)
}
