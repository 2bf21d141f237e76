//! One of the two connections of a session, whatever carries its bytes: TCP itself, or TLS over it.
//!
//! Owns how a leg is read, written and ended. Never records and never decides.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crewtap_core::limits::HELD_LOOK_INTERVAL;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::dial;

/// What can carry a leg.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {
    /// The connection underneath, for its socket options.
    fn tcp(&self) -> &TcpStream;

    /// The connection underneath, to end it without the carrier's own farewell.
    fn tcp_mut(&mut self) -> &mut TcpStream;

    /// A read gives one record of at most 16 KiB, however many are there.
    fn comes_in_records(&self) -> bool {
        false
    }
}

impl Carrier for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn tcp_mut(&mut self) -> &mut TcpStream {
        self
    }
}

/// A leg that both directions of a relay use; they run on one thread and never at the same time.
pub struct Leg {
    carrier: RefCell<Box<dyn Carrier>>,
    /// How it ended, told by a read that had bytes to give before.
    ended: Cell<Option<io::Result<Read>>>,
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Leg").field(self.carrier.borrow().tcp()).finish()
    }
}

/// How a side ended what it had to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// As its carrier does.
    Orderly,
    /// The connection ended beneath its carrier: TLS without `close_notify` (RFC 8446 section 6.1). Whoever is told must be
    /// told likewise, or a truncated message would look whole.
    Cut,
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// The side has ended.
    End(Farewell),
}

impl Leg {
    /// A leg over a carrier.
    #[must_use]
    pub fn new(carrier: impl Carrier + 'static) -> Self {
        Self { carrier: RefCell::new(Box::new(carrier)), ended: Cell::new(None) }
    }

    /// What carries it, for a driver that reads and writes by other means.
    #[must_use]
    pub fn into_carrier(self) -> Box<dyn Carrier> {
        self.carrier.into_inner()
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// As the carrier says; [`Read::End`] is none.
    pub fn poll_read(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<Read>> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(ended);
        }
        let mut buffer = ReadBuf::new(bytes);
        let mut carrier = self.carrier.borrow_mut();
        loop {
            let before = buffer.filled().len();
            let ended = match Pin::new(&mut **carrier).poll_read(cx, &mut buffer) {
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Ready(Ok(())) if buffer.filled().len() == before => Ok(Read::End(Farewell::Orderly)),
                Poll::Ready(Ok(())) if carrier.comes_in_records() && buffer.remaining() > 0 => continue,
                Poll::Pending | Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Read::End(Farewell::Cut)),
                Poll::Ready(Err(error)) => Err(error),
            };
            if before == 0 {
                return Poll::Ready(ended);
            }
            self.ended.set(Some(ended));
            break;
        }
        Poll::Ready(Ok(Read::Bytes(buffer.filled().len())))
    }

    /// Writes what there is room for, and sends it on its way as far as it goes.
    ///
    /// # Errors
    /// As the carrier says.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.carrier.borrow_mut()).poll_write(cx, bytes)
    }

    /// Sends what the carrier still holds.
    ///
    /// # Errors
    /// As the carrier says.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.carrier.borrow_mut()).poll_flush(cx)
    }

    /// Waits for room and writes some of the bytes.
    ///
    /// # Errors
    /// As the carrier says.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    /// Sends what the carrier still holds.
    ///
    /// # Errors
    /// As the carrier says.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Tells that nothing more will be written.
    ///
    /// # Errors
    /// As the carrier says.
    pub async fn end(&self, farewell: Farewell) -> io::Result<()> {
        poll_fn(|cx| {
            let mut carrier = self.carrier.borrow_mut();
            match farewell {
                Farewell::Orderly => Pin::new(&mut **carrier).poll_shutdown(cx),
                Farewell::Cut => Pin::new(carrier.tcp_mut()).poll_shutdown(cx),
            }
        })
        .await
    }

    /// Whether the other end has gone, whatever is still to be read of it.
    #[must_use]
    pub fn has_gone(&self) -> bool {
        dial::has_gone(self.carrier.borrow().tcp())
    }

    /// Resolves when the other end has gone.
    pub async fn gone(&self) {
        while !self.has_gone() {
            tokio::time::sleep(HELD_LOOK_INTERVAL).await;
        }
    }

    /// From now on it ends with a reset, whatever ends it, unless [`Leg::end_in_order`] is called.
    pub fn end_abruptly(&self) {
        dial::end_abruptly(self.carrier.borrow().tcp());
    }

    /// Both directions have ended: what is still in the buffers goes out, then the connection ends in order.
    pub fn end_in_order(&self) {
        dial::end_in_order(self.carrier.borrow().tcp());
    }
}
