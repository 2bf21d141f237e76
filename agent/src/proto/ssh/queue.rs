//! What one side has said on its channels and the other has not taken yet.
//!
//! Owns the bound of it (law 5). The library widens a channel's window as soon as it has read, so that only reading less holds
//! a side back; and who is not read cannot widen the windows of what flows towards it. Hence a side is read on, past the usual
//! bound, while there is something for it: else two full directions would wait for each other.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use crewtap_core::limits::{SSH_CHANNELS_MAX, SSH_QUEUED_BYTES, SSH_QUEUED_BYTES_MAX};
use crewtap_core::session::Side;
use russh::{Pty, Sig};
use tokio::sync::{Notify, oneshot};

/// What an item weighs beside its bytes.
const ITEM_BYTES: usize = 128;

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reply {
    Yes,
    No,
    /// Somebody is asked; it is answered by the channel's own means.
    Later,
}

/// Where a request's answer goes.
pub(super) type Answer = oneshot::Sender<Reply>;

/// A terminal, as it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    pub(super) term: String,
    pub(super) size: Size,
    pub(super) modes: Vec<(Pty, u32)>,
}

/// Its size, in characters and in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// What a channel can be asked to become.
#[derive(Debug)]
pub(super) enum Start {
    Exec(Vec<u8>),
    Shell,
    Subsystem(String),
}

/// One thing that was said on a channel.
#[derive(Debug)]
pub(super) enum Item {
    Data(Bytes),
    Extended(u32, Bytes),
    Eof,
    Close,
    Success,
    Failure,
    ExitStatus(u32),
    ExitSignal {
        signal: Sig,
        core_dumped: bool,
        message: String,
        language: String,
    },
    Terminal(Terminal, Answer),
    Variable {
        name: String,
        value: String,
    },
    Start(Start, Answer),
    Resize(Size),
    Signal(Sig),
    /// The side has ended.
    Gone,
}

impl Item {
    fn weight(&self) -> usize {
        let bytes = match self {
            Self::Data(bytes) | Self::Extended(_, bytes) => bytes.len(),
            Self::Start(Start::Exec(command), _) => command.len(),
            Self::Start(Start::Subsystem(text), _) => text.len(),
            Self::Terminal(Terminal { term, modes, .. }, _) => term.len() + size_of_val(&**modes),
            Self::Variable { name, value } => name.len() + value.len(),
            Self::ExitSignal { message, language, .. } => message.len() + language.len(),
            _ => 0,
        };
        ITEM_BYTES + bytes
    }
}

/// How much of both sides waits.
#[derive(Debug, Default)]
pub(super) struct Meter {
    queued: [AtomicUsize; 2],
    /// Requests whose answer is waited for in the loop of the client's side.
    asked: AtomicUsize,
    changed: Notify,
    /// Who waits until a side may be read.
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl Meter {
    fn of(&self, side: Side) -> &AtomicUsize {
        let [client, server] = &self.queued;
        match side {
            Side::Client => client,
            Side::Server => server,
        }
    }

    fn may_read(&self, side: Side) -> bool {
        let queued = self.of(side).load(Ordering::Relaxed);
        let wanted = || self.of(other(side)).load(Ordering::Relaxed) > 0 || self.asked.load(Ordering::Relaxed) > 0;
        queued < SSH_QUEUED_BYTES || queued < SSH_QUEUED_BYTES_MAX && wanted()
    }

    fn more(&self, side: Side, weight: usize) {
        self.of(side).fetch_add(weight, Ordering::Relaxed);
        self.told();
    }

    fn less(&self, side: Side, weight: usize) {
        self.of(side).fetch_sub(weight, Ordering::Relaxed);
        self.told();
    }

    fn told(&self) {
        self.changed.notify_waiters();
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    /// Whether a side may be read now; else the task is woken when that may have changed.
    pub(super) fn poll_read(&self, side: Side, context: &Context<'_>) -> Poll<()> {
        if self.may_read(side) {
            return Poll::Ready(());
        }
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = wakers.get_mut(usize::from(side == Side::Server)) {
            *place = Some(context.waker().clone());
        }
        drop(wakers);
        // It may have changed in between.
        if self.may_read(side) { Poll::Ready(()) } else { Poll::Pending }
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is_so() {
                return;
            }
            changed.await;
        }
    }

    /// Waits for an answer. Given up where nothing can come before the loop that waits goes on: it then comes later.
    pub(super) async fn answer(&self, answer: oneshot::Receiver<Reply>) -> Reply {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.told();
        let jammed = || self.of(Side::Server).load(Ordering::Relaxed) >= SSH_QUEUED_BYTES_MAX;
        let reply = tokio::select! {
            biased;
            reply = answer => reply.unwrap_or(Reply::No),
            () = self.until(jammed) => Reply::Later,
        };
        self.asked.fetch_sub(1, Ordering::Relaxed);
        self.told();
        reply
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

/// What one side says on one channel.
#[derive(Debug)]
pub(super) struct Inbox {
    side: Side,
    items: Mutex<VecDeque<Item>>,
    arrived: Notify,
    meter: Arc<Meter>,
    /// What was taken and is not with the other side yet.
    taken: AtomicUsize,
    /// A request waits for its answer.
    asks: AtomicBool,
}

impl Inbox {
    fn take(&self, item: Item) -> (Item, usize) {
        let weight = item.weight();
        self.taken.fetch_add(weight, Ordering::Relaxed);
        (item, weight)
    }

    /// Takes the right to ask for something; false where something is asked for already.
    pub(super) fn begin_asking(&self) -> bool {
        !self.asks.swap(true, Ordering::AcqRel)
    }

    /// It was answered.
    pub(super) fn end_asking(&self) {
        self.asks.store(false, Ordering::Release);
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item) {
        self.meter.more(self.side, item.weight());
        self.items().push_back(item);
        self.arrived.notify_one();
    }

    /// The next item, and what it weighs until [`Inbox::done`] says that it was taken.
    pub(super) async fn next(&self) -> (Item, usize) {
        loop {
            if let Some(item) = self.items().pop_front() {
                return self.take(item);
            }
            self.arrived.notified().await;
        }
    }

    /// The next item, where one is there that fits into what is done with the last.
    pub(super) fn more(&self, fits: impl Fn(&Item) -> bool) -> Option<(Item, usize)> {
        let mut items = self.items();
        let item = items.pop_front_if(|item| fits(item))?;
        Some(self.take(item))
    }

    /// The first item that is wanted; those before it stay.
    pub(super) async fn pick(&self, is_wanted: impl Fn(&Item) -> bool) -> (Item, usize) {
        loop {
            let picked = {
                let mut items = self.items();
                let at = items.iter().position(&is_wanted);
                at.and_then(|at| items.remove(at))
            };
            if let Some(item) = picked {
                return self.take(item);
            }
            self.arrived.notified().await;
        }
    }

    /// Resolves when the channel was closed by this side, or the side has ended: while nothing is taken from it.
    pub(super) async fn closed(&self) {
        while !self.items().iter().any(|item| matches!(item, Item::Close | Item::Gone)) {
            self.arrived.notified().await;
        }
    }

    /// What was taken is with the other side.
    pub(super) fn done(&self, weight: usize) {
        self.taken.fetch_sub(weight, Ordering::Relaxed);
        self.meter.less(self.side, weight);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let rest: usize = self.items().iter().map(Item::weight).sum();
        // What a direction that was given up had taken goes with it.
        self.meter.less(self.side, rest + self.taken.load(Ordering::Relaxed));
    }
}

/// The channels of one side.
#[derive(Debug)]
pub(super) struct Half {
    side: Side,
    inboxes: Mutex<HashMap<u32, Arc<Inbox>>>,
    pub(super) meter: Arc<Meter>,
    is_over: AtomicBool,
    over: Notify,
}

impl Half {
    pub(super) fn new(side: Side, meter: &Arc<Meter>) -> Arc<Self> {
        let (is_over, over) = (AtomicBool::new(false), Notify::new());
        Arc::new(Self { side, inboxes: Mutex::default(), meter: meter.clone(), is_over, over })
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<u32, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new channel; none where there are too many.
    pub(super) fn open(&self, id: u32) -> Option<Arc<Inbox>> {
        let mut inboxes = self.inboxes();
        if let Some(known) = inboxes.get(&id) {
            // Confirmed once more, which nobody has asked for: it stays what it is.
            return Some(known.clone());
        }
        if inboxes.len() >= SSH_CHANNELS_MAX {
            return None;
        }
        let (items, arrived, meter) = (Mutex::default(), Notify::new(), self.meter.clone());
        let (taken, asks) = (AtomicUsize::new(0), AtomicBool::new(false));
        let inbox = Arc::new(Inbox { side: self.side, items, arrived, meter, taken, asks });
        inboxes.insert(id, inbox.clone());
        Some(inbox)
    }

    pub(super) fn get(&self, id: u32) -> Option<Arc<Inbox>> {
        self.inboxes().get(&id).cloned()
    }

    /// The channel is over.
    pub(super) fn close(&self, id: u32) {
        self.inboxes().remove(&id);
    }

    /// Something was said on a channel. What is said on none goes nowhere.
    pub(super) fn say(&self, id: u32, item: Item) {
        if let Some(inbox) = self.get(id) {
            inbox.push(item);
        }
    }

    /// Whether the side may be read now; see [`Meter::poll_read`].
    pub(super) fn poll_read(&self, context: &Context<'_>) -> Poll<()> {
        self.meter.poll_read(self.side, context)
    }

    /// The side has ended.
    pub(super) fn gone(&self) {
        let inboxes: Vec<_> = self.inboxes().values().cloned().collect();
        for inbox in inboxes {
            inbox.push(Item::Gone);
        }
        self.is_over.store(true, Ordering::Release);
        // One waits, perhaps not yet.
        self.over.notify_one();
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Resolves when the side has ended; for one who waits.
    pub(super) async fn over(&self) {
        while !self.is_over() {
            self.over.notified().await;
        }
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn may_read(meter: &Meter, side: Side) -> bool {
        meter.poll_read(side, &Context::from_waker(Waker::noop())).is_ready()
    }

    fn much() -> Item {
        Item::Data(vec![0; SSH_QUEUED_BYTES].into())
    }

    #[tokio::test]
    async fn a_side_that_says_too_much_waits_unless_there_is_something_for_it() {
        let meter = Arc::new(Meter::default());
        let (client, server) = (Half::new(Side::Client, &meter), Half::new(Side::Server, &meter));
        let (up, down) = (client.open(3).unwrap(), server.open(3).unwrap());
        client.say(3, much());
        assert!(!may_read(&meter, Side::Client), "nothing is for it: it is not read");
        server.say(3, Item::Data(Bytes::from_static(b"x")));
        assert!(may_read(&meter, Side::Client), "it is read on, or it could not widen a window");
        for _ in 0..SSH_QUEUED_BYTES_MAX / SSH_QUEUED_BYTES {
            client.say(3, much());
        }
        assert!(!may_read(&meter, Side::Client), "whatever is for it: memory has an end");
        let (_, weight) = down.next().await;
        down.done(weight);
        // What is taken and never given on weighs nothing once the channel is over.
        let _taken = up.next().await;
        drop(up);
        client.close(3);
        assert!(may_read(&meter, Side::Client) && meter.of(Side::Client).load(Ordering::Relaxed) == 0);
    }

    #[tokio::test]
    async fn what_is_said_before_an_answer_stays_behind_it() {
        let half = Half::new(Side::Server, &Arc::new(Meter::default()));
        let inbox = half.open(1).unwrap();
        half.say(1, Item::Data(Bytes::from_static(b"early")));
        half.say(1, Item::Success);
        let (answer, _) = inbox.pick(|item| matches!(item, Item::Success | Item::Failure)).await;
        assert!(matches!(answer, Item::Success));
        assert!(matches!(inbox.next().await, (Item::Data(bytes), _) if bytes == "early"));
        assert!(inbox.begin_asking() && !inbox.begin_asking(), "one request at a time");
    }

    #[tokio::test]
    async fn channels_have_a_bound_and_a_second_confirmation_changes_nothing() {
        let half = Half::new(Side::Client, &Arc::new(Meter::default()));
        let opened = (0..SSH_CHANNELS_MAX + 5).filter(|n| half.open(u32::try_from(*n).unwrap()).is_some()).count();
        assert_eq!(opened, SSH_CHANNELS_MAX);
        let again = half.open(0).unwrap();
        assert!(Arc::ptr_eq(&again, &half.get(0).unwrap()));
    }
}
