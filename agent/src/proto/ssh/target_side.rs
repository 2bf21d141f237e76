//! The target's side of a connection: what the library tells of it, put into words and queues.
//!
//! Owns nothing but the way there. Judges no host key: the conversation does, before anything is said behind the exchange of keys.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Certificate, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, Error, Sig};
use tokio::sync::mpsc;

use super::ask::{Accepted, Ask};
use super::queue::{Half, Item};

/// A key with which a host has proven itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HostKey {
    Plain(PublicKey),
    Certified(Box<Certificate>),
}

/// What was learned from the target.
#[derive(Clone, Debug, Default)]
pub(super) struct Learned(Arc<Mutex<Facts>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) host_key: Option<HostKey>,
    /// What it says before the log-in.
    pub(super) banner: Option<String>,
    /// Why it ended the connection, in its words.
    pub(super) farewell: Option<String>,
}

impl Learned {
    pub(super) fn facts(&self) -> Facts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, learn: impl FnOnce(&mut Facts)) {
        learn(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// See the module.
pub(super) struct TargetSide {
    pub(super) half: Arc<Half>,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) learned: Learned,
}

impl TargetSide {
    #[allow(clippy::unused_async, reason = "as the library wants it")]
    async fn say(&self, channel: ChannelId, item: Item) -> Result<(), Error> {
        self.half.say(channel.number(), item);
        Ok(())
    }

    async fn accepted(&self, accepted: Accepted, channel: Channel<Msg>, reply: ChannelOpenHandle) -> Result<(), Error> {
        let Some(inbox) = self.half.open(channel.id().number()) else { return Ok(()) };
        let (_, channel) = channel.split();
        self.asks.send(Ask::Accepted { accepted, channel, inbox, reply }).await.map_err(|_| Error::Disconnect)
    }
}

impl Drop for TargetSide {
    fn drop(&mut self) {
        self.half.gone();
    }
}

/// Longest text of a target that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;

fn cut(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

impl Handler for TargetSide {
    type Error = Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Error> {
        let key = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => HostKey::Plain(key.clone()),
            PublicKeyOrCertificate::Certificate(certificate) => HostKey::Certified(Box::new(certificate.clone())),
        };
        let mut fits = true;
        // Whatever it is: nothing is said to it before it was judged. When keys are exchanged again it stays the same.
        self.learned.learn(|facts| match &facts.host_key {
            Some(known) => fits = *known == key,
            None => facts.host_key = Some(key),
        });
        Ok(fits)
    }

    async fn auth_banner(&mut self, banner: &str, _session: &mut Session) -> Result<(), Error> {
        self.learned.learn(|facts| facts.banner = Some(cut(banner)));
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // What comes on it finds its place.
        self.half.open(id.number());
        Ok(())
    }

    async fn channel_success(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Success).await
    }

    async fn channel_failure(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Failure).await
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Close).await
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Eof).await
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let accepted = Accepted {
            host: connected_address.to_owned(),
            port: connected_port,
            from: (originator_address.to_owned(), originator_port),
        };
        self.accepted(accepted, channel, reply).await
    }

    // Nobody has asked for any of these: they are refused by being dropped.

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Data(Bytes::copy_from_slice(data))).await
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        ext: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.say(channel, Item::Extended(ext, Bytes::copy_from_slice(data))).await
    }

    async fn exit_status(&mut self, channel: ChannelId, exit_status: u32, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::ExitStatus(exit_status)).await
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        signal_name: Sig,
        core_dumped: bool,
        error_message: &str,
        lang_tag: &str,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let (message, language) = (cut(error_message), cut(lang_tag));
        self.say(channel, Item::ExitSignal { signal: signal_name, core_dumped, message, language }).await
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Error>) -> Result<(), Error> {
        let farewell = match &reason {
            DisconnectReason::ReceivedDisconnect(told) => cut(&told.message),
            DisconnectReason::Error(error) => error.to_string(),
        };
        self.learned.learn(|facts| facts.farewell = Some(farewell).filter(|text| !text.is_empty()));
        Ok(())
    }
}
