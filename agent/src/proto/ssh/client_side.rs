//! The client's side of a connection: what the library tells of it, put into words and queues.
//!
//! Owns nothing but the way there. Never decides: whatever needs an answer is asked of the conversation.

use std::sync::Arc;

use bytes::Bytes;
use russh::keys::{Certificate, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Error, Pty, Sig};
use tokio::sync::{mpsc, oneshot};

use super::ask::{Ask, Attempt, Method, Opening, Proof, ToClient};
use super::queue::{Half, Inbox, Item, Reply, Size, Start, Terminal};
use crewtap_core::secret::Secret;

/// See the module.
pub(super) struct ClientSide {
    pub(super) half: Arc<Half>,
    pub(super) asks: mpsc::Sender<Ask>,
    /// Shown before the log-in.
    pub(super) banner: Option<String>,
}

impl ClientSide {
    async fn log_in(&self, user: &str, method: Method) -> Result<Auth, Error> {
        let (answer, answered) = oneshot::channel();
        let attempt = Attempt { user: user.to_owned(), method };
        self.asks.send(Ask::LogIn(attempt, answer)).await.map_err(|_| Error::Disconnect)?;
        answered.await.map_err(|_| Error::Disconnect)
    }

    /// Where what is said on a new channel goes; without a place the answer is no: it is dropped.
    fn place(&self, channel: Channel<Msg>) -> Option<(Arc<Inbox>, ToClient)> {
        let inbox = self.half.open(channel.id().number())?;
        Some((inbox, channel.split().1))
    }

    async fn open(&self, opening: Opening, channel: Channel<Msg>, reply: ChannelOpenHandle) -> Result<(), Error> {
        let Some((inbox, channel)) = self.place(channel) else { return Ok(()) };
        self.asks.send(Ask::Open { opening, channel, inbox, reply }).await.map_err(|_| Error::Disconnect)
    }

    async fn request(
        &self,
        channel: ChannelId,
        session: &mut Session,
        item: impl FnOnce(oneshot::Sender<Reply>) -> Item,
    ) -> Result<(), Error> {
        let Some(inbox) = self.half.get(channel.number()).filter(|inbox| inbox.begin_asking()) else {
            return session.channel_failure(channel);
        };
        let (answer, answered) = oneshot::channel();
        self.half.say(channel.number(), item(answer));
        let reply = self.half.meter.answer(answered).await;
        if reply != Reply::Later {
            inbox.end_asking();
        }
        match reply {
            Reply::Yes => session.channel_success(channel),
            Reply::No => session.channel_failure(channel),
            Reply::Later => Ok(()),
        }
    }

    #[allow(clippy::unused_async, reason = "as the library wants it")]
    async fn say(&self, channel: ChannelId, item: Item) -> Result<(), Error> {
        self.half.say(channel.number(), item);
        Ok(())
    }

    async fn forward(&self, address: &str, port: u32, is_wanted: bool) -> Result<Option<u32>, Error> {
        let (answer, answered) = oneshot::channel();
        let address = address.to_owned();
        let ask = Ask::Listen { address, port, is_wanted, answer };
        self.asks.send(ask).await.map_err(|_| Error::Disconnect)?;
        Ok(answered.await.ok().flatten())
    }
}

impl Drop for ClientSide {
    fn drop(&mut self) {
        self.half.gone();
    }
}

impl Handler for ClientSide {
    type Error = Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        Ok(self.banner.take())
    }

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        self.log_in(user, Method::None).await
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        self.log_in(user, Method::Password(Secret::new(password.as_bytes().to_vec()))).await
    }

    async fn auth_publickey_offered(&mut self, _user: &str, _offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        // Anybody can name a key: what it is worth is said once the client has signed with it.
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        self.log_in(user, Method::Key(Proof::of(key.public_key.clone()))).await
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Error> {
        let key = PublicKey::from(certificate.public_key().clone());
        self.log_in(user, Method::Key(Proof { key, certificate: Some(Box::new(certificate.clone())) })).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let answers = response.map(|said| said.map(|bytes: Bytes| Secret::new(bytes.to_vec())).collect());
        self.log_in(user, Method::Interactive(answers)).await
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let Some((inbox, channel)) = self.place(channel) else { return Ok(()) };
        self.asks.send(Ask::Session { channel, inbox, reply }).await.map_err(|_| Error::Disconnect)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let opening = Opening::Tcp {
            host: host_to_connect.to_owned(),
            port: port_to_connect,
            from: (originator_address.to_owned(), originator_port),
        };
        self.open(opening, channel, reply).await
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.open(Opening::Local(socket_path.to_owned()), channel, reply).await
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

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Eof).await
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Close).await
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Data(Bytes::copy_from_slice(data))).await
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        code: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.say(channel, Item::Extended(code, Bytes::copy_from_slice(data))).await
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let size = Size { columns: col_width, rows: row_height, width: pix_width, height: pix_height };
        let terminal = Terminal { term: term.to_owned(), size, modes: modes.to_vec() };
        self.request(channel, session, |answer| Item::Terminal(terminal, answer)).await
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _x11_auth_protocol: &str,
        _x11_auth_cookie: &str,
        _x11_screen_number: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        variable_name: &str,
        variable_value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let (name, value) = (variable_name.to_owned(), variable_value.to_owned());
        self.say(channel, Item::Variable { name, value }).await?;
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.request(channel, session, |answer| Item::Start(Start::Shell, answer)).await
    }

    async fn exec_request(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Error> {
        let start = Start::Exec(data.to_vec());
        self.request(channel, session, |answer| Item::Start(start, answer)).await
    }

    async fn subsystem_request(&mut self, channel: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        let start = Start::Subsystem(name.to_owned());
        self.request(channel, session, |answer| Item::Start(start, answer)).await
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let size = Size { columns: col_width, rows: row_height, width: pix_width, height: pix_height };
        self.say(channel, Item::Resize(size)).await
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        self.say(channel, Item::Signal(signal)).await
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, _session: &mut Session) -> Result<bool, Error> {
        let given = self.forward(address, *port, true).await?;
        if let Some(given) = given.filter(|given| *given > 0) {
            *port = given;
        }
        Ok(given.is_some())
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _session: &mut Session) -> Result<bool, Error> {
        Ok(self.forward(address, port, false).await?.is_some())
    }
}
