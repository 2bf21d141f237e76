//! The page that the browser comes back to: one path, on loopback, until the answer has come.
//!
//! Bounded in time and size. Never shows what it was given, and never obeys anything but a GET of its own path: anybody on this
//! host can call here, and an answer that is not to this login changes nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use crate::identity::pending::QUERY_BYTES_MAX;

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

/// Serves until an answer is to this login, or the time is over.
pub(super) fn serve<T>(
    listener: &TcpListener,
    path: &str,
    deadline: Instant,
    mut answer: impl FnMut(&str) -> Outcome<T>,
) -> anyhow::Result<T> {
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
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let Some(query) = asked(&mut stream, path) else {
            tell(&mut stream, "404 Not Found", "There is nothing here.");
            continue;
        };
        match answer(&query) {
            Outcome::NotOurs => tell(&mut stream, "400 Bad Request", "This is no answer to the login that waits here."),
            Outcome::Done(Ok(told)) => {
                tell(&mut stream, "200 OK", "You are logged in. You can close this page.");
                return Ok(told);
            }
            Outcome::Done(Err(error)) => {
                tell(&mut stream, "403 Forbidden", "You are not logged in. The terminal says why.");
                return Err(error);
            }
        }
    }
}

/// The query of a GET of our path.
fn asked(stream: &mut TcpStream, path: &str) -> Option<String> {
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
    let (asked, query) = target.split_once('?')?;
    // The agent knows the path, too; where this side does not, the state decides alone.
    (path.is_empty() || asked == path).then(|| query.to_owned())
}

fn tell(stream: &mut TcpStream, status: &str, text: &str) {
    let body = format!("<!doctype html><meta charset=utf-8><title>crewtap</title><p>{text}</p>\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         referrer-policy: no-referrer\r\ncontent-security-policy: default-src 'none'\r\nx-content-type-options: nosniff\r\n\
         connection: close\r\n\r\n{body}",
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
            (strangers, get("/oidc/corp?state=right"))
        });
        let until = Instant::now() + Duration::from_secs(20);
        let outcome = |query: &str| match query {
            "state=right" => Outcome::Done(Ok(7)),
            _ => Outcome::NotOurs,
        };
        assert_eq!(serve(&listener, "/oidc/corp", until, outcome).unwrap(), 7);
        let (strangers, right) = browser.join().unwrap();
        assert!(strangers.iter().all(|answer| answer.starts_with("HTTP/1.1 4")), "{strangers:?}");
        assert!(right.starts_with("HTTP/1.1 200 OK\r\n") && !right.contains("state"));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_was_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let told = serve::<()>(&listener, "/", Instant::now() + Duration::from_millis(50), |_| Outcome::NotOurs);
        assert!(told.unwrap_err().to_string().contains("in time"));
    }
}
