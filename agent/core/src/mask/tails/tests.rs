//! Streams whose last piece was decided, and others.

use super::*;
use crate::bodies::{Request, SessionClosed};
use crate::event::Stamp;
use crate::id::{RunId, Ulid};
use crate::session::Outcome;

fn pending(len: u64) -> Option<Pending> {
    (len > 0).then(|| Pending { len, digest: "d".into() })
}

/// Events of two sessions, as `(session, exchange, body)`; what stays undecided, as `(leaf, len, ended)`.
fn undecided(events: Vec<(u8, Option<u32>, Body)>) -> Vec<(u64, u64, bool)> {
    let run = RunId(Ulid::from_bytes([1; 16]));
    let mut tails = Tails::default();
    for (leaf, (session, exchange, body)) in (0..).zip(events) {
        let at = Stamp { wall_ns: 1, mono_ns: 1 };
        let event = Event::new(at, body).in_session(run, SessionId(Ulid::from_bytes([session; 16])));
        let event = exchange.into_iter().fold(event, Event::in_exchange);
        let bytes = event.to_cbor().unwrap();
        if tails.wants(&bytes) {
            tails.see(leaf, &Event::from_cbor(&bytes).unwrap());
        }
    }
    let (all, more) = tails.finish();
    assert_eq!(more, 0);
    all.into_iter().map(|tail| (tail.leaf, tail.len, tail.ended)).collect()
}

fn chunk(side: Side, len: u64) -> Body {
    Chunk { pending: pending(len), ..Chunk::new(side, 0) }.into()
}

fn closed() -> Body {
    SessionClosed {
        outcome: Outcome::Aborted,
        bytes_up: 0,
        bytes_down: 0,
        duration_us: 0,
        first_byte_us: None,
        dialled_from: None,
        error: None,
    }
    .into()
}

#[test]
fn what_follows_decides() {
    let (client, server) = (Side::Client, Side::Server);
    assert_eq!(undecided(vec![(1, None, chunk(client, 3)), (1, None, chunk(client, 0)), (1, None, closed())]), []);
    assert_eq!(undecided(vec![(1, None, chunk(client, 3)), (1, None, chunk(client, 5))]), [(1, 5, false)]);
    // Another side, another session, another exchange: other streams.
    let events = vec![
        (1, None, chunk(client, 3)),
        (1, None, chunk(server, 0)),
        (2, None, chunk(client, 0)),
        (1, Some(1), chunk(client, 0)),
        (2, Some(4), chunk(server, 7)),
        (2, None, closed()),
    ];
    assert_eq!(undecided(events), [(0, 3, false), (4, 7, true)]);
}

#[test]
fn frames_are_one_stream_over_all_exchanges() {
    let part = |len| Part { name: "messages".into(), media_type: POSTGRES.into(), len, coding: None, follows: false };
    let request = |len, undecided| {
        Body::from(Request { parts: vec![part(len)], pending: pending(undecided), ..Request::default() })
    };
    assert_eq!(undecided(vec![(1, Some(1), request(5, 2)), (1, Some(2), request(9, 0))]), []);
    assert_eq!(undecided(vec![(1, Some(1), request(5, 2)), (1, Some(2), closed())]), [(0, 2, true)]);
    let frames = Chunk { media_type: Some(format!("{POSTGRES}; columns=25t")), ..Chunk::new(Side::Client, 0) };
    assert_eq!(undecided(vec![(1, Some(1), request(5, 2)), (1, Some(1), frames.into())]), []);
}
