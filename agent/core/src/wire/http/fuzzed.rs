//! What must hold for any bytes, as entries for the fuzzer and the tests.
//!
//! Owns properties only, and panics where one is broken. Never called by the product.

use super::conversation::{Conversation, Step};
use super::fields::{Field, Fields};
use super::head::{RequestHead, ResponseHead};
use crate::session::Side;

/// Fuzz entry: the first byte says how the two sides' bytes, which the next two divide, are cut and interleaved.
///
/// # Panics
/// Where a step covers more than there is, where the steps do not end, or where a cut changes what is told.
pub fn fuzz_http_conversation(data: &[u8]) {
    let Some(([cut, high, low], bytes)) = data.split_first_chunk::<3>() else { return };
    let (client, server) = bytes.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(bytes.len()));
    let whole = run(client, server, usize::MAX);
    let pieces = run(client, server, 1 + usize::from(*cut));
    assert_eq!(whole, pieces, "a cut changed what is told");
}

/// What is told of a conversation whose client has sent all before the server answers, in pieces of `piece` bytes.
fn run(client: &[u8], server: &[u8], piece: usize) -> Vec<String> {
    let mut conversation = Conversation::new();
    let mut told = Vec::new();
    let mut waiting = client;
    for (side, bytes) in [(Side::Client, client), (Side::Server, server), (Side::Client, &[][..])] {
        let bytes = if side == Side::Client { waiting } else { bytes };
        let (mut at, mut given) = (0, 0);
        while given < bytes.len() || given == 0 {
            given = given.saturating_add(piece).min(bytes.len());
            loop {
                let rest = bytes.get(at..given).unwrap_or_default();
                let step = conversation.next(side, rest);
                match &step {
                    Ok(step) => assert!(step.len() <= rest.len(), "{step:?} covers more than {} bytes", rest.len()),
                    Err(refusal) => {
                        told.push(format!("{refusal:?} at {at}"));
                        return told;
                    }
                }
                let Ok(step) = step else { break };
                at += step.len();
                tell(&mut told, side, &step);
                if step.is_empty() && !matches!(step, Step::End { .. }) {
                    break;
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if side == Side::Client {
            waiting = bytes.get(at..).unwrap_or_default();
        }
    }
    told.push(format!("{:?}", conversation.end(Side::Client)));
    told.push(format!("{:?}", conversation.end(Side::Server)));
    told
}

/// Body steps in a row are one: how many there are depends on the pieces. What covers nothing is not told, except `End`.
fn tell(told: &mut Vec<String>, side: Side, step: &Step<'_>) {
    if let Step::Body { exchange, len } = step {
        let begin = format!("{side:?} body of {exchange}: ");
        let before = told.last().and_then(|last| last.strip_prefix(&begin)).and_then(|count| count.parse().ok());
        if before.is_some() {
            told.pop();
        }
        told.push(format!("{begin}{}", before.unwrap_or(0) + len));
    } else if !step.is_empty() || matches!(step, Step::End { .. }) {
        told.push(format!("{side:?} {step:?}"));
    }
}

/// Fuzz entry: a head that is taken is told apart into exactly its bytes.
///
/// # Panics
/// Where the view and the bytes differ; the fuzzer and the tests look for it.
pub fn fuzz_http_head(data: &[u8]) {
    let rebuilt = |start: Vec<u8>, fields: &Fields<'_>| {
        let line = |field: Field<'_>| [field.name.as_bytes(), b":", field.value, b"\r\n"].concat();
        let lines: Vec<u8> = fields.iter().flat_map(line).collect();
        [start, b"\r\n".to_vec(), lines, b"\r\n".to_vec()].concat()
    };
    let bare =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().filter(|byte| !matches!(byte, b' ' | b'\t')).collect() };
    if let Ok(head) = RequestHead::parse(data) {
        let start = [head.method.as_bytes(), head.target, head.version.as_str().as_bytes()].concat();
        assert_eq!(bare(&rebuilt(start, &head.fields)), bare(data));
        assert!(head.form().is_some() && head.url("http", "example.com").contains(':') || head.method == "CONNECT");
        drop((head.path(), head.query(), head.host()));
    }
    if let Ok(head) = ResponseHead::parse(data) {
        let start = [head.version.as_str().as_bytes(), head.status.to_string().as_bytes(), head.reason].concat();
        assert_eq!(bare(&rebuilt(start, &head.fields)), bare(data));
    }
}
