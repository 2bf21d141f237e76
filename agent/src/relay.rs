//! The only loop that moves bytes between client and target.
//!
//! Never forwards a byte before the journal has it (law 1), never holds more than one burst per
//! direction (law 5), never looks into the bytes: what may be shown is the tap's to say.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;

use crewtap_core::limits;
use crewtap_core::session::{Outcome, Side};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::dial;
use crate::journal::Position;
use crate::recorder::Unrecorded;
use crate::session::Session;

/// Sees every burst before it is recorded: redacts what is recorded, and records what it understood.
pub trait Tap {
    /// What may be recorded of the next bytes of one side: as many bytes, with credentials hidden.
    fn shown<'a>(&mut self, side: Side, bytes: &'a [u8]) -> Cow<'a, [u8]>;

    /// Sees the bytes of one side as they were, after they are on record and before they are forwarded.
    ///
    /// # Errors
    /// When what it understood cannot be recorded: then the bytes are not forwarded.
    fn forwarding(&mut self, side: Side, bytes: &[u8]) -> Result<(), Unrecorded>;
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
    /// The journal did not take a burst.
    Unrecorded(String),
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

/// Relays until both sides have ended, `first` being what is known of the client already.
pub async fn relay<T: Tap>(session: &Session, tap: &mut T, client: TcpStream, target: TcpStream, first: First) -> End {
    let (mut client, mut target) = (client, target);
    // However this future ends, cancelled or with its whole agent, no side takes it for an orderly end.
    dial::end_abruptly(&client);
    dial::end_abruptly(&target);
    let tap = RefCell::new(tap);
    let result = {
        let (client_read, client_write) = client.split();
        let (target_read, target_write) = target.split();
        let up = Direction { session, tap: &tap, side: Side::Client };
        let down = Direction { session, tap: &tap, side: Side::Server };
        let up = std::pin::pin!(up.pump(client_read, target_write, first));
        let down = std::pin::pin!(down.pump(target_read, client_write, First::default()));
        both(up, down).await
    };
    match result {
        Ok(()) => {
            dial::end_in_order(&client);
            dial::end_in_order(&target);
            End { outcome: Outcome::Completed, error: None }
        }
        Err(stop) => stop.into_end(),
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

impl From<Unrecorded> for Stop {
    fn from(error: Unrecorded) -> Self {
        Self::Unrecorded(error.to_string())
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
            Self::Unrecorded(error) => End { outcome: Outcome::Unrecorded, error: Some(error) },
        }
    }
}

/// What one burst came to.
enum Burst {
    /// The side has ended.
    End,
    /// Nothing was there after all.
    Nothing,
    /// All of it was forwarded.
    Forwarded,
    /// This rest waits for room at the other side, or for the disk.
    Rest(Vec<u8>, Option<Position>),
}

struct Direction<'a, T> {
    session: &'a Session,
    tap: &'a RefCell<&'a mut T>,
    side: Side,
}

impl<T: Tap> Direction<'_, T> {
    /// Moves bytes from one side to the other until the first ends, then ends the other.
    async fn pump(&self, from: ReadHalf<'_>, mut to: WriteHalf<'_>, first: First) -> Result<(), Stop> {
        if !first.bytes.is_empty() {
            let position = self.record(&first.bytes)?;
            self.forward(&mut to, &first.bytes, Some(position)).await?;
        }
        if let Some(error) = first.gone {
            return Err(Stop::Read(self.side, error));
        }
        loop {
            from.readable().await.map_err(|error| Stop::Read(self.side, error))?;
            match self.burst(&from, &to)? {
                Burst::End => break,
                Burst::Nothing => {}
                Burst::Forwarded => tokio::task::consume_budget().await,
                Burst::Rest(rest, position) => self.forward(&mut to, &rest, position).await?,
            }
        }
        match to.shutdown().await {
            // The other side has gone already; what it still had to say was read by the other direction.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result.map_err(|error| Stop::Write(self.other(), error)),
        }
    }

    /// One read, its record, and as much of the write as the other side takes at once.
    fn burst(&self, from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> Result<Burst, Stop> {
        BURST.with_borrow_mut(|bytes| {
            let len = match from.try_read(bytes) {
                Ok(0) => return Ok(Burst::End),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Burst::Nothing),
                Err(error) => return Err(Stop::Read(self.side, error)),
            };
            let bytes = bytes.get(..len).unwrap_or_default();
            let position = self.record(bytes)?;
            // Law 1 is about requests: an answer that the process has seen and the disk has not changes nothing outside.
            if self.side == Side::Client && self.session.waits_for_disk() {
                return Ok(Burst::Rest(bytes.to_vec(), Some(position)));
            }
            match to.try_write(bytes) {
                Ok(written) => {
                    self.session.moved(written);
                    let rest = bytes.get(written..).unwrap_or_default();
                    Ok(if rest.is_empty() { Burst::Forwarded } else { Burst::Rest(rest.to_vec(), None) })
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Burst::Rest(bytes.to_vec(), None)),
                Err(error) => Err(Stop::Write(self.other(), error)),
            }
        })
    }

    fn record(&self, bytes: &[u8]) -> Result<Position, Stop> {
        let mut tap = self.tap.borrow_mut();
        let shown = tap.shown(self.side, bytes);
        let position = self.session.record_bytes(self.side, &shown)?;
        tap.forwarding(self.side, bytes)?;
        Ok(position)
    }

    async fn forward(&self, to: &mut WriteHalf<'_>, bytes: &[u8], position: Option<Position>) -> Result<(), Stop> {
        if let Some(position) = position {
            self.session.durable(position).await.map_err(|error| Stop::Unrecorded(error.to_string()))?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = to.write(rest).await.map_err(|error| Stop::Write(self.other(), error))?;
            self.session.moved(written);
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn other(&self) -> Side {
        match self.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}
