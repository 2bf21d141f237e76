//! A leg as the SSH library reads and writes it: what it had said before comes first, its offer is overheard, and it can be cut.
//!
//! Never decides anything, and never looks at more than what comes in clear.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crewtap_core::limits::HELD_LOOK_INTERVAL;
use crewtap_core::wire::ssh::offer::{Offer, Reading};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::queue::Half;
use crate::leg::Carrier;
use crate::tls::Prefixed;

/// What is known of a leg beside what the library tells, and the means to end it.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    reading: Mutex<Reading>,
    writing: Mutex<Reading>,
    is_cut: AtomicBool,
    wakers: Mutex<[Option<Waker>; 2]>,
    watched: OnceLock<OwnedFd>,
}

impl Line {
    /// What the other end offers.
    pub(super) fn offer(&self) -> Option<Offer> {
        self.0.reading.lock().unwrap_or_else(PoisonError::into_inner).offer().cloned()
    }

    /// What we have offered there.
    pub(super) fn said(&self) -> Option<Offer> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner).offer().cloned()
    }

    /// Ends the leg: whatever the library waits for fails.
    pub(super) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    /// Resolves when the other end has gone, also where nothing is read from it.
    pub(super) async fn gone(&self) {
        loop {
            tokio::time::sleep(HELD_LOOK_INTERVAL).await;
            let Some(watched) = self.0.watched.get() else { return std::future::pending().await };
            let mut fds = [PollFd::new(watched.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
            if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }

    fn wait(&self, way: usize, context: &Context<'_>) {
        let mut wakers = self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = wakers.get_mut(way) {
            *place = Some(context.waker().clone());
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.0.is_cut.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// A leg for the library.
pub(super) struct Stream {
    carrier: Prefixed<Box<dyn Carrier>>,
    line: Line,
    /// The offers are read, or will not come: the other end's, and ours.
    is_read: bool,
    is_said: bool,
    /// Says when it may be read.
    gate: Arc<Half>,
}

impl Stream {
    pub(super) fn new(first: Vec<u8>, carrier: Box<dyn Carrier>, gate: &Arc<Half>) -> (Self, Line) {
        let line = Line::default();
        // Without a descriptor of its own nobody sees that it has gone while it is not read.
        let watched = carrier.tcp().as_fd().try_clone_to_owned().ok();
        if let Some(watched) = watched {
            let _ = line.0.watched.set(watched);
        }
        (
            Self {
                carrier: Prefixed::new(first, carrier),
                line: line.clone(),
                is_read: false,
                is_said: false,
                gate: gate.clone(),
            },
            line,
        )
    }

    fn overhear(&mut self, bytes: &[u8]) {
        let mut reading = self.line.0.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.feed(bytes);
        let is_over = reading.is_over();
        drop(reading);
        self.is_read = is_over;
    }

    fn settled<T>(&self, way: usize, context: &Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_pending() {
            self.line.wait(way, context);
            // It may have been cut in between.
            self.line.check()?;
        }
        poll
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        if self.gate.poll_read(context).is_pending() {
            // The library goes on with what it has to write.
            return self.settled(0, context, Poll::Pending);
        }
        let begun = into.filled().len();
        let poll = Pin::new(&mut self.carrier).poll_read(context, into);
        if !self.is_read && poll.is_ready() {
            self.overhear(into.filled().get(begun..).unwrap_or_default());
        }
        self.settled(0, context, poll)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line.check()?;
        let poll = Pin::new(&mut self.carrier).poll_write(context, bytes);
        if let (false, Poll::Ready(Ok(written))) = (self.is_said, &poll) {
            let mut writing = self.line.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
            writing.feed(bytes.get(..*written).unwrap_or_default());
            let is_over = writing.is_over();
            drop(writing);
            self.is_said = is_over;
        }
        self.settled(1, context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        let poll = Pin::new(&mut self.carrier).poll_flush(context);
        self.settled(1, context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        let poll = Pin::new(&mut self.carrier).poll_shutdown(context);
        self.settled(1, context, poll)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The library has ended it in its own words, and what is still in the buffers goes out.
        crate::dial::end_in_order(self.carrier.get_ref().tcp());
    }
}
