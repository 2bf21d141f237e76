//! The driver of SSH: ends the connection on both sides, and decides and records what passes between.
//!
//! Owns the order: the target's host key is judged first, then the client sees ours; the target lets us in, then we the client; a
//! channel's request is on record and decided, then the target hears of it. Transport, keys and channels are the library's.

mod ask;
mod channel;
mod client_side;
mod decide;
mod exchange;
mod ferry;
mod forward;
mod host;
mod keys;
mod login;
mod queue;
mod sftp;
mod stream;
mod target_side;
mod told;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use crewtap_core::bodies::{Classified, Note};
use crewtap_core::limits::SSH_LISTENS_MAX;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::target::Target;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use russh::{client, server};
use tokio::sync::mpsc;

use super::{Driver, Legs, Refused};
use crate::authority::Face;
use crate::gate::Permit;
use crate::leg::Leg;
use crate::recorder::Unrecorded;
use crate::redacted::Redacted;
use crate::relay::{self, End, First};
use crate::session::{Faces, Session};
use ask::{Ask, ToClient, ToTarget};
use channel::Lane;
use client_side::ClientSide;
use keys::Places;
use login::{Login, LoginError};
use queue::{Half, Meter};
use target_side::{Learned, TargetSide};

/// SSH's row of the table.
pub const DRIVER: Driver = Driver {
    name: "ssh",
    protocols: &["ssh"],
    turn: None,
    refuse: Some(|_, _, refused| Box::pin(std::future::ready(host::refusal(refused)))),
    serve: |session, legs| Box::pin(serve(session, legs)),
};

/// Questions of both sides that wait.
const ASKS_MAX: usize = 16;

/// What serves both sides once the client is in.
struct Conversation<'s> {
    session: &'s Session,
    target: Target,
    user: String,
    to_client: server::Handle,
    to_target: client::Handle<TargetSide>,
    half_client: Arc<Half>,
    half_target: Arc<Half>,
    /// Exchanges so far.
    exchanges: Cell<u32>,
    /// Ports at which the target listens for the client.
    ports: RefCell<BTreeSet<u32>>,
    /// Sessions within this one.
    tunnels: Cell<usize>,
}

impl Conversation<'_> {
    /// Number of the next exchange.
    fn next(&self) -> u32 {
        let n = self.exchanges.get() + 1;
        self.exchanges.set(n);
        n
    }

    /// A channel is over.
    fn forget(&self, client: &ToClient, target: &ToTarget) {
        self.half_client.close(client.id().number());
        self.half_target.close(target.id().number());
    }

    fn listens(&self, port: u32) -> bool {
        self.ports.borrow().contains(&port)
    }

    fn has_room_to_listen(&self) -> bool {
        self.ports.borrow().len() < SSH_LISTENS_MAX
    }

    fn remember_port(&self, port: u32) {
        self.ports.borrow_mut().insert(port);
    }

    fn forget_port(&self, port: u32) {
        self.ports.borrow_mut().remove(&port);
    }

    /// Serves what one side asks.
    async fn answer(&self, ask: Ask) -> Result<(), Unrecorded> {
        match ask {
            Ask::LogIn(_, answer) => drop(answer.send(server::Auth::Accept)),
            Ask::Session { channel, inbox, reply } => {
                // Nothing is asked of the target yet but a number.
                let Ok(opened) = self.to_target.channel_open_session().await else {
                    self.half_client.close(channel.id().number());
                    reply.reject(russh::ChannelOpenFailure::ResourceShortage).await;
                    return Ok(());
                };
                let (_, target) = opened.split();
                let Some(down) = self.half_target.get(target.id().number()) else {
                    self.half_client.close(channel.id().number());
                    let _ = target.close().await;
                    return Ok(());
                };
                reply.accept().await;
                return Lane::new(self, (channel, target), (inbox, down)).serve().await;
            }
            Ask::Open { opening, channel, inbox, reply } => return self.through(opening, channel, inbox, reply).await,
            Ask::Accepted { accepted, channel, inbox, reply } => {
                return self.accepted(accepted, channel, inbox, reply).await;
            }
            Ask::Listen { address, port, is_wanted, answer } => {
                let given = self.listen(&address, port, is_wanted).await?;
                let _ = answer.send(given);
            }
        }
        Ok(())
    }

    /// Serves all channels until one side has gone.
    async fn serve<C>(&self, asks: &mut mpsc::Receiver<Ask>, mut client: Pin<&mut C>) -> End
    where
        C: Future<Output = Result<(), russh::Error>>,
    {
        let mut lanes = FuturesUnordered::new();
        let mut is_over = false;
        loop {
            tokio::select! {
                // What was said before an end is served before the end.
                biased;
                Some(served) = lanes.next(), if !lanes.is_empty() => {
                    if let Err(error) = served {
                        return unrecorded(&error);
                    }
                }
                Some(ask) = asks.recv() => lanes.push(self.answer(ask)),
                () = self.half_target.over(), if !self.half_target.is_over() => {}
                ended = &mut client, if !is_over => {
                    tracing::debug!(session = %self.session.id(), ?ended, "the client of an SSH connection has gone");
                    is_over = true;
                }
                else => return End { outcome: Outcome::Completed, error: None },
            }
            if lanes.is_empty() && (is_over || self.half_target.is_over()) {
                return End { outcome: Outcome::Completed, error: None };
            }
        }
    }
}

async fn serve(session: &Session, legs: Legs) -> End {
    tokio::select! {
        end = converse(session, legs) => end,
        () = session.abandoned() => End::abandoned(),
    }
}

/// From the two legs to the end.
async fn converse(session: &Session, legs: Legs) -> End {
    let Legs { client, target, first, permit, classified, .. } = legs;
    let learnt = login::is_learned(session).then_some("the program logs in with a key that cannot be used for it");
    let faces = match (&session.ground().ssh, host::unopened(session).or(learnt)) {
        (Some(faces), None) => faces,
        (_, why) => return pass(session, why.unwrap_or_default(), (client, target, first)).await,
    };
    let mut reached = match reach(session, faces, (target, permit, &classified)).await {
        Ok(reached) => reached,
        Err(end) => {
            let text = format!("crewtap: {}", end.error.as_deref().unwrap_or("refused"));
            relay::tell(&client, &host::farewell(&text)).await;
            return *end;
        }
    };
    let (banner, is_hopeless) = match reached.log_in_with_lease(session).await {
        Ok(told) => told,
        Err(error) => return unrecorded(&error),
    };
    let side = ClientSide { half: reached.half_client.clone(), asks: reached.asks.clone(), banner };
    let (stream, line) = stream::Stream::new(first.bytes, client.into_carrier(), &reached.half_client);
    let ends = Ends(line);
    let begun = tokio::time::timeout(
        crewtap_core::limits::HANDSHAKE_WAIT,
        server::run_stream(host::towards_client(&reached.face), stream, side),
    );
    let running = match begun.await {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => return End { outcome: Outcome::ClientReset, error: Some(error.to_string()) },
        Err(_) => return End { outcome: Outcome::ClientReset, error: Some("the client said no version".into()) },
    };
    let handle = running.handle();
    reached.serve(session, (handle, std::pin::pin!(running)), (&ends, is_hopeless)).await
}

/// A target whose keys are exchanged, and whose host key was judged.
struct Reached<'s> {
    login: Login<'s>,
    target: Target,
    face: Arc<Face>,
    learned: Learned,
    half_client: Arc<Half>,
    half_target: Arc<Half>,
    asks: mpsc::Sender<Ask>,
    asked: mpsc::Receiver<Ask>,
    ends: Ends,
}

/// Exchanges keys with the target, and judges its host key.
async fn reach<'s>(
    session: &'s Session,
    faces: &Faces,
    (target, permit, classified): (Leg, Permit, &Classified),
) -> Result<Reached<'s>, Box<End>> {
    let places = Places::look_up(session.origin(), session.process()).await;
    let preference = host::preference(session, faces, &permit).await;
    let meter = Arc::new(Meter::default());
    let (half_client, half_target) = (Half::new(Side::Client, &meter), Half::new(Side::Server, &meter));
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let learned = Learned::default();
    let (stream, line) = stream::Stream::new(Vec::new(), target.into_carrier(), &half_target);
    let ends = Ends(line);
    let side = TargetSide { half: half_target.clone(), asks: asks.clone(), learned: learned.clone() };
    let connected = client::connect_stream(host::towards_target(preference), stream, side);
    let handle = match tokio::time::timeout(crewtap_core::limits::HANDSHAKE_WAIT, connected).await {
        Ok(Ok(handle)) => handle,
        Ok(Err(error)) => return Err(Box::new(host::unreached(&error.to_string()))),
        Err(_) => return Err(Box::new(host::unreached("it did not exchange keys in time"))),
    };
    let known = host::judge(session, faces, (classified, permit), (&learned, places)).await?;
    let login = Login::new(session, handle, known.lease, known.places, known.facts);
    let (target, face) = (known.target, known.face);
    Ok(Reached { login, target, face, learned, half_client, half_target, asks, asked, ends })
}

impl<'s> Reached<'s> {
    /// Logs in with the catalog's credential, where there is one. What the client is to be told before its log-in, and whether that
    /// is hopeless.
    async fn log_in_with_lease(&mut self, session: &Session) -> Result<(Option<String>, bool), Unrecorded> {
        let why = match self.login.with_lease().await {
            Ok(()) => None,
            Err(LoginError::Unrecorded(error)) => return Err(error),
            Err(error) => Some(format!("crewtap: {error}; session {}\r\n", session.id())),
        };
        let told = self.learned.facts().banner;
        if let Some(text) = &told {
            session.record(Note { code: "ssh_banner".into(), text: text.clone() })?;
        }
        let is_hopeless = why.is_some();
        Ok((why.or(told), is_hopeless))
    }

    /// Lets the client in, and serves its channels until one side has gone.
    async fn serve<C>(
        mut self,
        session: &'s Session,
        (to_client, mut client): (server::Handle, Pin<&mut C>),
        (ends, is_hopeless): (&Ends, bool),
    ) -> End
    where
        C: Future<Output = Result<(), russh::Error>>,
    {
        if let Err(end) = let_in(session, &mut self.login, &mut self.asked, client.as_mut(), is_hopeless).await {
            return *end;
        }
        if let Err(error) = host::compare(session, &ends.0, &self.ends.0) {
            return unrecorded(&error);
        }
        let Self { login, target, learned, half_client, half_target, asks, mut asked, ends: ends_target, .. } = self;
        // Only the two sides ask from now on: when both have gone, nobody does.
        drop(asks);
        let (to_target, user) = login.into_parts();
        let conversation = Conversation {
            session,
            target,
            user,
            to_client,
            to_target,
            half_client,
            half_target,
            exchanges: Cell::new(login::EXCHANGE),
            ports: RefCell::default(),
            tunnels: Cell::new(0),
        };
        let end = tokio::select! {
            end = conversation.serve(&mut asked, client.as_mut()) => end,
            () = stalled(session, &ends.0, &ends_target.0) => {
                End { outcome: Outcome::ClientReset, error: Some("a side has gone, and nothing moved any more".into()) }
            }
        };
        conversation.part(client, &learned).await;
        end
    }
}

impl Conversation<'_> {
    /// Tells both sides that it is over, in their words, and gives what is still on its way some time.
    async fn part<C>(&self, client: Pin<&mut C>, learned: &Learned)
    where
        C: Future<Output = Result<(), russh::Error>>,
    {
        let why = learned.facts().farewell.unwrap_or_default();
        let note = Note { code: "ssh_farewell".into(), text: why.clone() };
        let why = if why.is_empty() || self.session.record(note).is_err() { String::new() } else { why };
        let _ = self.to_target.disconnect(russh::Disconnect::ByApplication, "", "").await;
        let told = self.to_client.disconnect(russh::Disconnect::ByApplication, why, String::new()).await;
        if told.is_ok() {
            let _ = tokio::time::timeout(crewtap_core::limits::FAREWELL_WAIT, client).await;
        }
    }
}

/// Serves the client's attempts to log in until one of them succeeds.
async fn let_in<C>(
    session: &Session,
    login: &mut Login<'_>,
    asked: &mut mpsc::Receiver<Ask>,
    mut client: Pin<&mut C>,
    is_hopeless: bool,
) -> Result<(), Box<End>>
where
    C: Future<Output = Result<(), russh::Error>>,
{
    loop {
        let ask = tokio::select! {
            ask = asked.recv() => ask,
            _ = &mut client => None,
        };
        let Some(Ask::LogIn(attempt, answer)) = ask else {
            let ended = login.abandon().map_err(|error| Box::new(unrecorded(&error)));
            let error = Some(format!("the client has not logged in; session {}", session.id()));
            return Err(ended.err().unwrap_or_else(|| Box::new(End { outcome: Outcome::Refused, error })));
        };
        let reply = if is_hopeless {
            server::Auth::reject()
        } else {
            match login.attempt(attempt).await {
                Ok(reply) => reply,
                Err(LoginError::Unrecorded(error)) => return Err(Box::new(unrecorded(&error))),
                Err(error) => {
                    return Err(Box::new(End { outcome: Outcome::UpstreamReset, error: Some(error.to_string()) }));
                }
            }
        };
        let is_in = login.is_in() && !is_hopeless;
        let _ = answer.send(reply);
        if is_in {
            return Ok(());
        }
    }
}

/// What is not opened here passes as bytes, where it may.
async fn pass(session: &Session, why: &str, (client, target, first): (Leg, Leg, First)) -> End {
    if !host::may_pass(session) {
        let error = format!("{why}: the connection is refused");
        relay::tell(&client, &host::farewell(&format!("crewtap: {error}; session {}", session.id()))).await;
        return End { outcome: Outcome::Refused, error: Some(error) };
    }
    let text = format!("{why}: the connection passes unopened");
    if let Err(error) = session.record(Note { code: "ssh_unopened".into(), text }) {
        return unrecorded(&error);
    }
    let mut tap = Redacted::new(session);
    let end = relay::relay(session, &mut tap, (&client, first), (&target, First::default())).await;
    tap.finish();
    end
}

/// Resolves when one side has gone, and nothing has moved for a while: a side that is not read does not say so.
async fn stalled(session: &Session, client: &stream::Line, target: &stream::Line) {
    tokio::select! {
        () = client.gone() => {}
        () = target.gone() => {}
    }
    session.still().await;
}

/// Ends a leg when it goes out of scope, whatever the library waits for.
struct Ends(stream::Line);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.cut();
    }
}

fn unrecorded(error: &Unrecorded) -> End {
    End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) }
}
