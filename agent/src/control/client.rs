//! The other side of the control socket: small, blocking, bounded in time and size.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crewtap_core::id::RunId;
use crewtap_core::limits;

use super::{Exit, Laid, LineError, Reply, Request, StartRun, Started, Status, Summary, decode, encode};
use super::{approvals, identity};

/// A conversation with the agent that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent listens.
    #[error("no agent is running for {}", .0.display())]
    NoAgent(PathBuf),
    /// The socket failed.
    #[error("the agent does not answer: {0}")]
    Io(#[from] io::Error),
    /// The agent went away in the middle.
    #[error("the agent has ended: its last words are in agent.log of the data directory")]
    Gone,
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
    /// What the agent said cannot be understood.
    #[error("the running agent is not of this version: {0}")]
    Foreign(String),
}

impl From<LineError> for ClientError {
    fn from(error: LineError) -> Self {
        Self::Foreign(error.to_string())
    }
}

/// A connection to the running agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the agent of a data directory.
    ///
    /// # Errors
    /// [`ClientError::NoAgent`] when there is no socket, or one that a dead agent has left.
    pub fn connect(data_dir: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(super::socket_path(data_dir)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoAgent(data_dir.to_path_buf()),
            _ => ClientError::Io(error),
        })?;
        let client = Self { stream: BufReader::new(stream) };
        client.set_timeout(limits::CONTROL_TIMEOUT)?;
        Ok(client)
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(timeout))?;
        self.stream.get_ref().set_write_timeout(Some(timeout))
    }

    /// Asks for a run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn start_run(&mut self, request: StartRun) -> Result<Started, ClientError> {
        match self.ask(&Request::StartRun(request))? {
            Reply::Started(started) => Ok(started),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for the trust overlay of a run whose stage waits for it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn lay_overlay(&mut self, run: RunId, home: Option<PathBuf>) -> Result<Laid, ClientError> {
        match self.ask(&Request::LayOverlay { run, home })? {
            Reply::Laid(laid) => Ok(laid),
            other => Err(unexpected(&other)),
        }
    }

    /// Tells how the command ended.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn run_exited(&mut self, run: RunId, exit: Exit) -> Result<(), ClientError> {
        match self.ask(&Request::RunExited { run, exit })? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for the summary; [`Client::finish_summary`] takes the answer, when [`AsFd`] is readable.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn begin_summary(&mut self, run: RunId) -> Result<(), ClientError> {
        self.say(&Request::RunSummary { run })
    }

    /// Takes the answer to [`Client::begin_summary`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn finish_summary(&mut self) -> Result<Summary, ClientError> {
        match self.hear()? {
            Reply::Summary(summary) => Ok(summary),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks how the agent is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks about approvals and overrides.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn approvals(&mut self, request: approvals::Request) -> Result<approvals::Reply, ClientError> {
        match self.ask(&Request::Approvals { request })? {
            Reply::Approvals { told } => Ok(told),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks about logins.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn identity(&mut self, request: identity::Request) -> Result<identity::Reply, ClientError> {
        match self.ask(&Request::Identity { request })? {
            Reply::Identity { answer } => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.say(request)?;
        self.hear()
    }

    fn say(&mut self, request: &Request) -> Result<(), ClientError> {
        // A refused peer is told why and then not read from: the answer counts, not the broken pipe.
        match self.stream.get_mut().write_all(&encode(request)?) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn hear(&mut self) -> Result<Reply, ClientError> {
        let mut line = Vec::new();
        let most = u64::try_from(limits::CONTROL_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut self.stream).take(most).read_until(b'\n', &mut line);
        match read {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(_) => return Err(ClientError::Gone),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(ClientError::Gone),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ClientError::Io(io::ErrorKind::TimedOut.into()));
            }
            Err(error) => return Err(error.into()),
        }
        match decode(&line)? {
            Reply::Refused { why } => Err(ClientError::Refused(why)),
            reply => Ok(reply),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Foreign(format!("unexpected answer {reply:?}"))
}
