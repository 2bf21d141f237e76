//! What the two sides of a connection ask of the conversation between them.
//!
//! Values only.

use std::sync::Arc;

use crewtap_core::secret::Secret;
use russh::keys::{Certificate, PublicKey};
use russh::{ChannelWriteHalf, client, server};
use tokio::sync::oneshot;

use super::queue::Inbox;

/// The means to write to the client on a channel.
pub(super) type ToClient = ChannelWriteHalf<server::Msg>;

/// The means to write to the target on a channel.
pub(super) type ToTarget = ChannelWriteHalf<client::Msg>;

/// One question.
pub(super) enum Ask {
    /// The client tries to log in.
    LogIn(Attempt, oneshot::Sender<server::Auth>),
    /// The client opens a channel for a command, a shell or a subsystem.
    Session { channel: ToClient, inbox: Arc<Inbox>, reply: server::ChannelOpenHandle },
    /// The client opens a connection through the target.
    Open { opening: Opening, channel: ToClient, inbox: Arc<Inbox>, reply: server::ChannelOpenHandle },
    /// The client wants the target to listen for it, or to do so no longer; the port that it then has.
    Listen { address: String, port: u32, is_wanted: bool, answer: oneshot::Sender<Option<u32>> },
    /// The target opens a channel for a connection that it has accepted.
    Accepted { accepted: Accepted, channel: ToTarget, inbox: Arc<Inbox>, reply: client::ChannelOpenHandle },
}

/// What the target is to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// A host and port; for whom.
    Tcp { host: String, port: u32, from: (String, u32) },
    /// A socket in the file system.
    Local(String),
}

/// A connection that the target has accepted at this host and port; whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Accepted {
    pub(super) host: String,
    pub(super) port: u32,
    pub(super) from: (String, u32),
}

/// One attempt to log in.
pub(super) struct Attempt {
    pub(super) user: String,
    pub(super) method: Method,
}

/// How it is tried.
pub(super) enum Method {
    None,
    Password(Secret),
    /// The client has proven that it holds the key.
    Key(Proof),
    /// What it answers; none at its beginning.
    Interactive(Option<Vec<Secret>>),
}

/// A key whose private half the client has signed with.
pub(super) struct Proof {
    pub(super) key: PublicKey,
    pub(super) certificate: Option<Box<Certificate>>,
}

impl Proof {
    pub(super) fn of(key: PublicKey) -> Self {
        Self { key, certificate: None }
    }
}
