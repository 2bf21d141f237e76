//! Moves the bytes of a channel to and from a session of its own.
//!
//! Owns nothing of what they are: that session records them. Never decides.

use bytes::Bytes;
use crewtap_core::limits::{FAREWELL_WAIT, RELAY_BUFFER_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::channel::Lane;
use super::queue::{Inbox, Item};

impl Lane<'_> {
    /// Until the session on the other ends of both streams is over.
    pub(super) async fn ferry(&self, client: UnixStream, target: UnixStream) {
        let (from_client, to_client) = client.into_split();
        let (from_target, to_target) = target.into_split();
        let inward = async {
            let client = async {
                if into(&self.up, to_client).await.is_closed() {
                    // Nobody is left to be told anything: the target gets a moment to take what was said.
                    tokio::time::sleep(FAREWELL_WAIT).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = client => {}
                () = async { into(&self.down, to_target).await; std::future::pending().await } => {}
            }
        };
        let outward = async {
            let client = async {
                self.out(from_client, |bytes| self.client.data_bytes(bytes)).await;
                let _ = self.client.eof().await;
            };
            let target = async {
                self.out(from_target, |bytes| self.target.data_bytes(bytes)).await;
                let _ = self.target.eof().await;
            };
            tokio::join!(client, target);
        };
        tokio::select! {
            () = inward => {}
            () = outward => {}
        }
    }

    /// What the session says to one side.
    async fn out<S, F>(&self, mut from: OwnedReadHalf, send: S)
    where
        S: Fn(Bytes) -> F,
        F: Future<Output = Result<(), russh::Error>>,
    {
        let mut buffer = vec![0; RELAY_BUFFER_BYTES];
        // A session that ends with a reset has nothing more to say either.
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default());
            if send(bytes).await.is_err() {
                return;
            }
            self.conversation.session.moved(len);
        }
    }
}

/// How a side ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Silence {
    /// It has said all, and may still listen.
    Over,
    /// Its channel is closed.
    Closed,
}

impl Silence {
    fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

/// What one side says, to the session.
async fn into(inbox: &Inbox, mut to: OwnedWriteHalf) -> Silence {
    loop {
        let (item, weight) = inbox.next().await;
        let is_closed = matches!(item, Item::Close | Item::Gone);
        let goes_on = match item {
            Item::Data(bytes) => to.write_all(&bytes).await.is_ok(),
            // Its close comes behind it.
            Item::Eof => {
                let _ = to.shutdown().await;
                true
            }
            _ => !is_closed,
        };
        inbox.done(weight);
        if !goes_on {
            return if is_closed { Silence::Closed } else { Silence::Over };
        }
    }
}
