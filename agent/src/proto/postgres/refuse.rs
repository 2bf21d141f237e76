//! What a client is told whose connection is refused before it has begun.
//!
//! Never asks the target anything: nothing of it may be known.

use std::future::poll_fn;

use crewtap_core::limits;
use crewtap_core::wire::postgres::reply::Complaint;
use crewtap_core::wire::postgres::startup::{GSSENC_REQUEST, SSL_REQUEST};

use crate::leg::{Leg, Read};
use crate::proto::Refused;
use crate::relay::First;

/// A request to cancel, which gets no answer (PostgreSQL 18 manual, section 54.2.8).
const CANCEL_CODE: [u8; 4] = [4, 210, 22, 46];

/// The error behind the client's first packet. A request for encryption is answered with no, so that a client that takes a
/// connection in clear reads why; one that does not has asked the server for nothing yet, and ends.
pub(super) async fn refuse(client: &Leg, mut first: First, refused: &Refused) -> Vec<u8> {
    for _ in 0..2 {
        let asks = [SSL_REQUEST, GSSENC_REQUEST].iter().any(|request| first.bytes == request);
        if !asks {
            break;
        }
        first.bytes.clear();
        if client.write(b"N").await.is_err() || client.flush().await.is_err() {
            return Vec::new();
        }
        // Who says nothing more is told all the same.
        let _ = tokio::time::timeout(limits::HELLO_WAIT, read(client, &mut first.bytes)).await;
    }
    if first.bytes.get(4..8) == Some(&CANCEL_CODE) {
        return Vec::new();
    }
    let message = format!("crewtap: {}", refused.why);
    let (detail, hint) = (refused.sentence(), "`crewtap show` of the session tells what was judged.");
    Complaint { severity: "FATAL", code: "42501", message: &message, detail: &detail, hint }.error()
}

async fn read(client: &Leg, bytes: &mut Vec<u8>) {
    let mut buffer = vec![0; limits::POSTGRES_STARTUP_BYTES_MAX];
    while bytes.len() < SSL_REQUEST.len() {
        match poll_fn(|cx| client.poll_read(cx, &mut buffer)).await {
            Ok(Read::Bytes(len)) => bytes.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            _ => return,
        }
    }
}
