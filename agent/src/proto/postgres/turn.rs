//! What comes before the first message: whether the connection turns to TLS.
//!
//! Owns `SSLRequest` and `GSSENCRequest` (PostgreSQL 18 manual, sections 54.2.11 and 54.2.12). The target is asked first and
//! the client gets its letter: TLS is never turned on or off on one leg only. GSSAPI encryption is answered with no, which
//! every client takes.

use std::io;

use crewtap_core::limits;
use crewtap_core::session::{Outcome, Side};
use crewtap_core::wire::postgres::startup::{GSSENC_REQUEST, SSL_REQUEST};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::dial::Prelude;
use crate::proto::Upgrade;
use crate::recorder::Unrecorded;
use crate::relay::{End, First};
use crate::session::Session;

const YES: u8 = b'S';
const NO: u8 = b'N';

/// What a target is told and answers before a handshake.
const PRELUDE: Prelude = Prelude { ask: &SSL_REQUEST, answer: &[YES] };

/// Asks the target for what the client asks for, until the client begins or both have agreed on TLS.
pub(super) async fn turn(
    session: &Session,
    client: &TcpStream,
    target: &TcpStream,
    mut first: First,
) -> Result<Upgrade, End> {
    // Each may be asked for once; libpq asks for GSSAPI, then for TLS.
    for _ in 0..2 {
        let wait = Instant::now() + limits::HELLO_WAIT;
        first.read_until(client, wait, |bytes| bytes.len() >= SSL_REQUEST.len()).await;
        if first.bytes.starts_with(&GSSENC_REQUEST) {
            take(session, &mut first, &GSSENC_REQUEST)?;
            session.record_bytes(Side::Server, &[NO]).map_err(unrecorded)?;
            write(client, &[NO]).await.map_err(|error| gone(Outcome::ClientReset, &error))?;
        } else if first.bytes.starts_with(&SSL_REQUEST) {
            take(session, &mut first, &SSL_REQUEST)?;
            match ask(session, target).await? {
                NO => write(client, &[NO]).await.map_err(|error| gone(Outcome::ClientReset, &error))?,
                YES if first.bytes.is_empty() => {
                    write(client, &[YES]).await.map_err(|error| gone(Outcome::ClientReset, &error))?;
                    return Ok(Upgrade::Tls(first, PRELUDE));
                }
                YES => {
                    // What it said in clear would be taken for what it says encrypted (CVE-2021-23214).
                    let error = "the client sent more behind its request for TLS before it was answered";
                    return Err(End { outcome: Outcome::Refused, error: Some(error.into()) });
                }
                // A server of before 2000, or none at all: it has begun to speak.
                letter => {
                    write(client, &[letter]).await.map_err(|error| gone(Outcome::ClientReset, &error))?;
                    return Ok(Upgrade::Foreign(first));
                }
            }
        } else {
            break;
        }
    }
    Ok(Upgrade::Clear(first))
}

/// Puts a request on record, and off what is still to be read.
fn take(session: &Session, first: &mut First, request: &[u8]) -> Result<(), End> {
    session.record_bytes(Side::Client, request).map_err(unrecorded)?;
    first.bytes.drain(..request.len());
    Ok(())
}

/// Passes the request for TLS on; the target's letter.
async fn ask(session: &Session, target: &TcpStream) -> Result<u8, End> {
    session.settled().await.map_err(unrecorded)?;
    let asked = async {
        write(target, &SSL_REQUEST).await?;
        let mut letter = [0];
        loop {
            target.readable().await?;
            match target.try_read(&mut letter) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(letter),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let [letter] = match timeout(limits::HANDSHAKE_WAIT, asked).await {
        Ok(letter) => letter.map_err(|error| gone(Outcome::UpstreamReset, &error))?,
        Err(elapsed) => return Err(gone(Outcome::UpstreamTimeout, &elapsed.into())),
    };
    session.record_bytes(Side::Server, &[letter]).map_err(unrecorded)?;
    Ok(letter)
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn gone(outcome: Outcome, error: &io::Error) -> End {
    End { outcome, error: Some(format!("while TLS was settled: {error}")) }
}

#[allow(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn unrecorded(error: Unrecorded) -> End {
    End { outcome: Outcome::Unrecorded, error: Some(error.to_string()) }
}
