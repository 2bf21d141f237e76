//! The channel of an SFTP subsystem.
//!
//! Owns the two streams of packets: each request is on record and decided before the target hears of it, each answer is on record
//! before the client has it. What a request comes to in the record is [`files`]'s.

mod files;

use bytes::Bytes;
use crewtap_core::session::Side;
use crewtap_core::wire::ssh::sftp::{self, Fault, Packets, Request};
use tokio::sync::Mutex;

use super::channel::{Lane, STDERR};
use super::exchange::{Exchange, Stream};
use super::queue::Item;
use super::told::Ended;
use crate::recorder::Unrecorded;
use files::{Course, Files, Question};

/// See the module.
pub(super) struct Sftp<'l, 'c> {
    lane: &'l Lane<'c>,
    /// The subsystem's own exchange.
    exchange: &'l Exchange,
    files: Files<'l, 'c>,
    /// Packets go to the client whole, whoever sends them.
    to_client: Mutex<()>,
}

/// What becomes of a request.
enum Decided {
    Passes,
    /// It goes nowhere, and gets this for an answer.
    Answered(Vec<u8>),
    /// The channel ends.
    Broken(Fault),
}

impl<'l, 'c> Sftp<'l, 'c> {
    pub(super) fn new(lane: &'l Lane<'c>, exchange: &'l Exchange) -> Self {
        Self { lane, exchange, files: Files::new(lane), to_client: Mutex::default() }
    }

    /// Serves it until one side has closed the channel.
    ///
    /// # Errors
    /// When something cannot be recorded.
    pub(super) async fn serve(self) -> Result<(), Unrecorded> {
        let served = {
            let up = std::pin::pin!(self.up());
            let down = std::pin::pin!(self.down());
            tokio::select! {
                result = up => result,
                result = down => result,
            }
        };
        served?;
        self.files.end()
    }

    async fn up(&self) -> Result<(), Unrecorded> {
        let mut packets = Packets::default();
        loop {
            let (item, weight) = self.lane.up.next().await;
            match item {
                Item::Data(bytes) => {
                    packets.feed(&bytes);
                    if let Err(fault) = self.requests(&mut packets).await? {
                        return self.spoiled(Side::Client, fault);
                    }
                }
                Item::Eof => drop(self.lane.target.eof().await),
                Item::Close | Item::Gone => return Ok(()),
                Item::Terminal(_, answer) | Item::Start(_, answer) => self.lane.answer(answer, false).await,
                _ => {}
            }
            self.lane.up.done(weight);
        }
    }

    /// Decides whatever requests are whole, and sends on what may pass.
    async fn requests(&self, packets: &mut Packets) -> Result<Result<(), Fault>, Unrecorded> {
        let mut passes: Vec<u8> = Vec::new();
        loop {
            let packet = match packets.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(fault) => return Ok(Err(fault)),
            };
            let (id, request) = match sftp::request(packet) {
                Ok(request) => request,
                Err(fault) => return Ok(Err(fault)),
            };
            if self.asks(&request) && !passes.is_empty() {
                // What came before does not wait for anybody's decision.
                self.send(std::mem::take(&mut passes)).await?;
            }
            match self.decided(id, &request).await? {
                Decided::Passes => passes.extend_from_slice(packet),
                Decided::Answered(answer) => self.tell(answer).await?,
                Decided::Broken(fault) => return Ok(Err(fault)),
            }
        }
        self.send(passes).await.map(Ok)
    }

    fn asks(&self, request: &Request<'_>) -> bool {
        let touches = !matches!(request, Request::Read { .. } | Request::Write { .. } | Request::ReadDirectory(_));
        touches && !self.lane.conversation.session.is_open(&self.lane.conversation.target)
    }

    /// Puts a request on record and asks for it; why not, where it may not pass.
    async fn decided(&self, id: u32, request: &Request<'_>) -> Result<Decided, Unrecorded> {
        let Question { n, actions, content } = match self.files.request(id, request)? {
            Course::Asked(Some(question)) => question,
            Course::Asked(None) => return Ok(Decided::Passes),
            Course::NoSuchHandle => return Ok(Decided::Answered(sftp::no_such_handle(id))),
            Course::Broken(fault) => return Ok(Decided::Broken(fault)),
        };
        for action in actions {
            let permitted = self.lane.conversation.may((n, action), &content, &self.lane.up, || {}).await?;
            if let Err(why) = permitted {
                self.files.refused(id)?;
                return Ok(Decided::Answered(sftp::refusal(id, &why)));
            }
        }
        Ok(Decided::Passes)
    }

    async fn send(&self, packets: Vec<u8>) -> Result<(), Unrecorded> {
        if packets.is_empty() {
            return Ok(());
        }
        let session = self.lane.conversation.session;
        session.settled().await?;
        let moved = packets.len();
        if self.lane.target.data_bytes(Bytes::from(packets)).await.is_ok() {
            session.moved(moved);
        }
        Ok(())
    }

    async fn tell(&self, packets: Vec<u8>) -> Result<(), Unrecorded> {
        let session = self.lane.conversation.session;
        session.settled().await?;
        let _whole = self.to_client.lock().await;
        let moved = packets.len();
        if self.lane.client.data_bytes(Bytes::from(packets)).await.is_ok() {
            session.moved(moved);
        }
        Ok(())
    }

    async fn down(&self) -> Result<(), Unrecorded> {
        let mut packets = Packets::default();
        loop {
            let (item, weight) = self.lane.down.next().await;
            match item {
                Item::Data(bytes) => {
                    packets.feed(&bytes);
                    if let Err(fault) = self.answers(&mut packets).await? {
                        return self.spoiled(Side::Server, fault);
                    }
                }
                Item::Extended(STDERR, bytes) => {
                    let lane = self.lane;
                    let more = lane.forward(self.exchange, Stream::Errors, bytes, &lane.down).await?;
                    lane.down.done(weight + more);
                    continue;
                }
                Item::Eof => drop(self.lane.client.eof().await),
                Item::ExitStatus(status) => {
                    self.files.end()?;
                    self.lane.end(self.exchange, Ended::Status(status))?;
                    self.lane.conversation.session.settled().await?;
                    let _ = self.lane.client.exit_status(status).await;
                }
                Item::Close => {
                    self.files.end()?;
                    return self.lane.end(self.exchange, Ended::Closed);
                }
                Item::Gone => return Ok(()),
                _ => {}
            }
            self.lane.down.done(weight);
        }
    }

    /// Puts whatever answers are whole on record, and sends them on.
    async fn answers(&self, packets: &mut Packets) -> Result<Result<(), Fault>, Unrecorded> {
        let mut passes: Vec<u8> = Vec::new();
        loop {
            let packet = match packets.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(fault) => return Ok(Err(fault)),
            };
            match sftp::answer(packet) {
                Ok((id, answer)) => {
                    if let Err(fault) = self.files.answer(id, &answer, packet)? {
                        return Ok(Err(fault));
                    }
                }
                Err(fault) => return Ok(Err(fault)),
            }
            passes.extend_from_slice(packet);
        }
        if !passes.is_empty() {
            self.tell(passes).await?;
        }
        Ok(Ok(()))
    }

    /// What cannot be read cannot be judged: the channel ends.
    fn spoiled(&self, side: Side, fault: Fault) -> Result<(), Unrecorded> {
        let who = if side == Side::Client { "client" } else { "target" };
        self.lane.note_in(
            self.exchange,
            "sftp_malformed",
            format!("the {who} sent {fault}: the channel was closed"),
        )?;
        self.lane.end(self.exchange, Ended::Aborted("a packet could not be read"))
    }
}
