//! One direction of a relay: read, record, forward, and what is waited for in between.
//!
//! Never forwards what the tap has not taken, never reads on while something that was read is not forwarded.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use crewtap_core::limits;
use crewtap_core::session::Side;
use tokio::sync::Notify;

use crate::journal::Position;
use crate::leg::{Farewell, Leg, Read};
use crate::recorder::Unrecorded;
use crate::session::Session;

use super::tap::{Blocked, Next, Taken, Tap};
use super::{First, Stop};

thread_local! {
    /// One buffer per thread: a burst is read, recorded and written without an await in between, so idle sessions
    /// hold no memory.
    static BURST: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::RELAY_BUFFER_BYTES]);
}

/// What one burst came to.
enum Burst {
    /// The side has ended.
    End(Farewell),
    /// All that may be was forwarded.
    Forwarded(Next),
    /// This rest waits for room at the other side, for the disk, or for its own side to have been told everything.
    Rest(Vec<u8>, Owed),
}

/// What follows once a rest is forwarded.
struct Owed {
    position: Option<Position>,
    answer: Option<Vec<u8>>,
    next: Next,
}

/// What goes to one side, which only one direction writes to.
#[derive(Default)]
pub(super) struct Voice {
    /// Something that was read and recorded is not written yet.
    pub(super) owes: Cell<bool>,
    /// What crewtap itself says next.
    ours: Cell<Option<Vec<u8>>>,
    /// Woken when there is something of ours.
    speak: Notify,
}

impl Voice {
    /// Whether everything that was to be said has been.
    fn is_done(&self) -> bool {
        let ours = self.ours.take();
        let done = ours.is_none() && !self.owes.get();
        self.ours.set(ours);
        done
    }
}

/// From one side to the other.
pub(super) struct Direction<'a, T> {
    pub(super) session: &'a Session,
    pub(super) tap: &'a RefCell<&'a mut T>,
    pub(super) side: Side,
    pub(super) from: &'a Leg,
    pub(super) to: &'a Leg,
    /// Told when this direction has forwarded something, or has ended.
    pub(super) moved: &'a Notify,
    pub(super) other_moved: &'a Notify,
    /// This direction moves nothing more.
    pub(super) over: &'a Cell<bool>,
    pub(super) other_over: &'a Cell<bool>,
    /// What this direction writes.
    pub(super) voice: &'a Voice,
    /// What the other direction writes.
    pub(super) other_voice: &'a Voice,
}

impl<T: Tap> Direction<'_, T> {
    /// Moves bytes from one side to the other until the first ends, then ends the other.
    pub(super) async fn pump(&self, first: First) -> Result<(), Stop> {
        let result = self.pump_to_the_end(first).await;
        if let Err(Stop::Blocked(Blocked::Refused { answer, .. })) = &result
            && !answer.is_empty()
        {
            // It comes behind what its side is being told, not in the middle of it.
            let _ = tokio::time::timeout(limits::FAREWELL_WAIT, self.other_is_done()).await;
        }
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
                Next::Held => match self.hold(&mut held).await? {
                    Some(farewell) => break Some(farewell),
                    None => self.again(&mut held).await?,
                },
                Next::More => {
                    if let Some(error) = gone.take() {
                        return Err(Stop::Read(self.side, error));
                    }
                    let burst = tokio::select! {
                        biased;
                        () = self.voice.speak.notified() => {
                            self.speak().await?;
                            continue;
                        }
                        burst = poll_fn(|cx| self.poll_burst(cx, &mut held)) => burst?,
                    };
                    match burst {
                        Burst::End(farewell) => break Some(farewell),
                        Burst::Forwarded(next) => {
                            tokio::task::consume_budget().await;
                            next
                        }
                        Burst::Rest(rest, taken) => {
                            self.forward(&rest, taken.position).await?;
                            self.answer(taken.answer).await;
                            taken.next
                        }
                    }
                }
            };
        };
        let how = farewell.unwrap_or(Farewell::Orderly);
        let taken = self.tap.borrow_mut().ended(self.side, &held, how)?;
        self.forward(taken.forwarded(&held), taken.position).await?;
        self.speak().await?;
        drop((held, taken));
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

    /// Waits for a decision. What the side says meanwhile is kept as far as there is room, so that its end is noticed, and
    /// returned.
    async fn hold(&self, held: &mut Vec<u8>) -> Result<Option<Farewell>, Stop> {
        let mut decision = self.tap.borrow_mut().decision();
        let room = (held.len() + limits::HELD_READ_BYTES).min(self.session.held_bytes_max());
        loop {
            tokio::select! {
                () = &mut decision => return Ok(None),
                read = poll_fn(|cx| self.poll_more(cx, held)), if held.len() < room => match read {
                    Ok(Read::Bytes(_)) => {}
                    Ok(Read::End(farewell)) => return Ok(Some(farewell)),
                    Err(error) => return Err(Stop::Read(self.side, error)),
                },
                // Nobody decides for one that has gone behind more than there is room for, or on a target that has: a side that
                // is left is still read to its end, which the tap says.
                () = tokio::time::sleep(limits::HELD_LOOK_INTERVAL) => match () {
                    () if self.other_over.get() => return Ok(None),
                    () if held.len() >= room && self.from.has_gone() => return Ok(Some(Farewell::Cut)),
                    () => {}
                },
            }
        }
    }

    fn poll_more(&self, cx: &mut Context<'_>, held: &mut Vec<u8>) -> Poll<io::Result<Read>> {
        BURST.with_borrow_mut(|bytes| {
            let read = std::task::ready!(self.from.poll_read(cx, bytes));
            if let Ok(Read::Bytes(len)) = read {
                held.extend_from_slice(bytes.get(..len).unwrap_or_default());
            }
            Poll::Ready(read)
        })
    }

    /// Shows the tap again what it has not taken.
    async fn again(&self, held: &mut Vec<u8>) -> Result<Next, Stop> {
        let taken = self.take(held)?;
        self.forward(taken.forwarded(held), taken.position).await?;
        self.answer(taken.answer).await;
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
        let bytes = taken.forwarded(bytes);
        let rest = |rest: &[u8], position| {
            let owed = Owed { position, answer: taken.answer.clone(), next: taken.next };
            Ok((Burst::Rest(rest.to_vec(), owed), taken.len))
        };
        if bytes.is_empty() && taken.answer.is_none() {
            return Ok((Burst::Forwarded(taken.next), taken.len));
        }
        // Law 1 is about requests: an answer that the process has seen and the disk has not changes nothing outside.
        if self.side == Side::Client && self.session.waits_for_disk() || bytes.is_empty() {
            return rest(bytes, taken.position);
        }
        let failed = |error| Stop::Write(self.other(), error);
        let written = match self.to.poll_write(cx, bytes) {
            Poll::Ready(written) => written.map_err(failed)?,
            Poll::Pending => 0,
        };
        self.session.moved(written);
        self.moved.notify_one();
        let left = bytes.get(written..).unwrap_or_default();
        if left.is_empty() && taken.answer.is_none() && self.to.poll_flush(cx).map_err(failed)?.is_ready() {
            return Ok((Burst::Forwarded(taken.next), taken.len));
        }
        rest(left, None)
    }

    /// Has the other direction tell this side something, behind everything that it is being told.
    async fn answer(&self, answer: Option<Vec<u8>>) {
        let Some(answer) = answer else { return };
        self.other_is_done().await;
        self.other_voice.ours.set(Some(answer));
        self.other_voice.speak.notify_one();
    }

    /// Resolves when the other direction has said what it had to say, or says nothing more.
    async fn other_is_done(&self) {
        while !self.other_voice.is_done() && !self.other_over.get() {
            self.other_moved.notified().await;
        }
    }

    /// Says what crewtap itself has to say to the other side.
    async fn speak(&self) -> Result<(), Stop> {
        match self.voice.ours.take() {
            Some(ours) => self.forward(&ours, None).await,
            None => Ok(()),
        }
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
        self.voice.owes.set(true);
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.to.write(rest).await.map_err(failed)?;
            self.session.moved(written);
            rest = rest.get(written..).unwrap_or_default();
        }
        self.moved.notify_one();
        self.to.flush().await.map_err(failed)?;
        self.voice.owes.set(false);
        self.moved.notify_one();
        Ok(())
    }

    fn other(&self) -> Side {
        match self.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Reads a side to its end, and drops what it says.
pub(super) async fn discard(from: &Leg) -> io::Result<Farewell> {
    loop {
        match poll_fn(|cx| BURST.with_borrow_mut(|bytes| from.poll_read(cx, bytes))).await? {
            Read::Bytes(_) => tokio::task::consume_budget().await,
            Read::End(farewell) => return Ok(farewell),
        }
    }
}
