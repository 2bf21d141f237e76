//! What is asked of the agent about logins, and what it answers.
//!
//! Never carries a token. Who asks is what the kernel says of the connection; nothing here names anybody.

use crewtap_core::identity::Identity;
use serde::{Deserialize, Serialize};

use crate::identity::pending::Begun;
use crate::identity::relying::{Ended, Told};

/// Longest time that a [`Request::WaitForDevice`] waits: the client gives up after 30 s.
pub const WAIT_MS_MAX: u64 = 10_000;

/// About logins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Request {
    /// Begin a login in a browser that comes back to a port of loopback; answered by [`Reply::Begun`].
    Begin {
        /// The provider's name in the configuration; the only one where none is named.
        provider: Option<String>,
        /// Where the client listens.
        port: u16,
    },
    /// Begin a login on another device; answered by [`Reply::Begun`].
    BeginDevice {
        /// The provider's name in the configuration; the only one where none is named.
        provider: Option<String>,
    },
    /// The browser has come back; answered by [`Reply::LoggedIn`] or [`Reply::NotOurs`].
    Finish {
        /// Which login.
        login: String,
        /// What it brought, as it stands behind the question mark.
        query: String,
    },
    /// Whether the person has logged in on the other device; answered by [`Reply::LoggedIn`] or [`Reply::Waiting`].
    WaitForDevice {
        /// Which login.
        login: String,
    },
    /// End logins; answered by [`Reply::LoggedOut`].
    Logout {
        /// At this provider; at all where none is named.
        provider: Option<String>,
    },
    /// Who asks; answered by [`Reply::Who`].
    WhoAmI,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Reply {
    /// The person's turn.
    Begun {
        /// Where to go, and what for.
        #[serde(flatten)]
        begun: Begun,
    },
    /// What the browser brought is no answer to this login, which goes on waiting.
    NotOurs,
    /// Not yet.
    Waiting,
    /// Somebody has logged in.
    LoggedIn {
        /// Who.
        login: Box<Told>,
    },
    /// What was ended.
    LoggedOut {
        /// Each login.
        ended: Vec<Ended>,
    },
    /// Who asks.
    Who(Box<Who>),
}

/// Who asks, and on what basis.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Who {
    /// Whom a run that is started now would belong to.
    pub identity: Identity,
    /// What the operating system says.
    pub os: Identity,
    /// The login session of the host that logins are bound to; none where it cannot be told.
    pub bound: Option<String>,
    /// Logins that are bound to it, the newest first.
    pub logins: Vec<Told>,
    /// Sentences for the user.
    pub notes: Vec<String>,
}
