//! What the server says.

use std::sync::Arc;

use super::names::{Column, Portal};
use super::{
    Answer, Conversation, Described, Expected, Flaw, HEADER_BYTES, Header, Kind, Place, Progress, Step, limits, run,
};
use crate::session::Side;
use crate::wire::cursor::Cursor;
use crate::wire::postgres::message::{
    BackendKey, CommandComplete, CopyResponse, Malformed, Notification, ParameterDescription, ParameterStatus, Report,
    RowDescription, Status,
};

/// An answer and its exchange.
type Told<'b> = Result<(u32, Answer<'b>), Flaw>;

/// What an error came to.
#[derive(Clone, Copy)]
struct Failed {
    exchange: u32,
    refused: bool,
    late: bool,
}

impl Conversation {
    pub(super) fn answer<'b>(&mut self, header: Header, bytes: &'b [u8]) -> Result<Step<'b>, Flaw> {
        let Header { tag, len } = header;
        // An answer to something else says that there is none to a Sync that may have been dropped.
        let beside = matches!(tag, b'Z' | b'A' | b'K' | b'N' | b'S');
        let over = |front: &mut Expected| match front.kind {
            Kind::CopyEnd => true,
            Kind::MaybeSync => !beside,
            _ => false,
        };
        while self.expected.pop_front_if(over).is_some() {}
        match tag {
            b'D' | b'd' => return self.bulk(header, bytes),
            b'V' if len > limits::POSTGRES_ROW_BYTES_MAX => {
                let exchange = self.function_result()?;
                return Ok(self.begin_pieces(Side::Server, exchange, header, bytes));
            }
            b'E' if len > limits::POSTGRES_JUDGED_BYTES_MAX => {
                let Failed { exchange, .. } = self.fail();
                return Ok(self.begin_pieces(Side::Server, exchange, header, bytes));
            }
            b'N' if len > limits::POSTGRES_JUDGED_BYTES_MAX => {
                let exchange = self.speaking();
                return Ok(self.begin_pieces(Side::Server, exchange, header, bytes));
            }
            b'1' | b'2' | b'3' | b'A' | b'C' | b'E' | b'G' | b'H' | b'I' | b'K' | b'N' | b'R' | b'S' | b'T' | b'V'
            | b'W' | b'Z' | b'c' | b'n' | b's' | b't'
                if len > limits::POSTGRES_JUDGED_BYTES_MAX =>
            {
                return Err(Flaw::TooLarge { tag });
            }
            b'1' | b'2' | b'3' | b'A' | b'C' | b'E' | b'G' | b'H' | b'I' | b'K' | b'N' | b'R' | b'S' | b'T' | b'V'
            | b'W' | b'Z' | b'c' | b'n' | b's' | b't' => {}
            _ if len > limits::POSTGRES_ROW_BYTES_MAX => {
                return Ok(self.begin_pieces(Side::Server, 0, header, bytes));
            }
            _ => {}
        }
        let Some(body) = bytes.get(HEADER_BYTES..len) else { return Ok(Step::NeedMore) };
        let (exchange, answer) = match tag {
            b'1' | b'2' | b'3' | b'I' | b'c' | b'n' | b's' => self.bare(tag, body),
            b'C' => self.complete(CommandComplete::read(body)?),
            b'E' => {
                let report = Report::read(tag, body)?;
                let Failed { exchange, refused, late } = self.fail();
                Ok((exchange, Answer::Error { report, refused, late }))
            }
            b'G' | b'H' | b'W' => self.copy(tag, CopyResponse::read(tag, body)?),
            b'T' => self.columns_told(RowDescription::read(body)?, len),
            b't' => self.parameters(ParameterDescription::read(body)?, len),
            b'V' => self.result_of_function(body),
            b'Z' => self.ready(Status::read(body)?),
            b'A' => Ok((0, Answer::Notification(Notification::read(body)?))),
            b'K' => Ok((0, Answer::Key(BackendKey::read(body)?))),
            b'N' => Ok((self.speaking(), Answer::Notice(Report::read(tag, body)?))),
            b'S' => Ok((self.speaking(), Answer::Parameter(ParameterStatus::read(body)?))),
            b'R' => Err(Flaw::Unasked { tag }),
            _ => Ok((0, Answer::Other(tag))),
        }?;
        Ok(Step::Answer { exchange, len, answer })
    }

    /// The exchange that the server is working on; behind the last one, that one.
    fn speaking(&self) -> u32 {
        match self.expected.front() {
            Some(Expected { kind: Kind::Sync | Kind::MaybeSync, .. }) => self.executed,
            Some(front) => front.exchange,
            None => 0,
        }
    }

    /// The kind of what is answered now, but nothing of what was refused: that can only fail.
    fn front(&self) -> Option<(&Kind, u32)> {
        let front = self.expected.front().filter(|front| !front.refused && !self.progress.failed)?;
        Some((&front.kind, front.exchange))
    }

    /// The oldest message has its answer.
    fn pop(&mut self) -> Option<Expected> {
        self.progress = Progress::default();
        self.expected.pop_front()
    }

    /// The oldest message is done, and what it makes is made.
    fn done(&mut self) -> u32 {
        let Some(done) = self.pop() else { return 0 };
        self.names.settle(done.serial);
        if matches!(done.kind, Kind::Execute(_)) {
            self.executed = done.exchange;
        }
        done.exchange
    }

    /// The portal of what is executed tells the columns of its rows.
    fn begin_result(&mut self) {
        if self.progress.answered {
            return;
        }
        self.progress.answered = true;
        let Some(Expected { kind: Kind::Execute(portal), exchange, .. }) = self.expected.front() else { return };
        self.result = portal.as_ref().map(|portal| (*exchange, Described::ByPortal(Arc::clone(portal))));
    }

    /// Rows and COPY data.
    fn bulk<'b>(&mut self, header: Header, bytes: &'b [u8]) -> Result<Step<'b>, Flaw> {
        let Header { tag, len } = header;
        let Some((kind, exchange)) = self.front() else { return Err(Flaw::Unasked { tag }) };
        let asked = match kind {
            Kind::Execute(_) if tag == b'D' => !self.progress.copies_in && !self.progress.copies_out,
            Kind::Query if tag == b'D' => self.progress.rows,
            Kind::Query | Kind::Execute(_) => self.progress.copies_out,
            _ => false,
        };
        if !asked {
            return Err(Flaw::Unasked { tag });
        }
        if len > limits::POSTGRES_ROW_BYTES_MAX {
            self.begin_result();
            return Ok(self.begin_pieces(Side::Server, exchange, header, bytes));
        }
        let (count, len) = run(tag, bytes);
        if count == 0 {
            return Ok(Step::NeedMore);
        }
        self.begin_result();
        Ok(match tag {
            b'D' => Step::Rows { exchange, rows: count, len },
            _ => Step::CopyData { exchange, messages: count, len },
        })
    }

    /// Answers that say nothing but that they are there.
    fn bare<'b>(&mut self, tag: u8, body: &[u8]) -> Told<'b> {
        if !body.is_empty() {
            return Err(Malformed { tag }.into());
        }
        let unasked = Err(Flaw::Unasked { tag });
        let Some((kind, exchange)) = self.front() else { return unasked };
        Ok(match (tag, kind) {
            (b'1', Kind::Parse { .. }) => (self.done(), Answer::Parsed),
            (b'2', Kind::Bind { .. }) => (self.done(), Answer::Bound),
            (b'3', Kind::Close) => (self.done(), Answer::Closed),
            (b'n', Kind::DescribeStatement(statement)) if self.progress.described => {
                if let Some(statement) = statement {
                    statement.has_columns(None, 0);
                }
                (self.done(), Answer::NoData)
            }
            (b'n', Kind::DescribePortal(portal)) => {
                if let Some(portal) = portal {
                    portal.has_columns(Box::default(), 0);
                }
                (self.done(), Answer::NoData)
            }
            (b'I', Kind::Query) => {
                self.progress.answered = true;
                (exchange, Answer::Empty)
            }
            (b'I', Kind::Execute(_)) => (self.done(), Answer::Empty),
            (b's', Kind::Execute(_)) => {
                self.begin_result();
                (self.done(), Answer::Suspended)
            }
            (b'c', Kind::Query | Kind::Execute(_)) if self.progress.copies_out => {
                self.progress.copies_out = false;
                (exchange, Answer::CopyDone)
            }
            _ => return unasked,
        })
    }

    fn complete<'b>(&mut self, complete: CommandComplete<'b>) -> Told<'b> {
        let copied = self.progress.copies_in;
        let exchange = match self.front() {
            Some((Kind::Query, exchange)) => {
                if !self.progress.rows {
                    self.result = None;
                }
                self.progress = Progress { answered: true, ..Progress::default() };
                exchange
            }
            Some((Kind::Execute(_), _)) => {
                self.begin_result();
                self.done()
            }
            _ => return Err(Flaw::Unasked { tag: b'C' }),
        };
        if copied {
            self.copying = None;
            self.drop_syncs();
        }
        Ok((exchange, Answer::Complete(complete)))
    }

    fn columns_told<'b>(&mut self, columns: RowDescription<'b>, bytes: usize) -> Told<'b> {
        let exchange = match self.front() {
            Some((Kind::Query, exchange)) => {
                self.result = Some((exchange, Described::Here(Column::of(&columns))));
                self.progress.rows = true;
                self.progress.answered = true;
                exchange
            }
            Some((Kind::DescribeStatement(statement), _)) if self.progress.described => {
                if let Some(statement) = statement {
                    statement.has_columns(Some(&columns), bytes);
                }
                self.done()
            }
            Some((Kind::DescribePortal(portal), exchange)) => {
                let described = Self::portal_described(portal.as_ref(), &columns, bytes);
                self.result = Some((exchange, described));
                self.done()
            }
            _ => return Err(Flaw::Unasked { tag: b'T' }),
        };
        Ok((exchange, Answer::Columns(columns)))
    }

    fn portal_described(portal: Option<&Arc<Portal>>, columns: &RowDescription<'_>, bytes: usize) -> Described {
        let columns = Column::of(columns);
        let Some(portal) = portal else { return Described::Here(columns) };
        portal.has_columns(columns, bytes).map_or_else(|| Described::ByPortal(Arc::clone(portal)), Described::Here)
    }

    fn parameters<'b>(&mut self, parameters: ParameterDescription<'b>, bytes: usize) -> Told<'b> {
        let Some((Kind::DescribeStatement(statement), exchange)) = self.front().filter(|_| !self.progress.described)
        else {
            return Err(Flaw::Unasked { tag: b't' });
        };
        if let Some(statement) = statement {
            statement.described(parameters.types.iter(), bytes);
        }
        self.progress.described = true;
        Ok((exchange, Answer::Parameters(parameters)))
    }

    fn function_result(&mut self) -> Result<u32, Flaw> {
        let Some((Kind::FunctionCall, exchange)) = self.front().filter(|_| !self.progress.answered) else {
            return Err(Flaw::Unasked { tag: b'V' });
        };
        self.progress.answered = true;
        Ok(exchange)
    }

    fn result_of_function<'b>(&mut self, body: &'b [u8]) -> Told<'b> {
        let mut cursor = Cursor::new(body);
        let value = match cursor.u32() {
            Some(u32::MAX) if cursor.is_empty() => None,
            Some(len) if len as usize == cursor.rest().len() => Some(cursor.rest()),
            _ => return Err(Malformed { tag: b'V' }.into()),
        };
        Ok((self.function_result()?, Answer::FunctionResult(value)))
    }

    fn copy<'b>(&mut self, tag: u8, response: CopyResponse<'b>) -> Told<'b> {
        let Some((Kind::Query | Kind::Execute(_), exchange)) =
            self.front().filter(|_| !self.progress.copies_in && !self.progress.copies_out)
        else {
            return Err(Flaw::Unasked { tag });
        };
        self.begin_result();
        let answer = match tag {
            b'G' => {
                self.copy_in(exchange);
                Answer::CopyIn(response)
            }
            b'H' => {
                self.progress.copies_out = true;
                Answer::CopyOut(response)
            }
            _ => {
                self.client = Place::Opaque;
                self.server = Place::Opaque;
                Answer::CopyBoth(response)
            }
        };
        Ok((exchange, answer))
    }

    /// Until the client ends its data, the server drops Syncs: also those that the client has sent already, up to where it
    /// has ended the data. If the COPY fails, it drops none of those behind the failure.
    fn copy_in(&mut self, exchange: u32) {
        let until_end = self.expected.iter_mut().take_while(|expected| !matches!(expected.kind, Kind::CopyEnd));
        for sync in until_end.filter(|expected| matches!(expected.kind, Kind::Sync)) {
            sync.kind = Kind::MaybeSync;
        }
        let ended = self.expected.iter().any(|expected| matches!(expected.kind, Kind::CopyEnd));
        self.progress.copies_in = true;
        self.copied = exchange;
        self.copying = (!ended).then_some(exchange);
    }

    /// The server has read COPY data to its end, and dropped the Syncs in it.
    fn drop_syncs(&mut self) {
        let mut within = true;
        self.expected.retain(|expected| {
            let ends = matches!(expected.kind, Kind::CopyEnd);
            let dropped = within && (ends || matches!(expected.kind, Kind::MaybeSync));
            within &= !ends;
            !dropped
        });
    }

    fn ready<'b>(&mut self, status: Status) -> Told<'b> {
        let answered = self.progress.answered;
        let exchange = match self.expected.front() {
            Some(Expected { kind: Kind::Login | Kind::Sync, .. }) => self.done(),
            Some(Expected { kind: Kind::Query | Kind::FunctionCall, .. }) if answered => self.done(),
            Some(Expected { kind: Kind::MaybeSync, .. }) => {
                self.pop();
                self.perhaps_its_next();
                0
            }
            _ => return Err(Flaw::Unasked { tag: b'Z' }),
        };
        if status == Status::Idle {
            // Portals do not outlive their transaction.
            self.names.portals.clear();
        }
        self.status = status;
        self.executed = 0;
        Ok((exchange, Answer::Ready(status)))
    }

    /// The server has failed at what it was working on, and skips what it must.
    fn fail(&mut self) -> Failed {
        let none = Failed { exchange: 0, refused: false, late: false };
        let Some(front) = self.expected.front() else { return none };
        let failed = Failed { exchange: front.exchange, refused: front.refused, late: false };
        self.end_copy_in();
        match self.expected.front().map(|front| &front.kind) {
            Some(Kind::Login) => none,
            Some(Kind::Sync) => Failed { exchange: self.executed, late: self.executed > 0, ..none },
            Some(Kind::Query | Kind::FunctionCall) => {
                self.progress = Progress { answered: true, failed: true, ..Progress::default() };
                failed
            }
            _ => {
                self.skip_to_sync();
                failed
            }
        }
    }

    /// A Sync that may have been dropped has its answer, or the next one has.
    fn perhaps_its_next(&mut self) {
        let mark = |expected: &&mut Expected| !matches!(expected.kind, Kind::CopyEnd | Kind::MaybeSync);
        match self.expected.iter_mut().find(mark) {
            Some(next) if matches!(next.kind, Kind::Sync) => next.kind = Kind::MaybeSync,
            Some(_) => {}
            None => self.maybe_next = true,
        }
    }

    /// A COPY that fails may have failed before its Syncs were read; then they are answered, and what comes behind them is
    /// not skipped.
    fn end_copy_in(&mut self) {
        if !self.progress.copies_in {
            return;
        }
        self.copying = None;
        if self.expected.iter().any(|expected| matches!(expected.kind, Kind::MaybeSync)) {
            self.names.statements.doubt(u64::MAX, None);
            self.names.portals.doubt(u64::MAX, None);
        }
    }

    /// The oldest message has failed; those behind it are skipped up to a Sync, perhaps one that has not come.
    fn skip_to_sync(&mut self) {
        let Some(failed) = self.pop() else { return };
        match failed.kind {
            // The unnamed ones end before new ones are made of what then fails.
            Kind::Parse { unnamed: true } if !failed.refused => self.names.statements.forget(b""),
            Kind::Bind { unnamed: true } if !failed.refused => self.names.portals.forget(b""),
            _ => {}
        }
        let mut serial = failed.serial;
        self.skipped_last = failed.exchange;
        while let Some(skipped) =
            self.expected.pop_front_if(|front| !matches!(front.kind, Kind::Sync | Kind::MaybeSync))
        {
            serial = skipped.serial;
            if !matches!(skipped.kind, Kind::Close | Kind::CopyEnd) && skipped.exchange != failed.exchange {
                self.skip(skipped.exchange);
            }
        }
        self.names.fail(serial);
        self.skipping = self.expected.is_empty();
    }
}
