//! Accept, origin, attribute, open, sniff, serve: the way of a connection on one page.
//!
//! There is no default destination: a connection without an origin is refused (law 2). A session
//! stays on the thread that accepted it.

mod declined;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crewtap_core::bodies::Classified;
use crewtap_core::limits;
use crewtap_core::origin::Origin;
use crewtap_core::run::Mode;
use crewtap_core::session::Outcome;
use crewtap_core::sniff::Protocol;
use crewtap_core::wire::tls::begins_like_tls;
use tokio::net::{TcpListener, TcpStream};

use crate::attribute;
use crate::capture::kernel::Kernel;
use crate::capture::listen;
use crate::capture::process::{ProcessCache, Program};
use crate::classify::{self, Known};
use crate::clock;
use crate::dial;
use crate::gate::Permit;
use crate::intercept::{Connected, Inside, Interceptor, Way};
use crate::leg::Leg;
use crate::proto::{self, Legs, Opened, Upgrade};
use crate::recorder::{Recorder, Unrecorded};
use crate::relay::{End, First};
use crate::runs::{Counts, Run, Runs};
use crate::selftest;
use crate::session::{Grounds, Session};
use declined::{Caller, ask, turn_away};

/// What all threads of the proxy share.
pub struct Proxy {
    /// Where origins come from.
    pub kernel: Arc<Kernel>,
    /// The live runs.
    pub runs: Arc<Runs>,
    /// Facts of processes.
    pub processes: Arc<ProcessCache>,
    /// What every session needs, as it is for those that open now.
    pub grounds: Arc<Grounds>,
    /// Opens TLS.
    pub interceptor: Arc<Interceptor>,
    /// For what has no run.
    pub recorder: Recorder,
    /// Connections that were closed because they had no origin.
    pub unattributed: AtomicUsize,
    /// When the last of them was noted, on the monotonic clock; 0: none was.
    pub unattributed_noted_ns: AtomicU64,
    /// Sessions open now.
    pub open: AtomicUsize,
}

/// Notes about connections without an origin are at least so far apart.
const NOTE_INTERVAL_NS: u64 = 1_000_000_000;

/// Counts an open session down when it is over, however it ends.
struct Slot(Arc<Proxy>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// Accepts on one listener until the task is dropped. Runs inside a `LocalSet`.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.accepted(stream, peer),
                Err(error) => {
                    // Out of file descriptors or memory: existing sessions must end before another can begin.
                    tracing::error!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// From an accepted connection to its task: everything that must not be mixed up happens before any await.
    fn accepted(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some((origin, run)) = self.origin(&stream, peer) else {
            self.note_unattributed(peer);
            return dial::reset(stream);
        };
        if run.proven().is_none() {
            return answer_selftest(&origin, stream);
        }
        let too_many = Counts::get(&run.counts.open) >= limits::SESSIONS_PER_RUN_MAX;
        if self.open.fetch_add(1, Ordering::Relaxed) >= limits::SESSIONS_MAX || too_many {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return refuse(&run, stream, "sessions_full", "too many sessions are open");
        }
        let slot = Slot(self.clone());
        let program = Program { pid: origin.pid, since_ns: origin.program_ns, at_ns: origin.mono_ns };
        tokio::task::spawn_local(async move {
            let Slot(proxy) = &slot;
            let process = (*proxy.processes.of_program(program).await).clone();
            match Session::open(proxy.grounds.now(), run.clone(), origin, peer, process) {
                Ok(session) => serve(session, &proxy.interceptor, stream).await,
                Err(error) => refuse(&run, stream, "unrecorded", &error.to_string()),
            }
        });
    }

    /// Any local user can connect to a loopback port: one note a second must do, or the disk would be theirs to fill.
    fn note_unattributed(&self, peer: SocketAddr) {
        let count = self.unattributed.fetch_add(1, Ordering::Relaxed) + 1;
        let now = clock::mono_ns();
        let last = self.unattributed_noted_ns.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= NOTE_INTERVAL_NS;
        let won = || self.unattributed_noted_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if due && won().is_ok() {
            let text = format!("a connection from {peer} had no origin and was refused; {count} so far");
            self.recorder.note("unattributed", text);
        }
    }

    fn origin(&self, stream: &TcpStream, peer: SocketAddr) -> Option<(Origin, Arc<Run>)> {
        let key = listen::connection_key(stream, peer).ok()?;
        let origin = match self.kernel.take_origin(&key) {
            Ok(origin) => attribute::origin(&origin?),
            Err(error) => {
                tracing::error!(%error, "the origin of a connection could not be looked up");
                return None;
            }
        };
        let run = self.runs.get(origin.cgroup)?;
        Some((origin, run))
    }
}

/// Until the self-test has passed, only the self-test may be in the run's cgroup.
fn answer_selftest(origin: &Origin, stream: TcpStream) {
    if origin.destination == selftest::DESTINATION {
        // What the child does not get it reports; an answer of 7 bytes fits into any socket's buffer.
        let _ = stream.try_write(selftest::ANSWER);
    } else {
        dial::reset(stream);
    }
}

/// Serves a session to its end, which is on record whatever it is.
async fn serve(session: Session, interceptor: &Interceptor, stream: TcpStream) {
    let End { outcome, error } = way(&session, interceptor, stream).await;
    session.close(outcome, error);
}

/// From the first bytes to the last: what it is, whether it may, where it goes, and who speaks its protocol.
async fn way(session: &Session, interceptor: &Interceptor, stream: TcpStream) -> End {
    if let Err(error) = dial::settle_client(&stream) {
        return End { outcome: Outcome::ClientReset, error: Some(error.to_string()) };
    }
    settled(session, interceptor, stream).await
}

/// Serves a session within another one.
pub fn carry(session: Session, interceptor: &Interceptor, stream: TcpStream) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move {
        let End { outcome, error } = settled(&session, interceptor, stream).await;
        session.close(outcome, error);
    })
}

/// The same of a stream whose settings are made.
async fn settled(session: &Session, interceptor: &Interceptor, stream: TcpStream) -> End {
    // Whatever ends the session before both sides have ended it is no orderly end.
    dial::end_abruptly(&stream);
    let legs = tokio::select! {
        legs = connect(session, interceptor, stream) => legs,
        () = session.abandoned() => Err(End::abandoned()),
    };
    match legs {
        Ok(legs) => match masked(session, &legs) {
            Ok(()) => (proto::driver(&legs.classified.driver).serve)(session, legs).await,
            Err(end) => end,
        },
        Err(end) => end,
    }
}

/// Values that a client must not get can be hidden from it in some protocols only.
fn masked(session: &Session, legs: &Legs) -> Result<(), End> {
    let driver = proto::driver(&legs.classified.driver).name;
    // Without its names a process could do nothing; they are what it asked for.
    if proto::MASKED_FOR_CLIENTS.contains(&driver) || driver == proto::dns::DRIVER.name {
        return Ok(());
    }
    let why = if session.has_passed_tls() {
        "its TLS is not opened".to_owned()
    } else {
        format!("what it says is not masked in the protocol ({driver})")
    };
    if session.may_be_unmasked(&why).map_err(|error| unrecorded(&error))? {
        return Ok(());
    }
    let error = Some(format!("the target's values are masked for clients, and cannot be, because {why}"));
    Err(End { outcome: Outcome::Refused, error })
}

/// Both legs, as far as they can be brought before a protocol is spoken.
async fn connect(session: &Session, interceptor: &Interceptor, stream: TcpStream) -> Result<Legs, End> {
    let mut known = classify::classify(session, &stream).await;
    session.record(known.classified.clone()).map_err(|error| unrecorded(&error))?;
    let mut permit = match ask(session, &known.classified, dial::gone(&stream)).await {
        Ok(permit) => permit,
        Err(declined) => return Err(turn_away(session, declined, stream, known).await),
    };
    let target = session
        .dial(&permit)
        .await
        .map_err(|error| End { outcome: error.outcome(), error: Some(error.to_string()) })?;
    if let Some(spoken) = classify::spoken(session, &known, &stream, &target).await {
        known = spoken;
        session.record(known.classified.clone()).map_err(|error| unrecorded(&error))?;
        permit = match ask(session, &known.classified, dial::gone(&stream)).await {
            Ok(permit) => permit,
            Err(declined) => return Err(turn_away(session, declined, stream, known).await),
        };
    }
    open(session, interceptor, known, permit, (stream, target)).await
}

/// What is known of a connection once both sides have agreed on TLS, and whether that is more than before.
async fn turned(
    session: &Session,
    stream: &TcpStream,
    mut first: First,
    classified: Classified,
) -> Result<(Known, bool), End> {
    let hello = classify::hello(stream, &mut first, limits::HANDSHAKE_WAIT).await;
    if first.bytes.is_empty() {
        let error = Some("the client said nothing once the target had agreed to TLS".into());
        return Err(End { outcome: Outcome::ClientReset, error });
    }
    let named = hello.as_ref().map(|hello| classify::turned(session, &classified, hello));
    let Some(named) = named.filter(|named| *named != classified) else {
        return Ok((Known { first, classified, hello }, false));
    };
    session.record(named.clone()).map_err(|error| unrecorded(&error))?;
    Ok((Known { first, classified: named, hello }, true))
}

/// Both legs of what is known, its TLS opened where it has any.
async fn open(
    session: &Session,
    interceptor: &Interceptor,
    Known { first, mut classified, mut hello }: Known,
    mut permit: Permit,
    (stream, target): (TcpStream, TcpStream),
) -> Result<Legs, End> {
    let mut way = Way::default();
    let first = match proto::driver(&classified.driver).turn {
        None => first,
        Some(turn) => match turn(session, &stream, &target, first).await? {
            Upgrade::Clear(first) => first,
            Upgrade::Foreign(first) => {
                be_opaque(session, &mut classified)?;
                if session.mode() == Mode::Enforce {
                    let error = Some("the target does not speak the protocol that it was asked for in".into());
                    return Err(End { outcome: Outcome::Refused, error });
                }
                first
            }
            Upgrade::Tls(first, prelude) => {
                way.prelude = Some(prelude);
                let (known, is_new) = turned(session, &stream, first, classified).await?;
                if is_new {
                    // The name that the client asks for is known only now, and the target has not heard it yet.
                    permit = match ask(session, &known.classified, dial::gone(&stream)).await {
                        Ok(permit) => permit,
                        Err(declined) => return Err(turn_away(session, declined, stream, known).await),
                    };
                }
                let Known { first, .. } = known;
                (classified, hello) = (known.classified, known.hello);
                first
            }
        },
    };
    // What a connection turned to is TLS, whatever it looks like.
    let turned = way.prelude.is_some();
    if !turned && hello.is_none() && !begins_like_tls(&first.bytes) {
        let (client, target) = (Leg::new(stream), Leg::new(target));
        return Ok(Legs { client, target, first, classified, tls: None, permit });
    }
    // Nobody takes an end in the middle of a handshake for an orderly one.
    dial::end_abruptly(&target);
    let connected = match &hello {
        Some(hello) => interceptor.open(session, &permit, (stream, target), (first, &classified, hello), way).await?,
        None => interceptor.unread(session, (stream, target), first)?,
    };
    let Connected { client, target, first, proven, opened } = connected;
    let Some(inside) = opened else {
        if turned {
            be_opaque(session, &mut classified)?;
        }
        return Ok(Legs { client, target, first, classified, tls: None, permit });
    };
    let port = session.origin().destination.port();
    let spoken = turned.then(|| Protocol::named(&classified.protocol)).flatten();
    let agreed = spoken.or_else(|| inside.alpn.as_deref().and_then(classify::agreed));
    let is_proven = proven.is_some();
    let classified = classify::inside(&classified, proven, agreed, &first.bytes, port);
    session.record(classified.clone()).map_err(|error| unrecorded(&error))?;
    // Judged again: now the target has proven its name, or it has not, and what is inside is known.
    let permit = match ask(session, &classified, client.gone()).await {
        Ok(permit) => permit,
        Err(declined) => {
            let caller = Caller { leg: client, first, classified: &classified, greets: false };
            return Err(declined.tell(session, caller).await);
        }
    };
    let Inside { certificate, authority, lesson, .. } = inside;
    Ok(Legs {
        client,
        target,
        first,
        classified,
        tls: Some(Opened { certificate, proven: is_proven, authority, lesson }),
        permit,
    })
}

/// What is not spoken here after all is served as bytes, and says so.
fn be_opaque(session: &Session, classified: &mut Classified) -> Result<(), End> {
    classified.driver = proto::opaque::DRIVER.name.into();
    session.record(classified.clone()).map_err(|error| unrecorded(&error))?;
    Ok(())
}

fn unrecorded(error: &Unrecorded) -> End {
    End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) }
}

fn refuse(run: &Run, stream: TcpStream, code: &str, text: &str) {
    Counts::add(&run.counts.dropped);
    let note = crewtap_core::bodies::Note { code: code.into(), text: format!("a connection was refused: {text}") };
    if let Err(error) = run.record(note) {
        tracing::error!(%error, code, "a refused connection could not be noted");
    }
    dial::reset(stream);
}
