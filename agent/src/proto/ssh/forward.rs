//! Connections that one host makes for the other, through the channels of a connection.
//!
//! Owns their exchanges; nothing is opened before it was decided. What a connection through the target carries is a session of its
//! own; what comes the other way, and through sockets in the file system, is on record as bytes.

use std::sync::Arc;

use crewtap_core::bodies::Note;
use crewtap_core::limits::SSH_TUNNELS_MAX;
use crewtap_core::session::Side;
use russh::{ChannelOpenFailure, client, server};

use super::Conversation;
use super::ask::{Accepted, Opening, ToClient, ToTarget};
use super::channel::Lane;
use super::exchange::Exchange;
use super::queue::Inbox;
use super::told::{Asked, Ended, FROM, LISTEN};
use crate::gate::Passage;
use crate::recorder::{Told, Unrecorded};
use crate::session::{self, Tunnels};

impl<'c> Conversation<'c> {
    /// The client opens a connection through the target.
    ///
    /// # Errors
    /// When something cannot be recorded.
    pub(super) async fn through(
        &'c self,
        opening: Opening,
        client: ToClient,
        up: Arc<Inbox>,
        reply: server::ChannelOpenHandle,
    ) -> Result<(), Unrecorded> {
        let asked = self.forwarding(&opening);
        let exchange = Exchange::new(self.next(), false);
        self.present(&exchange, &asked)?;
        let action = (exchange.n, asked.action.clone());
        if self.may(action, &asked.content(), &up, || {}).await?.is_err() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            self.half_client.close(client.id().number());
            return self.tell_end(&exchange, &Ended::Blocked);
        }
        self.session.settled().await?;
        let inside = match &opening {
            Opening::Tcp { host, port, .. } => u16::try_from(*port).ok().map(|port| (host.clone(), port)),
            Opening::Local(_) => None,
        };
        let opened = match opening {
            Opening::Tcp { host, port, from: (address, from) } => {
                self.to_target.channel_open_direct_tcpip(host, port, address, from).await
            }
            Opening::Local(path) => self.to_target.channel_open_direct_streamlocal(path).await,
        };
        let target = match opened {
            Ok(channel) => channel.split().1,
            Err(error) => {
                let reason = match error {
                    russh::Error::ChannelOpenFailure(reason) => reason,
                    _ => ChannelOpenFailure::ConnectFailed,
                };
                reply.reject(reason).await;
                self.half_client.close(client.id().number());
                return self.tell_end(&exchange, &Ended::Failed("the target could not connect"));
            }
        };
        let Some(down) = self.half_target.get(target.id().number()) else {
            self.half_client.close(client.id().number());
            let _ = target.close().await;
            return self.tell_end(&exchange, &Ended::Failed("too many channels are open"));
        };
        reply.accept().await;
        let lane = Lane::new(self, (client, target), (up, down));
        match (inside, &self.session.ground().tunnels) {
            (Some(inside), Some(tunnels)) => self.carry(lane, &exchange, inside, tunnels).await,
            _ => lane.relay(&exchange).await,
        }
    }

    /// What goes through another host is a session of its own.
    async fn carry(
        &self,
        lane: Lane<'_>,
        exchange: &Exchange,
        (host, port): (String, u16),
        tunnels: &Tunnels,
    ) -> Result<(), Unrecorded> {
        let (Ok((client, from_client)), Ok((target, from_target))) = (session::pair(), session::pair()) else {
            lane.part().await;
            return self.tell_end(exchange, &Ended::Failed("there is no descriptor left for it"));
        };
        let has_room = self.tunnels.get() < SSH_TUNNELS_MAX;
        let inner = if has_room { self.session.within(exchange.n, (&host, port), target)? } else { None };
        let Some(inner) = inner else {
            lane.part().await;
            return self.tell_end(exchange, &Ended::Failed("too many sessions are open"));
        };
        let served = (tunnels.carry)(inner, &tunnels.interceptor, client);
        self.tunnels.set(self.tunnels.get() + 1);
        tokio::join!(served, lane.ferry(from_client, from_target));
        self.tunnels.set(self.tunnels.get() - 1);
        lane.part().await;
        self.tell_end(exchange, &Ended::Closed)
    }

    /// The target has accepted a connection for the client.
    ///
    /// # Errors
    /// When something cannot be recorded.
    pub(super) async fn accepted(
        &'c self,
        accepted: Accepted,
        target: ToTarget,
        down: Arc<Inbox>,
        reply: client::ChannelOpenHandle,
    ) -> Result<(), Unrecorded> {
        let Accepted { host, port, from: (address, from) } = &accepted;
        let asked = Asked::forward("ACCEPTED", &format!("{FROM}{address}"), Some(*from), &self.user);
        let exchange = Exchange::new(self.next(), false);
        self.present(&exchange, &asked)?;
        if !self.listens(*port) {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            self.half_target.close(target.id().number());
            return self.tell_end(&exchange, &Ended::Blocked);
        }
        let opened = self.to_client.channel_open_forwarded_tcpip(host.clone(), *port, address.clone(), *from).await;
        let Ok(channel) = opened else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            self.half_target.close(target.id().number());
            return self.tell_end(&exchange, &Ended::Failed("the client did not take it"));
        };
        let client = channel.split().1;
        let Some(up) = self.half_client.get(client.id().number()) else {
            self.half_target.close(target.id().number());
            let _ = client.close().await;
            return self.tell_end(&exchange, &Ended::Failed("too many channels are open"));
        };
        reply.accept().await;
        Lane::new(self, (client, target), (up, down)).relay(&exchange).await
    }

    /// The client wants the target to listen for it: on record and decided like any forward, to a host `listen:ADDRESS`.
    ///
    /// # Errors
    /// When something cannot be recorded.
    pub(super) async fn listen(&self, address: &str, port: u32, is_wanted: bool) -> Result<Option<u32>, Unrecorded> {
        if !is_wanted {
            self.forget_port(port);
            let text = format!("the client wants the target to listen at port {port} no longer");
            self.session.record(Note { code: "ssh_listen_ended".into(), text })?;
            self.session.settled().await?;
            return Ok(self.to_target.cancel_tcpip_forward(address, port).await.is_ok().then_some(port));
        }
        let asked = Asked::forward("LISTEN", &format!("{LISTEN}{address}"), Some(port), &self.user);
        let exchange = Exchange::new(self.next(), false);
        self.present(&exchange, &asked)?;
        // Nobody is waited for here: a client that listens is asked for again.
        let is_permitted = self.session.is_open(&self.target) || {
            let decision = self.session.ask(Some(exchange.n), asked.action.clone(), &self.target, None)?;
            matches!(decision.passage, Passage::Open(_))
        };
        if !is_permitted || !self.has_room_to_listen() {
            self.tell_end(&exchange, &Ended::Blocked)?;
            return Ok(None);
        }
        self.session.settled().await?;
        let Ok(given) = self.to_target.tcpip_forward(address, port).await else {
            self.tell_end(&exchange, &Ended::Failed("the target does not listen"))?;
            return Ok(None);
        };
        let given = if given == 0 { port } else { given };
        self.remember_port(given);
        self.tell_end(&exchange, &Ended::Closed)?;
        Ok(Some(given))
    }

    fn forwarding(&self, opening: &Opening) -> Asked {
        match opening {
            Opening::Tcp { host, port, .. } => Asked::forward("FORWARD", host, Some(*port), &self.user),
            Opening::Local(path) => Asked::forward("FORWARD_LOCAL", &format!("unix:{path}"), None, &self.user),
        }
    }

    /// Puts on record what is asked for.
    pub(super) fn present(&self, exchange: &Exchange, asked: &Asked) -> Result<(), Unrecorded> {
        let (request, payload) = asked.request();
        let len = payload.len();
        let told = Told { exchange: Some(exchange.n), body: request.into(), payload: payload.into() };
        self.session.record_burst(Side::Client, len, vec![told]).map(drop)
    }

    fn tell_end(&self, exchange: &Exchange, ended: &Ended) -> Result<(), Unrecorded> {
        let told = Told { exchange: Some(exchange.n), body: ended.response().into(), payload: b"".into() };
        self.session.record_burst(Side::Server, 0, vec![told]).map(drop)
    }
}

impl Lane<'_> {
    /// Moves bytes, on record, to the channel's end.
    async fn relay(self, exchange: &Exchange) -> Result<(), Unrecorded> {
        let served = self.pump(exchange).await;
        self.end(exchange, Ended::Closed)?;
        self.part().await;
        served
    }
}
