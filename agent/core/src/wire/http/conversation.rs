//! One connection's messages in order, both sides: which bytes are whose head, framing and content.
//!
//! Owns what must be remembered between two messages: which requests wait for an answer, and who announced the end.
//! Never keeps a byte, never buffers a body; its memory is bounded by [`limits::HTTP_PIPELINE_MAX`].

use std::collections::VecDeque;

use super::chunks::{Chunks, Part};
use super::fault::{Fault, Refusal};
use super::fields::Fields;
use super::head::{Length, RequestHead, ResponseHead};
use super::scan::Scan;
use crate::limits;
use crate::session::Side;

/// What the next bytes of a side are. `len` is how many of them the step covers, from the first on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// More bytes are needed. Those given are kept by the caller, at most [`limits::HTTP_HEAD_BYTES_MAX`], and given
    /// again with more behind them.
    NeedMore,
    /// Of the client only: its next bytes can be read once the server has answered, because so many requests wait, or
    /// because the answer decides whether they are HTTP. The caller keeps them, reads no more of this side, and asks
    /// again when the server side has moved.
    Wait,
    /// No message may begin here any more: the end of the connection was announced. Bytes that come still are not
    /// forwarded. The connection ends when the other side's message has; the client's socket is to be shut down for
    /// writing and read dry before it is closed, or a reset could destroy the response that it has not read yet.
    Over,
    /// A whole request head.
    RequestHead {
        /// Number of the exchange on this connection, from 1.
        exchange: u32,
        /// Bytes covered.
        len: usize,
        /// What it says.
        head: RequestHead<'a>,
    },
    /// A whole response head.
    ResponseHead {
        /// The exchange that it answers; 0 where the server spoke unasked before it closes (408 of an idle server).
        exchange: u32,
        /// Bytes covered.
        len: usize,
        /// What it says.
        head: ResponseHead<'a>,
        /// Another response follows (1xx, not 101): this one has no `End`.
        interim: bool,
    },
    /// Content, all `len` bytes of it; as much as there is.
    Body {
        /// Its exchange.
        exchange: u32,
        /// Bytes covered.
        len: usize,
    },
    /// Chunk-size lines and line ends between content; of exchange 0, an empty line before a request.
    Framing {
        /// Its exchange.
        exchange: u32,
        /// Bytes covered.
        len: usize,
    },
    /// A trailer section with at least one field, and its empty line.
    Trailers {
        /// Its exchange.
        exchange: u32,
        /// Bytes covered.
        len: usize,
        /// What it says.
        fields: Fields<'a>,
    },
    /// A request or a final response is complete. Covers no bytes; comes once for each, but for a body that the end of
    /// the connection completes ([`Ended::completed`]).
    End {
        /// Its exchange.
        exchange: u32,
        /// Whose message it was.
        side: Side,
    },
    /// Everything from here on of this side is in another protocol (after 101, or 2xx to CONNECT).
    Upgraded,
}

impl Step<'_> {
    /// How many bytes are covered.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::RequestHead { len, .. }
            | Self::ResponseHead { len, .. }
            | Self::Body { len, .. }
            | Self::Framing { len, .. }
            | Self::Trailers { len, .. } => *len,
            Self::NeedMore | Self::Wait | Self::Over | Self::End { .. } | Self::Upgraded => 0,
        }
    }

    /// Whether it covers nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the end of a side's bytes did to its messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ended {
    /// The exchange whose response is complete by it.
    pub completed: Option<u32>,
    /// The exchange whose message it cut off: in its head or in its content.
    pub cut: Option<u32>,
    /// At the server's end: exchanges that have no final response head, oldest first.
    pub unanswered: Vec<u32>,
}

/// Where a side is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Before or in a head.
    Head,
    /// Behind the head of a message.
    Content { exchange: u32, body: Body },
    /// In another protocol.
    Opaque,
    /// Behind the last message.
    Over,
}

/// What is left of a message's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Bytes(u64),
    Chunked(Chunks),
    UntilClose,
}

const NO_BODY: Body = Body::Bytes(0);

/// One direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    pub(super) place: Place,
    scan: Scan,
    /// After its present message this side sends none.
    pub(super) last: bool,
}

impl Half {
    const fn new() -> Self {
        Self { place: Place::Head, scan: Scan::new(), last: false }
    }
}

/// A request that has no complete final response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    exchange: u32,
    kind: Kind,
    /// It may be answered with 101.
    upgrade: bool,
    answered: bool,
}

/// What of the method decides about the response's content (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Head,
    Connect,
    Other,
}

/// The messages of one connection.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub(super) client: Half,
    pub(super) server: Half,
    pub(super) pending: VecDeque<Pending>,
    exchanges: u32,
    /// The request under way waits for 100, and nothing of its content has come.
    pub(super) expecting: bool,
    /// An empty line before the next request has come.
    blank: bool,
    /// The server has switched protocols: the client follows after its present message.
    switched: bool,
    refusal: Option<Refusal>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Of a connection on which nothing was sent.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            client: Half::new(),
            server: Half::new(),
            pending: VecDeque::new(),
            exchanges: 0,
            expecting: false,
            blank: false,
            switched: false,
            refusal: None,
        }
    }

    /// How many exchanges have begun.
    #[must_use]
    pub const fn exchanges(&self) -> u32 {
        self.exchanges
    }

    /// How many requests have no complete final response.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// The exchange that the server answers next, or is answering; 0 where no request waits.
    #[must_use]
    pub fn answered_next(&self) -> u32 {
        self.pending.front().map_or(0, |pending| pending.exchange)
    }

    /// Whether a message of this side has begun whose content is not complete.
    #[must_use]
    pub const fn is_in_content(&self, side: Side) -> bool {
        matches!(self.place(side), Place::Content { .. })
    }

    /// Whether a message of this side has begun of whose content something is still to come.
    #[must_use]
    pub const fn awaits_content(&self, side: Side) -> bool {
        match self.place(side) {
            Place::Content { body, .. } => !matches!(body, NO_BODY | Body::Chunked(Chunks::Done)),
            _ => false,
        }
    }

    /// Whether nothing may come from this side any more.
    #[must_use]
    pub const fn is_over(&self, side: Side) -> bool {
        matches!(self.place(side), Place::Over)
    }

    const fn place(&self, side: Side) -> Place {
        match side {
            Side::Client => self.client.place,
            Side::Server => self.server.place,
        }
    }

    /// Whether the newest request's answer decides what the client's next bytes are.
    pub(super) fn may_switch(&self) -> bool {
        self.pending.back().is_some_and(|last| last.may_switch())
    }

    /// The next step of `side`, whose bytes that no step has covered yet are `bytes`, perhaps none. To be called until
    /// it covers nothing and is no [`Step::End`].
    ///
    /// # Errors
    /// For a message that must not be passed on. From then on every call tells the same.
    pub fn next<'a>(&mut self, side: Side, bytes: &'a [u8]) -> Result<Step<'a>, Refusal> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        let step = match (self.half(side).place, side) {
            (Place::Opaque, _) => Ok(Step::Upgraded),
            // Another protocol may follow a last request, too: CONNECT of HTTP/1.0, as Python sends it.
            (Place::Over, Side::Client) if !self.server.last && self.may_switch() => {
                return Ok(if bytes.is_empty() { Step::NeedMore } else { Step::Wait });
            }
            (Place::Over, _) => Ok(Step::Over),
            (Place::Content { exchange, body }, _) => self.content(side, exchange, body, bytes),
            (Place::Head, Side::Client) => self.request(bytes),
            (Place::Head, Side::Server) => self.response(bytes),
        };
        step.map_err(|fault| *self.refusal.insert(Refusal { fault, side }))
    }

    /// `side` sends nothing more. Its bytes must have been stepped through before.
    pub fn end(&mut self, side: Side) -> Ended {
        let half = *self.half(side);
        let mut ended = Ended::default();
        match half.place {
            Place::Content { exchange, body: Body::UntilClose } => {
                ended.completed = Some(exchange);
                self.pending.pop_front();
            }
            Place::Content { exchange, body } if body != NO_BODY && body != Body::Chunked(Chunks::Done) => {
                ended.cut = Some(exchange);
            }
            Place::Head if half.scan.has_begun() => {
                ended.cut = Some(match side {
                    Side::Client => self.exchanges.saturating_add(1),
                    Side::Server => self.pending.front().map_or(0, |pending| pending.exchange),
                });
            }
            _ => {}
        }
        if side == Side::Server && half.place != Place::Opaque {
            let unanswered = self.pending.iter().filter(|pending| !pending.answered);
            ended.unanswered = unanswered.map(|pending| pending.exchange).collect();
        }
        if half.place != Place::Opaque {
            self.half(side).place = Place::Over;
        }
        ended
    }

    const fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn request<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Fault> {
        if self.server.last {
            self.client.place = Place::Over;
            return Ok(Step::Over);
        }
        if bytes.is_empty() {
            return Ok(Step::NeedMore);
        }
        if self.pending.len() >= limits::HTTP_PIPELINE_MAX || self.may_switch() {
            return Ok(Step::Wait);
        }
        match bytes {
            // RFC 9112 section 2.2: clients are known that send one behind a body.
            [b'\r', b'\n', ..] if self.blank => return Err(Fault::EmptyLines),
            [b'\r', b'\n', ..] => {
                self.blank = true;
                self.client.scan.restart();
                return Ok(Step::Framing { exchange: 0, len: 2 });
            }
            _ => {}
        }
        let Some(len) = self.client.scan.block(bytes, limits::HTTP_HEAD_BYTES_MAX)? else {
            return Ok(Step::NeedMore);
        };
        let head = RequestHead::parse(bytes.get(..len).unwrap_or_default())?;
        self.begin_request(&head);
        Ok(Step::RequestHead { exchange: self.exchanges, len, head })
    }

    fn begin_request(&mut self, head: &RequestHead<'_>) {
        self.exchanges = self.exchanges.saturating_add(1);
        let exchange = self.exchanges;
        let kind = match head.method {
            "HEAD" => Kind::Head,
            "CONNECT" => Kind::Connect,
            _ => Kind::Other,
        };
        let body = match head.length {
            Length::Unsaid => NO_BODY,
            Length::Bytes(count) => Body::Bytes(count),
            Length::Chunked => Body::Chunked(Chunks::Size),
        };
        self.pending.push_back(Pending { exchange, kind, upgrade: head.asks_upgrade(), answered: false });
        self.expecting = body != NO_BODY && head.expects_continue();
        self.blank = false;
        self.client = Half { place: Place::Content { exchange, body }, scan: Scan::new(), last: !head.persists() };
    }

    fn response<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Fault> {
        const START: &[u8] = b"HTTP/1.";
        // What is no HTTP would otherwise be waited for until an empty line comes.
        if bytes.iter().zip(START).any(|(byte, expected)| byte != expected) {
            return Err(Fault::StartLine);
        }
        if bytes.is_empty() {
            return Ok(Step::NeedMore);
        }
        let Some(len) = self.server.scan.block(bytes, limits::HTTP_HEAD_BYTES_MAX)? else {
            return Ok(Step::NeedMore);
        };
        let head = ResponseHead::parse(bytes.get(..len).unwrap_or_default())?;
        let interim = head.is_interim();
        let exchange = self.begin_response(&head)?;
        Ok(Step::ResponseHead { exchange, len, head, interim })
    }

    fn begin_response(&mut self, head: &ResponseHead<'_>) -> Result<u32, Fault> {
        self.server.scan.restart();
        let Some(pending) = self.pending.front_mut() else {
            // A server may say why it closes an idle connection; everything else would be taken for the answer to the
            // next request.
            if head.status < 400 {
                return Err(Fault::UnaskedResponse);
            }
            self.server.last = true;
            self.server.place = Place::Content { exchange: 0, body: body_of(head, Kind::Other) };
            return Ok(0);
        };
        let exchange = pending.exchange;
        if head.is_interim() {
            self.expecting &= head.status != 100;
            return Ok(exchange);
        }
        if head.status == 101 && !pending.upgrade {
            return Err(Fault::UnaskedUpgrade);
        }
        pending.answered = true;
        let kind = pending.kind;
        self.switched = head.status == 101 || (kind == Kind::Connect && (200..300).contains(&head.status));
        let body = if self.switched { NO_BODY } else { body_of(head, kind) };
        self.server.place = Place::Content { exchange, body };
        self.server.last = !self.switched && (body == Body::UntilClose || !head.persists());
        self.give_up_expecting(exchange, head.status);
        Ok(exchange)
    }

    /// The client waited for 100 and is told otherwise. It may leave the content out and close, says RFC 9110 section
    /// 10.1.1; peers are known that leave it out and go on with another request, which we could not tell from the
    /// content. So nothing more is taken from it.
    fn give_up_expecting(&mut self, answered: u32, status: u16) {
        let waits = matches!(self.client.place, Place::Content { exchange, .. } if exchange == answered);
        if self.expecting && waits && status >= 300 {
            self.client.place = Place::Over;
            self.server.last = true;
        }
    }

    fn content<'a>(&mut self, side: Side, exchange: u32, body: Body, bytes: &'a [u8]) -> Result<Step<'a>, Fault> {
        let (step, body) = match body {
            NO_BODY | Body::Chunked(Chunks::Done) => {
                self.complete(side);
                return Ok(Step::End { exchange, side });
            }
            _ if bytes.is_empty() => return Ok(Step::NeedMore),
            Body::UntilClose => (Step::Body { exchange, len: bytes.len() }, body),
            Body::Bytes(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                (Step::Body { exchange, len }, Body::Bytes(left - len as u64))
            }
            Body::Chunked(mut chunks) => {
                let step = match chunks.step(bytes, &mut self.half(side).scan)? {
                    Part::NeedMore => return Ok(Step::NeedMore),
                    Part::Content(len) => Step::Body { exchange, len },
                    Part::Framing(len) => Step::Framing { exchange, len },
                    Part::Trailers(len, fields) => Step::Trailers { exchange, len, fields },
                };
                (step, Body::Chunked(chunks))
            }
        };
        if side == Side::Client {
            self.expecting = false;
        }
        self.half(side).place = Place::Content { exchange, body };
        Ok(step)
    }

    /// The message of `side` is complete.
    fn complete(&mut self, side: Side) {
        if side == Side::Server {
            self.pending.pop_front();
        }
        let last = match side {
            Side::Client => self.client.last,
            Side::Server => self.server.last || (self.client.last && self.pending.is_empty()),
        };
        let half = self.half(side);
        half.scan.restart();
        half.place = if last { Place::Over } else { Place::Head };
        if self.switched {
            self.half(side).place = Place::Opaque;
            if self.client.place == Place::Head || self.client.place == Place::Over {
                self.client.place = Place::Opaque;
            }
        }
    }
}

impl Pending {
    /// Whether its answer decides what the client's next bytes are.
    const fn may_switch(self) -> bool {
        self.upgrade || matches!(self.kind, Kind::Connect)
    }
}

/// The content of a response (RFC 9112 section 6.3).
const fn body_of(head: &ResponseHead<'_>, kind: Kind) -> Body {
    match (kind, head.status, head.length) {
        (Kind::Head, _, _) | (_, 100..200 | 204 | 304, _) => NO_BODY,
        (_, _, Length::Bytes(count)) => Body::Bytes(count),
        (_, _, Length::Chunked) => Body::Chunked(Chunks::Size),
        (_, _, Length::Unsaid) => Body::UntilClose,
    }
}
