//! HTTP on the real thing: what clients and servers see of each other through crewtap, and what is on record of it.
//!
//! Owns the scripted server and the raw client that the files beside it share.

mod ends;
mod gatehouse;
mod injected;
mod judged;
mod load;
mod masked;
mod messages;
mod other;
mod refused;
mod views;
mod wired;

use std::io::{Read, Write};
use std::net::TcpStream;

use crewtap_tests::host::Host;
use crewtap_tests::peer::Peer;
use serde_json::Value;

use crate::rows::Rows;

/// What raw clients in Python are made of.
const HELPERS: &str = "import os, select, socket, struct, sys
def until(end):
    got = b''
    while not got.endswith(end):
        more = s.recv(1)
        if not more: return got + b'<end>'
        got += more
    return got
def rest():
    got = b''
    try:
        while more := s.recv(65536): got += more
    except ConnectionResetError: return got + b'<reset>'
    return got
def show(got): sys.stdout.buffer.write(got); sys.stdout.flush()
";

/// `s` is connected to the first argument's port, and says the bytes of the second, in hexadecimal digits.
const CONNECTED: &str = "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(bytes.fromhex(sys.argv[2]))
";

/// Says bytes, runs what follows in Python, and returns what it printed.
fn raw(host: &Host, peer: &Peer, said: &str, then: &str) -> String {
    host.python(&format!("{HELPERS}{CONNECTED}{then}"), &[&peer.port(), &hex(said.as_bytes())])
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// One request at a server: its head was read.
struct Asked<'a> {
    head: String,
    stream: &'a mut TcpStream,
    keep: &'a mut dyn FnMut(&[u8]),
}

impl Asked<'_> {
    /// Reads until the bytes read now end with these.
    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        read_until(self.stream, self.keep, end)
    }

    fn exactly(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        (self.keep)(&bytes);
        bytes
    }

    /// A client that has gone is not told: what it got is the client's to say.
    fn answer(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

fn read_until(stream: &mut TcpStream, keep: &mut dyn FnMut(&[u8]), end: &[u8]) -> Vec<u8> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(end) && matches!(stream.read(&mut byte), Ok(1)) {
        keep(&byte);
        bytes.extend_from_slice(&byte);
    }
    bytes
}

/// A server that reads heads, and answers as it is told, until the client ends or it is told to stop.
fn server(host: &Host, answer: impl Fn(&mut Asked) -> bool + Send + Sync + 'static) -> Peer {
    Peer::serve(host, "127.0.0.1:0", move |stream, keep| {
        loop {
            let head = read_until(stream, keep, b"\r\n\r\n");
            if !head.ends_with(b"\r\n\r\n") {
                return;
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            if !answer(&mut Asked { head, stream, keep }) {
                return;
            }
        }
    })
}

/// A server that answers every request with the same bytes and goes on.
fn always(host: &Host, answer: &'static [u8]) -> Peer {
    server(host, move |asked| {
        asked.answer(answer);
        true
    })
}

/// The exchanges of the last run, in order.
fn exchanges(host: &Host) -> Vec<Value> {
    exchanges_of(host, host.last_run()["id"].as_str().unwrap())
}

/// The exchanges of a run, in order: what `show SESSION --json` prints for each of its sessions.
fn exchanges_of(host: &Host, run: &str) -> Vec<Value> {
    let index = crewtap::index::Index::open(&host.data_dir()).unwrap();
    let mut exchanges = index.exchanges_of_run(run).unwrap();
    exchanges.sort_by_key(|exchange| (exchange.session.clone(), exchange.n));
    exchanges.into_iter().map(|exchange| serde_json::to_value(exchange).unwrap()).collect()
}

/// One column of each exchange, as text.
fn column(exchanges: &[Value], name: &str) -> Vec<String> {
    exchanges.iter().map(|row| row[name].as_str().unwrap_or("-").to_owned()).collect()
}

/// One side's message of an exchange, whole.
fn message(host: &Host, exchange: &Value, side: &str) -> Value {
    let shown = host.json(&["show", exchange["id"].as_str().unwrap(), "--all"]);
    shown.into_iter().find(|row| row["table"] == "messages" && row["side"] == side).unwrap()
}

/// What was noted of the last run's HTTP, by code.
fn notes(host: &Host) -> Vec<String> {
    let rows = Rows::of_last_run(host);
    let codes = rows.table("notes").into_iter().map(|note| note["code"].as_str().unwrap().to_owned());
    codes.filter(|code| code.starts_with("http_")).collect()
}

/// What one side of the only session said outside of exchanges.
fn stream(host: &Host, side: &str) -> String {
    let rows = Rows::of_last_run(host);
    let shown = host.json(&["show", rows.session()["id"].as_str().unwrap(), "--all"]);
    let stream = shown.iter().find(|row| row["table"] == "streams" && row["side"] == side).unwrap();
    stream["text"].as_str().unwrap_or_default().to_owned()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
