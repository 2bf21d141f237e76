//! The page that the browser comes back to: one path, on loopback, until the answer has come.
//!
//! Bounded in time and size. Anybody on this host can call here: only the user who logs in is heard, by what the kernel says of
//! the calling socket. Never shows what it was given, and never obeys anything but a GET of its own paths; an answer that is not
//! to this login changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::capture::sockets;
use crate::identity::pending::QUERY_BYTES_MAX;

/// Calls of others that are told; further ones are refused in silence.
const STRANGERS_TOLD: usize = 4;

/// Where a browser that is opened here goes first. The provider's page is not named in its command line, which everybody on the
/// host can read: who knows it could send an answer of their own.
const START: &str = "/start";

/// How long one browser may take to say what it wants.
const HEAD_WAIT: Duration = Duration::from_secs(2);

/// Bytes of its head that are read.
const HEAD_BYTES_MAX: usize = QUERY_BYTES_MAX + 16 * 1024;

/// What became of an answer.
pub(super) enum Outcome<T> {
    /// The login is over.
    Done(anyhow::Result<T>),
    /// It is not to this login.
    NotOurs,
}

/// What is served, and to whom.
pub(super) struct Page<'p> {
    /// Where the answer comes to; empty where only the agent knows.
    pub(super) path: &'p str,
    /// The provider's page.
    pub(super) url: &'p str,
    /// Users of this host who are heard, beside root.
    pub(super) users: &'p [u32],
}

/// Where a browser begins.
pub(super) fn start(port: u16) -> String {
    format!("http://127.0.0.1:{port}{START}")
}

impl Page<'_> {
    /// Whether whoever called is heard; a sentence where they are not.
    fn judge(&self, stream: &TcpStream, client: SocketAddr) -> Result<(), String> {
        let socket = stream.local_addr().ok().and_then(|ours| sockets::find(client, ours));
        // Alive after the look at the table, it is the connection that the table told of, and no later one of the same numbers.
        match socket.filter(|_| stream.peer_addr().is_ok()) {
            Some(socket) if socket.uid == 0 || self.users.contains(&socket.uid) => Ok(()),
            Some(socket) => Err(format!("user {} of this host, who does not log in here", socket.uid)),
            None => Err("somebody who has gone at once".into()),
        }
    }
}

/// What a browser wants.
#[derive(Debug)]
enum Asked {
    /// To be sent to the provider.
    Start,
    /// To bring its answer.
    Answer(String),
}

/// Serves until an answer is to this login, or the time is over.
pub(super) fn serve<T>(
    listener: &TcpListener,
    page: &Page<'_>,
    deadline: Instant,
    mut answer: impl FnMut(&str) -> Outcome<T>,
) -> anyhow::Result<T> {
    let mut strangers = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("nobody has logged in in time: log in again");
        }
        let mut waits = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut waits, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        if ready.context("cannot wait for the browser")? == 0 {
            continue;
        }
        let Ok((mut stream, client)) = listener.accept() else { continue };
        // Before a byte is read: who is not heard cannot keep others waiting.
        if let Err(who) = page.judge(&stream, client) {
            strangers += 1;
            if strangers <= STRANGERS_TOLD {
                eprintln!("crewtap: {who}, has called where the browser is expected, and was refused");
            }
            tell(&mut stream, "403 Forbidden", "", "Only the user who logs in is heard here.");
            continue;
        }
        let query = match asked(&mut stream, page.path) {
            Some(Asked::Answer(query)) => query,
            Some(Asked::Start) => {
                let place = format!("location: {}\r\n", page.url);
                tell(&mut stream, "302 Found", &place, "The identity provider is elsewhere.");
                continue;
            }
            None => {
                tell(&mut stream, "404 Not Found", "", "There is nothing here.");
                continue;
            }
        };
        match answer(&query) {
            Outcome::NotOurs => {
                tell(&mut stream, "400 Bad Request", "", "This is no answer to the login that waits here.");
            }
            Outcome::Done(Ok(told)) => {
                tell(&mut stream, "200 OK", "", "You are logged in. You can close this page.");
                return Ok(told);
            }
            Outcome::Done(Err(error)) => {
                tell(&mut stream, "403 Forbidden", "", "You are not logged in. The terminal says why.");
                return Err(error);
            }
        }
    }
}

/// What a GET of one of our paths is for.
fn asked(stream: &mut TcpStream, path: &str) -> Option<Asked> {
    let deadline = Instant::now() + HEAD_WAIT;
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || head.len() > HEAD_BYTES_MAX {
            return None;
        }
        stream.set_read_timeout(Some(left)).ok()?;
        match stream.read(&mut piece).ok()? {
            0 => return None,
            read => head.extend_from_slice(piece.get(..read)?),
        }
        if head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            break;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if method != "GET" || !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    if target == START {
        return Some(Asked::Start);
    }
    let (asked, query) = target.split_once('?')?;
    // The agent knows the path, too; where this side does not, the state decides alone.
    (path.is_empty() || asked == path).then(|| Asked::Answer(query.to_owned()))
}

fn tell(stream: &mut TcpStream, status: &str, more: &str, text: &str) {
    let body = format!("<!doctype html><meta charset=utf-8><title>crewtap</title><p>{text}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         referrer-policy: no-referrer\r\ncontent-security-policy: default-src 'none'\r\nx-content-type-options: nosniff\r\n\
         connection: close\r\n{more}\r\n{body}",
        body.len()
    );
    // The browser may have gone: what it was told does not matter then.
    let _gone = stream.set_write_timeout(Some(HEAD_WAIT)).and_then(|()| stream.write_all(answer.as_bytes()));
    let _gone = stream.shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn browse(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn page(users: &[u32]) -> Page<'_> {
        Page { path: "/oidc/corp", url: "https://id.example/auth?state=secret", users }
    }

    fn outcome(query: &str) -> Outcome<i32> {
        match query {
            "state=right" => Outcome::Done(Ok(7)),
            _ => Outcome::NotOurs,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn only_an_answer_to_this_login_ends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let browser = std::thread::spawn(move || {
            let get = |target: &str| browse(address, &format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"));
            let strangers = [
                get("/favicon.ico"),
                get("/other?state=right"),
                get("/oidc/corp?state=wrong"),
                browse(address, "POST /oidc/corp?state=right HTTP/1.1\r\n\r\n"),
            ];
            (strangers, get("/start"), get("/oidc/corp?state=right"))
        });
        let own = [nix::unistd::geteuid().as_raw()];
        assert_eq!(serve(&listener, &page(&own), soon(), outcome).unwrap(), 7);
        let (strangers, start, right) = browser.join().unwrap();
        assert!(strangers.iter().all(|answer| answer.starts_with("HTTP/1.1 4")), "{strangers:?}");
        assert!(start.starts_with("HTTP/1.1 302 Found\r\n"), "{start}");
        assert!(start.contains("\r\nlocation: https://id.example/auth?state=secret\r\n"), "{start}");
        assert!(right.starts_with("HTTP/1.1 200 OK\r\n") && !right.contains("state"));
    }

    #[test]
    fn whoever_does_not_log_in_is_not_heard_and_does_not_keep_others_waiting() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'GET %s HTTP/1.1\\r\\n\\r\\n' \"$1\" >&3; head -n 1 <&3",
            address.port()
        );
        let ask = move |uid: &str, target: &str| {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", uid, "--clear-groups", "bash", "-c", &script, "bash", target]);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let callers = std::thread::spawn(move || {
            // It says nothing, and would be waited for.
            let silent = std::process::Command::new("setpriv")
                .args(["--reuid", "65534", "--clear-groups", "bash", "-c"])
                .arg(format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 >/dev/null; echo done", address.port()))
                .output()
                .unwrap();
            let stranger = ask("65534", "/oidc/corp?state=right");
            let curious = ask("65534", "/start");
            (silent.status.success(), stranger, curious, ask("1234", "/oidc/corp?state=right"))
        });
        let before = Instant::now();
        assert_eq!(serve(&listener, &page(&[1234]), soon(), outcome).unwrap(), 7);
        // Whoever has not been answered by now will not be.
        drop(listener);
        let (silent, stranger, curious, own) = callers.join().unwrap();
        assert!(silent && before.elapsed() < HEAD_WAIT, "who says nothing is answered at once");
        assert!(stranger.starts_with("HTTP/1.1 403"), "{stranger}");
        assert!(curious.starts_with("HTTP/1.1 403"), "the provider's page is not told to others: {curious}");
        assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    }

    #[test]
    fn a_connection_that_was_left_behind_is_not_taken_for_roots() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut gone = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        gone.write_all(b"GET /oidc/corp?state=right HTTP/1.1\r\n\r\n").unwrap();
        drop(gone);
        let told = serve(&listener, &page(&[]), Instant::now() + Duration::from_millis(300), outcome);
        assert!(told.unwrap_err().to_string().contains("in time"));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_was_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        let told = serve::<()>(&listener, &page(&[]), until, |_| Outcome::NotOurs);
        assert!(told.unwrap_err().to_string().contains("in time"));
    }
}
