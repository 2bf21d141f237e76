//! What the client says.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::names::{Asked, Doubt, Found, Portal, Statement};
use super::{Conversation, Expected, HEADER_BYTES, Header, Kind, Place, Request, Step, limits, run};
use crate::session::Side;
use crate::wire::postgres::fault::Flaw;
use crate::wire::postgres::message::{
    Bind, CopyFail, Execute, FunctionCall, Malformed, Named, Object, Parse, Query, names_of,
};

/// A message and its exchange.
type Told<'b> = Result<(u32, Request<'b>), Stop>;

/// Why a message is not told.
#[derive(Debug)]
enum Stop {
    /// It depends on an answer.
    Wait,
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Conversation {
    pub(super) fn request<'b>(&mut self, header: Header, bytes: &'b [u8]) -> Result<Step<'b>, Flaw> {
        let Header { tag, len } = header;
        match tag {
            b'd' => return Ok(self.copy_data(header, bytes)),
            b'Q' | b'P' | b'B' | b'F' if len > limits::POSTGRES_JUDGED_BYTES_MAX => {
                return self.too_large(header, bytes);
            }
            b'D' | b'E' | b'C' | b'S' | b'H' | b'c' | b'f' | b'X' if len > limits::POSTGRES_JUDGED_BYTES_MAX => {
                return Err(Flaw::TooLarge { tag });
            }
            b'Q' | b'P' | b'B' | b'F' | b'D' | b'E' | b'C' | b'S' | b'H' | b'c' | b'f' | b'X' => {}
            _ if len > limits::POSTGRES_ROW_BYTES_MAX => {
                self.serial += 1;
                return Ok(self.begin_pieces(Side::Client, 0, header, bytes));
            }
            _ => {}
        }
        let Some(body) = bytes.get(HEADER_BYTES..len) else { return Ok(Step::NeedMore) };
        if self.is_full()
            && self.copying.is_none()
            && matches!(tag, b'Q' | b'P' | b'B' | b'F' | b'D' | b'E' | b'C' | b'S')
        {
            return Ok(Step::Wait);
        }
        self.serial += 1;
        match self.tell(tag, body) {
            Ok((exchange, request)) => Ok(Step::Request { exchange, len, request }),
            Err(Stop::Malformed(malformed)) => Err(malformed.into()),
            Err(Stop::Wait) => {
                self.serial -= 1;
                Ok(Step::Wait)
            }
        }
    }

    fn tell<'b>(&mut self, tag: u8, body: &'b [u8]) -> Told<'b> {
        match tag {
            b'Q' => Ok(self.query(Query::read(body)?)),
            b'P' => Ok(self.parse(Parse::read(body)?)),
            b'B' => self.bind(Bind::read(body)?),
            b'D' => self.describe(Named::read(tag, body)?),
            b'E' => self.execute(Execute::read(body)?),
            b'C' => self.close(Named::read(tag, body)?),
            b'F' => {
                let call = FunctionCall::read(body)?;
                Ok((self.function(), Request::FunctionCall(call)))
            }
            b'f' => {
                let fail = CopyFail::read(body)?;
                Ok((self.copy_end(), Request::CopyFail(fail)))
            }
            _ => self.plain(tag, body),
        }
    }

    /// Messages without a body, and those of unknown types.
    fn plain<'b>(&mut self, tag: u8, body: &[u8]) -> Told<'b> {
        if !body.is_empty() && matches!(tag, b'S' | b'H' | b'c' | b'X') {
            return Err(Malformed { tag }.into());
        }
        Ok(match tag {
            b'S' => {
                self.sync();
                (0, Request::Sync)
            }
            b'H' => (0, Request::Flush),
            b'c' => (self.copy_end(), Request::CopyDone),
            b'X' => {
                self.client = Place::Over;
                (0, Request::Terminate)
            }
            _ => (0, Request::Other(tag)),
        })
    }

    fn is_full(&self) -> bool {
        !self.skipping && self.expected.len() >= limits::POSTGRES_PIPELINE_MAX
    }

    /// An answer is owed to the newest message, unless the server skips it.
    fn expect(&mut self, exchange: u32, kind: Kind) {
        self.maybe_next = false;
        if !self.skipping {
            self.expected.push_back(Expected { serial: self.serial, exchange, kind, refused: false });
        } else if !matches!(kind, Kind::Close) {
            self.skip(exchange);
        }
    }

    pub(super) fn skip(&mut self, exchange: u32) {
        if exchange > 0 && exchange != self.skipped_last {
            self.skipped_last = exchange;
            self.skipped.push_back(exchange);
        }
    }

    fn query<'b>(&mut self, query: Query<'b>) -> (u32, Request<'b>) {
        let exchange = self.open();
        self.end_unnamed();
        self.expect(exchange, Kind::Query);
        (exchange, Request::Query(query))
    }

    fn parse<'b>(&mut self, parse: Parse<'b>) -> (u32, Request<'b>) {
        (self.make_statement(parse.name, Some(&parse)), Request::Parse(parse))
    }

    fn make_statement(&mut self, name: &[u8], parse: Option<&Parse<'_>>) -> u32 {
        let exchange = self.open();
        let statement = self.names.statement(exchange, parse);
        self.names.statements.propose(self.serial, self.segment, name, Some(statement));
        self.expect(exchange, Kind::Parse { unnamed: name.is_empty() });
        exchange
    }

    fn bind<'b>(&mut self, bind: Bind<'b>) -> Told<'b> {
        let formats = Asked::of(&bind.result_formats);
        let (exchange, statement) = self.make_portal(bind.portal, bind.statement, formats)?;
        Ok((exchange, Request::Bind { bind, statement }))
    }

    fn make_portal(
        &mut self,
        portal: &[u8],
        statement: &[u8],
        asked: Asked,
    ) -> Result<(u32, Option<Arc<Statement>>), Stop> {
        let statement = self.statement(statement)?;
        let exchange = match &statement {
            Some(first) if !first.bound.swap(true, Ordering::Relaxed) => first.exchange,
            _ => self.open(),
        };
        let made = self.names.portal(exchange, statement.clone(), asked);
        self.names.portals.propose(self.serial, self.segment, portal, Some(made));
        self.expect(exchange, Kind::Bind { unnamed: portal.is_empty() });
        Ok((exchange, statement))
    }

    fn describe<'b>(&mut self, named: Named<'b>) -> Told<'b> {
        let (exchange, kind) = match named.object {
            Object::Statement => {
                let statement = self.statement(named.name)?;
                (statement.as_ref().map(|statement| statement.exchange), Kind::DescribeStatement(statement))
            }
            Object::Portal => {
                let portal = self.portal(named.name)?;
                (portal.as_ref().map(|portal| portal.exchange), Kind::DescribePortal(portal))
            }
        };
        let exchange = exchange.unwrap_or_else(|| self.open());
        self.expect(exchange, kind);
        Ok((exchange, Request::Describe(named)))
    }

    fn execute<'b>(&mut self, execute: Execute<'b>) -> Told<'b> {
        let portal = self.portal(execute.portal)?;
        // What an unknown portal runs is unknown, too.
        let doubt = portal.as_ref().map_or(Some(Doubt::All), |portal| portal.doubts.get().copied());
        if let Some(doubt) = doubt {
            self.names.doubt(self.serial, doubt, portal.as_ref());
        }
        let (exchange, known) = match &portal {
            Some(portal) => (portal.exchange, true),
            None => (self.open(), false),
        };
        self.expect(exchange, Kind::Execute(portal));
        Ok((exchange, Request::Execute { execute, known }))
    }

    fn close<'b>(&mut self, named: Named<'b>) -> Told<'b> {
        let (serial, segment) = (self.serial, self.segment);
        let exchange = match named.object {
            Object::Statement => {
                let statement = self.statement(named.name)?;
                self.names.statements.propose(serial, segment, named.name, None);
                statement.map(|statement| statement.exchange)
            }
            Object::Portal => {
                let portal = self.portal(named.name)?;
                self.names.portals.propose(serial, segment, named.name, None);
                portal.map(|portal| portal.exchange)
            }
        };
        let exchange = exchange.unwrap_or(0);
        self.expect(exchange, Kind::Close);
        Ok((exchange, Request::Close(named)))
    }

    fn function(&mut self) -> u32 {
        let exchange = self.open();
        self.expect(exchange, Kind::FunctionCall);
        exchange
    }

    fn sync(&mut self) {
        if self.copying.is_some() {
            // Servers drop it there: libpq sends one before it can know that it is in a COPY.
            self.mark(0, Kind::MaybeSync);
            return;
        }
        if self.skipping {
            self.skipping = false;
            self.names.fail(self.serial);
        }
        self.skipped_last = 0;
        let kind = if self.maybe_next { Kind::MaybeSync } else { Kind::Sync };
        self.expect(0, kind);
        self.segment += 1;
    }

    /// What a statement's name stands for, where that is known.
    fn statement(&self, name: &[u8]) -> Result<Option<Arc<Statement>>, Stop> {
        self.settled(self.names.statements.find(name, self.segment))
    }

    fn portal(&self, name: &[u8]) -> Result<Option<Arc<Portal>>, Stop> {
        self.settled(self.names.portals.find(name, self.segment))
    }

    fn settled<T>(&self, found: Found<T>) -> Result<Option<Arc<T>>, Stop> {
        match found {
            Found::Is(it) => Ok(Some(it)),
            Found::Unknown => Ok(None),
            // A server in COPY ends the connection over any other message; it would be waited for in vain.
            Found::Wait if self.copying.is_some() => Ok(None),
            Found::Wait => Err(Stop::Wait),
        }
    }

    fn copy_data<'b>(&mut self, header: Header, bytes: &'b [u8]) -> Step<'b> {
        let exchange = self.takes_copy_data();
        if header.len > limits::POSTGRES_ROW_BYTES_MAX {
            return self.begin_pieces(Side::Client, exchange, header, bytes);
        }
        match run(header.tag, bytes) {
            (0, _) => Step::NeedMore,
            (messages, len) => Step::CopyData { exchange, messages, len },
        }
    }

    /// The exchange of COPY data that comes now; the newest one that could begin a COPY where none has begun yet.
    fn takes_copy_data(&self) -> u32 {
        self.copying.unwrap_or_else(|| {
            let runs = |expected: &&Expected| matches!(expected.kind, Kind::Query | Kind::Execute(_));
            self.expected.iter().rev().find(runs).map_or(self.copied, |expected| expected.exchange)
        })
    }

    fn copy_end(&mut self) -> u32 {
        let exchange = self.takes_copy_data();
        self.copying = None;
        self.mark(exchange, Kind::CopyEnd);
        exchange
    }

    /// Remembers where something stands that is not owed an answer; more than there is room for makes no sense.
    fn mark(&mut self, exchange: u32, kind: Kind) {
        if !self.is_full() && !self.expected.is_empty() {
            self.expected.push_back(Expected { serial: self.serial, exchange, kind, refused: false });
        }
    }

    /// A message that cannot be judged. Its names stand at its beginning.
    fn too_large<'b>(&mut self, header: Header, bytes: &'b [u8]) -> Result<Step<'b>, Flaw> {
        let Header { tag, len } = header;
        let seen = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let seen = seen.get(..seen.len().min(limits::POSTGRES_ROW_BYTES_MAX)).unwrap_or_default();
        let Some((first, second)) = names_of(tag, seen) else {
            let more = seen.len() < limits::POSTGRES_ROW_BYTES_MAX;
            return if more { Ok(Step::NeedMore) } else { Err(Malformed { tag }.into()) };
        };
        if self.is_full() {
            return Ok(Step::Wait);
        }
        self.serial += 1;
        let mut bound = None;
        let exchange = match tag {
            b'P' => self.make_statement(first, None),
            b'B' => {
                let Ok((exchange, statement)) = self.make_portal(first, second, Asked::Unknown) else {
                    self.serial -= 1;
                    return Ok(Step::Wait);
                };
                bound = statement;
                exchange
            }
            b'F' => self.function(),
            _ => self.query(Query { text: b"" }).0,
        };
        self.client = Place::Pieces { exchange, tag, first: true, left: len };
        Ok(Step::TooLarge { exchange, tag, bytes: len, statement: bound })
    }
}
