//! The only loop that moves bytes between client and target.
//!
//! Never forwards a byte before the journal has it (law 1), never holds more than one burst and one unfinished head per
//! direction (law 5), never looks into the bytes: what they are, and what may be shown of them, is the tap's to say.

mod direction;
mod first;
mod forward;
mod tap;

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;

use crewtap_core::limits;
use crewtap_core::session::{Outcome, Side};
use tokio::sync::Notify;

use crate::leg::{Farewell, Leg};
use crate::session::Session;

use self::direction::{Direction, Voice, discard};
pub use self::first::First;
pub use self::forward::Forward;
pub use self::tap::{Blocked, Decision, Next, Taken, Tap};

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

/// Relays until both sides have ended or nobody is left to relay for; each leg with what it has said already.
pub async fn relay<T: Tap>(
    session: &Session,
    tap: &mut T,
    (client, first): (&Leg, First),
    (target, greeting): (&Leg, First),
) -> End {
    // However this future ends, cancelled or with its whole agent, no side takes it for an orderly end.
    client.end_abruptly();
    target.end_abruptly();
    let tap = RefCell::new(tap);
    let moved = [Notify::new(), Notify::new()];
    let [client_moved, target_moved] = &moved;
    let (up_over, down_over) = (Cell::new(false), Cell::new(false));
    let (to_client, to_target) = (Voice::default(), Voice::default());
    let up = Direction {
        session,
        tap: &tap,
        side: Side::Client,
        from: client,
        to: target,
        moved: client_moved,
        other_moved: target_moved,
        over: &up_over,
        other_over: &down_over,
        voice: &to_target,
        other_voice: &to_client,
    };
    let down = Direction {
        session,
        tap: &tap,
        side: Side::Server,
        from: target,
        to: client,
        moved: target_moved,
        other_moved: client_moved,
        over: &down_over,
        other_over: &up_over,
        voice: &to_client,
        other_voice: &to_target,
    };
    let going_up = std::pin::pin!(up.pump(first));
    let going_down = std::pin::pin!(down.pump(greeting));
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
            if !to_client.owes.get() {
                tell(client, &answer).await;
            }
            End { outcome: Outcome::Refused, error: Some(why) }
        }
        Err(stop) => stop.into_end(),
    }
}

/// The client is told why its connection ends, if it listens.
pub async fn tell(client: &Leg, answer: &[u8]) {
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
