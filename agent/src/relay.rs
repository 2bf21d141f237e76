//! The only loop that moves bytes between client and target.
//!
//! Never forwards a byte before the journal has it (law 1), never holds more than one burst and one unfinished head per
//! direction (law 5), never looks into the bytes: what they are, and what may be shown of them, is the tap's to say.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crewtap_core::limits;
use crewtap_core::session::{Outcome, Side};

use tokio::sync::Notify;

use crate::journal::Position;
use crate::leg::{Farewell, Leg, Read};
use crate::recorder::Unrecorded;
use crate::session::Session;

/// What a tap did with bytes that it was shown.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// So many of them are on record, and may be forwarded; the rest is shown again with more behind it.
    pub len: usize,
    /// The newest record that must be durable before they go.
    pub position: Option<Position>,
    /// How it goes on with the rest.
    pub next: Next,
}

/// How a direction goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With more bytes behind the rest.
    More,
    /// With the rest as it is, once what was taken is forwarded.
    Again,
    /// Nothing is read from this side before the other side has moved; then the rest is shown again.
    Wait,
    /// Nothing may come from this side any more: the rest is dropped. A server's end is told to the client at once. A client
    /// is read on and what it says is dropped, until it ends by itself: its target must not take a request's end for the
    /// client's, and a socket that is closed with unread bytes would destroy the answer that its client has not read yet.
    Over,
}

impl Taken {
    /// All of it, and more may come.
    #[must_use]
    pub fn all(bytes: &[u8], position: Option<Position>) -> Self {
        Self { len: bytes.len(), position, next: Next::More }
    }
}

/// Why a tap does not let bytes pass.
#[derive(Debug)]
pub enum Blocked {
    /// What the bytes are cannot be recorded.
    Unrecorded(Unrecorded),
    /// They must not be forwarded.
    Refused {
        /// Why, for the record.
        why: String,
        /// What the client is told before its connection ends; nothing where an answer has begun already.
        answer: Vec<u8>,
    },
}

impl From<Unrecorded> for Blocked {
    fn from(error: Unrecorded) -> Self {
        Self::Unrecorded(error)
    }
}

/// Sees everything before it is forwarded, and puts it on record.
pub trait Tap {
    /// Records the next bytes of one side, or as many of them as it can make sense of now.
    ///
    /// # Errors
    /// When they cannot be recorded or must not pass: then none of them is forwarded.
    fn take(&mut self, side: Side, bytes: &[u8]) -> Result<Taken, Blocked>;

    /// A side has said everything; `rest` are its bytes that were not taken yet. What it returns is forwarded.
    ///
    /// # Errors
    /// As [`Tap::take`].
    fn ended(&mut self, side: Side, rest: &[u8], farewell: Farewell) -> Result<Taken, Blocked>;
}

/// What the client had said, and whether it had gone, before the target was dialled.
#[derive(Debug, Default)]
pub struct First {
    /// Its bytes; not yet on record and not yet forwarded.
    pub bytes: Vec<u8>,
    /// Why it cannot say more: a socket tells its reset only once.
    pub gone: Option<io::Error>,
}

/// Why one direction stopped.
#[derive(Debug)]
enum Stop {
    /// Reading from this side failed.
    Read(Side, io::Error),
    /// Writing to this side failed.
    Write(Side, io::Error),
    /// The tap, or the disk, let nothing pass.
    Blocked(Blocked),
}

/// How a relay ended.
#[derive(Debug)]
pub struct End {
    /// The outcome for the record.
    pub outcome: Outcome,
    /// What went wrong, in words.
    pub error: Option<String>,
}

thread_local! {
    /// One buffer per thread: a burst is read, recorded and written without an await in between, so idle sessions
    /// hold no memory.
    static BURST: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::RELAY_BUFFER_BYTES]);
}

/// Relays until both sides have ended or nobody is left to relay for, `first` being what is known of the client already.
pub async fn relay<T: Tap>(session: &Session, tap: &mut T, client: &Leg, target: &Leg, first: First) -> End {
    // However this future ends, cancelled or with its whole agent, no side takes it for an orderly end.
    client.end_abruptly();
    target.end_abruptly();
    let tap = RefCell::new(tap);
    let moved = [Notify::new(), Notify::new()];
    let [client_moved, target_moved] = &moved;
    let (up_over, down_over) = (Cell::new(false), Cell::new(false));
    let up = Direction {
        session,
        tap: &tap,
        side: Side::Client,
        from: client,
        to: target,
        moved: client_moved,
        other_moved: target_moved,
        owes: Cell::new(false),
        over: &up_over,
        other_over: &down_over,
    };
    let down = Direction {
        session,
        tap: &tap,
        side: Side::Server,
        from: target,
        to: client,
        moved: target_moved,
        other_moved: client_moved,
        owes: Cell::new(false),
        over: &down_over,
        other_over: &up_over,
    };
    let going_up = std::pin::pin!(up.pump(first));
    let going_down = std::pin::pin!(down.pump(First::default()));
    let result = tokio::select! {
        result = both(going_up, going_down) => result,
        () = session.abandoned() => return End::abandoned(),
    };
    match result {
        Ok(()) => {
            client.end_in_order();
            target.end_in_order();
            End { outcome: Outcome::Completed, error: None }
        }
        Err(Stop::Blocked(Blocked::Refused { why, answer })) => {
            // In the middle of another answer it would be read as a part of that.
            if !down.owes.get() {
                tell(client, &answer).await;
            }
            End { outcome: Outcome::Refused, error: Some(why) }
        }
        Err(stop) => stop.into_end(),
    }
}

/// The client is told why its connection ends, if it listens.
async fn tell(client: &Leg, answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let telling = async {
        let mut rest = answer;
        while !rest.is_empty() {
            let written = client.write(rest).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        client.flush().await?;
        client.end(Farewell::Orderly).await?;
        client.end_in_order();
        discard(client).await
    };
    // A client that says on and on has been told enough.
    let _ = tokio::time::timeout(limits::FAREWELL_WAIT, telling).await;
}

/// Reads a side to its end, and drops what it says.
async fn discard(from: &Leg) -> io::Result<Farewell> {
    loop {
        match poll_fn(|cx| BURST.with_borrow_mut(|bytes| from.poll_read(cx, bytes))).await? {
            Read::Bytes(_) => tokio::task::consume_budget().await,
            Read::End(farewell) => return Ok(farewell),
        }
    }
}

/// Drives both directions. A side that takes nothing more may still have something to say (a server that
/// answers and closes early): then the other direction runs to its own end first, as it would without us.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<(), Stop>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Stop>>>,
) -> Result<(), Stop> {
    tokio::select! {
        result = &mut up => match result {
            Ok(()) => down.await,
            Err(stop @ Stop::Write(..)) => down.await.and(Err(stop)),
            Err(stop) => Err(stop),
        },
        result = &mut down => match result {
            Ok(()) => up.await,
            Err(stop @ Stop::Write(..)) => up.await.and(Err(stop)),
            Err(stop) => Err(stop),
        },
    }
}

impl From<Blocked> for Stop {
    fn from(blocked: Blocked) -> Self {
        Self::Blocked(blocked)
    }
}

impl Stop {
    fn into_end(self) -> End {
        match self {
            Self::Read(side, error) | Self::Write(side, error) => {
                let outcome = match side {
                    Side::Client => Outcome::ClientReset,
                    Side::Server => Outcome::UpstreamReset,
                };
                End { outcome, error: Some(error.to_string()) }
            }
            Self::Blocked(Blocked::Unrecorded(error)) => {
                End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) }
            }
            Self::Blocked(Blocked::Refused { why, .. }) => End { outcome: Outcome::Refused, error: Some(why) },
        }
    }
}

impl End {
    /// The run is over, and nothing moves any more.
    #[must_use]
    pub fn abandoned() -> Self {
        let why = format!("the run had ended, and nothing moved for {} s", limits::DRAIN_WAIT.as_secs());
        Self { outcome: Outcome::Aborted, error: Some(why) }
    }
}

/// What one burst came to.
enum Burst {
    /// The side has ended.
    End(Farewell),
    /// All that may be was forwarded.
    Forwarded(Next),
    /// This rest waits for room at the other side, or for the disk.
    Rest(Vec<u8>, Option<Position>, Next),
}

struct Direction<'a, T> {
    session: &'a Session,
    tap: &'a RefCell<&'a mut T>,
    side: Side,
    from: &'a Leg,
    to: &'a Leg,
    /// Told when this direction has forwarded something, or has ended.
    moved: &'a Notify,
    other_moved: &'a Notify,
    /// Something that was read and recorded is not forwarded yet.
    owes: Cell<bool>,
    /// This direction moves nothing more.
    over: &'a Cell<bool>,
    other_over: &'a Cell<bool>,
}

impl<T: Tap> Direction<'_, T> {
    /// Moves bytes from one side to the other until the first ends, then ends the other.
    async fn pump(&self, first: First) -> Result<(), Stop> {
        let result = self.pump_to_the_end(first).await;
        self.over.set(true);
        self.moved.notify_one();
        result
    }

    async fn pump_to_the_end(&self, first: First) -> Result<(), Stop> {
        // What the tap has not taken yet.
        let mut held = first.bytes;
        let mut next = if held.is_empty() { Next::More } else { Next::Again };
        let mut gone = first.gone;
        let farewell = loop {
            next = match next {
                Next::Over => break None,
                Next::Again => self.again(&mut held).await?,
                Next::Wait => {
                    self.other_moved.notified().await;
                    self.again(&mut held).await?
                }
                Next::More => {
                    if let Some(error) = gone.take() {
                        return Err(Stop::Read(self.side, error));
                    }
                    match poll_fn(|cx| self.poll_burst(cx, &mut held)).await? {
                        Burst::End(farewell) => break Some(farewell),
                        Burst::Forwarded(next) => {
                            tokio::task::consume_budget().await;
                            next
                        }
                        Burst::Rest(rest, position, next) => {
                            self.forward(&rest, position).await?;
                            next
                        }
                    }
                }
            };
        };
        let how = farewell.unwrap_or(Farewell::Orderly);
        let taken = self.tap.borrow_mut().ended(self.side, &held, how)?;
        self.forward(held.get(..taken.len).unwrap_or_default(), taken.position).await?;
        drop(held);
        let farewell = match farewell {
            Some(farewell) => farewell,
            None if self.side == Side::Client => self.read_dry(gone).await?,
            None => Farewell::Orderly,
        };
        match self.to.end(farewell).await {
            // The other side has gone already; what it still had to say was read by the other direction.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result.map_err(|error| Stop::Write(self.other(), error)),
        }
    }

    /// Waits for the end of a client that may say nothing more; not for long once it has been told everything.
    async fn read_dry(&self, gone: Option<io::Error>) -> Result<Farewell, Stop> {
        if let Some(error) = gone {
            return Err(Stop::Read(self.side, error));
        }
        let told_everything = async {
            while !self.other_over.get() {
                self.other_moved.notified().await;
            }
            tokio::time::sleep(limits::FAREWELL_WAIT).await;
        };
        tokio::select! {
            farewell = discard(self.from) => farewell.map_err(|error| Stop::Read(self.side, error)),
            () = told_everything => Ok(Farewell::Orderly),
        }
    }

    /// Shows the tap again what it has not taken.
    async fn again(&self, held: &mut Vec<u8>) -> Result<Next, Stop> {
        let taken = self.take(held)?;
        self.forward(held.get(..taken.len).unwrap_or_default(), taken.position).await?;
        held.drain(..taken.len);
        Ok(taken.next)
    }

    /// One read, its record, and as much of the write as the other side takes at once.
    fn poll_burst(&self, cx: &mut Context<'_>, held: &mut Vec<u8>) -> Poll<Result<Burst, Stop>> {
        BURST.with_borrow_mut(|bytes| {
            let len = match std::task::ready!(self.from.poll_read(cx, bytes)) {
                Ok(Read::Bytes(len)) => len,
                Ok(Read::End(farewell)) => return Poll::Ready(Ok(Burst::End(farewell))),
                Err(error) => return Poll::Ready(Err(Stop::Read(self.side, error))),
            };
            let bytes = bytes.get(..len).unwrap_or_default();
            if held.is_empty() {
                let (burst, len) = self.pass(cx, bytes)?;
                held.extend_from_slice(bytes.get(len..).unwrap_or_default());
                return Poll::Ready(Ok(burst));
            }
            held.extend_from_slice(bytes);
            let (burst, len) = self.pass(cx, held)?;
            held.drain(..len);
            Poll::Ready(Ok(burst))
        })
    }

    /// Has bytes recorded, and forwards what may be as far as it goes now.
    fn pass(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(Burst, usize), Stop> {
        let taken = self.take(bytes)?;
        let bytes = bytes.get(..taken.len).unwrap_or_default();
        if bytes.is_empty() {
            return Ok((Burst::Forwarded(taken.next), 0));
        }
        // Law 1 is about requests: an answer that the process has seen and the disk has not changes nothing outside.
        if self.side == Side::Client && self.session.waits_for_disk() {
            return Ok((Burst::Rest(bytes.to_vec(), taken.position, taken.next), taken.len));
        }
        let failed = |error| Stop::Write(self.other(), error);
        let written = match self.to.poll_write(cx, bytes) {
            Poll::Ready(written) => written.map_err(failed)?,
            Poll::Pending => 0,
        };
        self.session.moved(written);
        self.moved.notify_one();
        let rest = bytes.get(written..).unwrap_or_default();
        if rest.is_empty() && self.to.poll_flush(cx).map_err(failed)?.is_ready() {
            return Ok((Burst::Forwarded(taken.next), taken.len));
        }
        Ok((Burst::Rest(rest.to_vec(), None, taken.next), taken.len))
    }

    fn take(&self, bytes: &[u8]) -> Result<Taken, Stop> {
        let taken = self.tap.borrow_mut().take(self.side, bytes)?;
        debug_assert!(taken.len <= bytes.len());
        Ok(taken)
    }

    async fn forward(&self, bytes: &[u8], position: Option<Position>) -> Result<(), Stop> {
        if let Some(position) = position
            && self.side == Side::Client
        {
            let unrecorded = |error| Stop::Blocked(Blocked::Unrecorded(Unrecorded(error)));
            self.session.durable(position).await.map_err(unrecorded)?;
        }
        let failed = |error| Stop::Write(self.other(), error);
        self.owes.set(true);
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.to.write(rest).await.map_err(failed)?;
            self.session.moved(written);
            rest = rest.get(written..).unwrap_or_default();
        }
        self.moved.notify_one();
        self.to.flush().await.map_err(failed)?;
        self.owes.set(false);
        Ok(())
    }

    fn other(&self) -> Side {
        match self.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}
