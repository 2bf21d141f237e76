//! A stream of which some bytes have been read already: those before the handshake, and those that came with others.
//!
//! TLS asks for 4 KiB at a time, which would be sixteen system calls for what the socket gives in one. Holds no memory
//! while it has nothing to give, and at most one burst of [`limits::RELAY_BUFFER_BYTES`].

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crewtap_core::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

thread_local! {
    /// One for a thread: what is not asked for yet is kept apart.
    static AHEAD: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::RELAY_BUFFER_BYTES]);
}

/// Gives `first` before what the stream itself gives.
#[derive(Debug)]
pub struct Prefixed<S> {
    first: Vec<u8>,
    given: usize,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts `first` in front of `stream`.
    pub fn new(first: Vec<u8>, stream: S) -> Self {
        Self { first, given: 0, stream }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream itself, past what was put in front of it.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Reads what the stream has, and keeps what is not asked for.
    fn read_ahead(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AHEAD.with_borrow_mut(|ahead| {
            let mut buffer = ReadBuf::new(ahead);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            let read = buffer.filled();
            let (now, later) = read.split_at(read.len().min(into.remaining()));
            into.put_slice(now);
            self.first.extend_from_slice(later);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.first.get(self.given..).unwrap_or_default();
        if rest.is_empty() {
            return self.read_ahead(context, into);
        }
        let len = rest.len().min(into.remaining());
        into.put_slice(rest.get(..len).unwrap_or_default());
        self.given += len;
        if self.given == self.first.len() {
            self.first = Vec::new();
            self.given = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
