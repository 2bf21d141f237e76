//! The redirect must prove itself before anything is captured: a child in the run's own cgroup connects to a
//! loopback port on which nobody listens, and only the proxy can have accepted that.
//!
//! Never leaves the machine: without a redirect the connect is refused by loopback itself.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::capture::cgroup::Cgroup;
use crate::capture::netns::NetworkNamespace;

/// The destination of the self-test: port 1 (tcpmux, RFC 1078), where nothing has listened for decades.
pub const DESTINATION: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// What the proxy answers to the self-test.
pub const ANSWER: &[u8] = b"crewtap";

/// How long the redirect may take to prove itself.
const WAIT: Duration = Duration::from_secs(5);

/// Why nothing is captured.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The child could not be run.
    #[error("the self-test of the redirect could not be run: {0}")]
    Io(#[from] io::Error),
    /// The child did not reach the proxy.
    #[error("connections are not redirected to the proxy, so nothing would be recorded: {0}")]
    NotRedirected(String),
}

/// Runs the self-test in a cgroup; the child is `crewtap` itself, waiting until it has been moved there.
///
/// # Errors
/// When the child could not be run, or did not reach the proxy.
pub async fn pass(cgroup: Cgroup, netns: NetworkNamespace) -> Result<(), SelfTestError> {
    tokio::task::spawn_blocking(move || netns.enter(|| connect_from(&cgroup))).await.map_err(io::Error::other)??
}

fn connect_from(cgroup: &Cgroup) -> Result<(), SelfTestError> {
    let mut child = Command::new("/proc/self/exe")
        .arg("self-test")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    cgroup.add(child.id()).map_err(io::Error::other)?;
    // Closing the pipe is the word to go.
    drop(child.stdin.take());
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(SelfTestError::NotRedirected(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// What the child does: waits for its move, connects, and says on standard output what went wrong.
#[must_use]
pub fn child() -> bool {
    let result = io::stdin().read_to_end(&mut Vec::new()).and_then(|_| ask());
    if let Err(error) = &result {
        let _ = writeln!(io::stdout(), "connecting to {DESTINATION} from the capture cgroup: {error}");
    }
    result.is_ok()
}

fn ask() -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&DESTINATION, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer == ANSWER { Ok(()) } else { Err(io::Error::other("somebody else answered")) }
}
