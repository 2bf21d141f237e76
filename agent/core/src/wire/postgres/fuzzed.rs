//! What must hold for any bytes, as entries for the fuzzer and the tests.
//!
//! Owns properties only, and panics where one is broken. Never called by the product.

use super::conversation::{Conversation, Doubt, Request, Step};
use super::frame::{Frames, HEADER_BYTES, Header};
use super::message::{
    Authentication, BackendKey, Bind, Cells, CommandComplete, CopyFail, CopyResponse, DataRow, Execute, FunctionCall,
    Named, Negotiation, Notification, ParameterDescription, ParameterStatus, Parse, Query, Report, RowDescription,
    SaslInitial, Status, password,
};
use super::startup::{First, Startup};
use crate::session::Side;

/// Bytes of one side, as they came.
pub(super) type Turn<'b> = (Side, &'b [u8]);

/// Takes a recording apart: `C` or `S`, a length of two bytes, and so many bytes; what is cut off is taken as it is.
pub(super) fn turns(mut rest: &[u8]) -> Vec<Turn<'_>> {
    let mut turns = Vec::new();
    while let Some(([side, high, low], behind)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (bytes, next) = behind.split_at(len);
        turns.push((if side & 0x10 == 0 { Side::Client } else { Side::Server }, bytes));
        rest = next;
    }
    turns
}

/// What is told of these turns, in pieces of `piece` bytes at most, in the words of `word`. Steps that a cut divides are one.
pub(super) fn replay(turns: &[Turn<'_>], piece: usize, word: fn(Side, &Step<'_>) -> String) -> Vec<String> {
    let mut told = Vec::new();
    let mut conversation = Conversation::new();
    let mut waiting: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    for (side, bytes) in turns {
        for bytes in bytes.chunks(piece) {
            let [client, server] = &mut waiting;
            let mine = if *side == Side::Client { client } else { server };
            mine.extend_from_slice(bytes);
            if !step(&mut conversation, *side, mine, &mut told, word) {
                return told;
            }
        }
        // What the client had to keep goes on when the server has moved.
        let [client, _] = &mut waiting;
        if *side == Side::Server && !step(&mut conversation, Side::Client, client, &mut told, word) {
            return told;
        }
    }
    told.push(format!("{:?}", conversation.end(Side::Client)));
    told.push(format!("{:?} {:?}", conversation.end(Side::Server), conversation.status()));
    told
}

/// Steps through `bytes` and takes away what is covered; false where it cannot go on.
fn step(
    conversation: &mut Conversation,
    side: Side,
    bytes: &mut Vec<u8>,
    told: &mut Vec<String>,
    word: fn(Side, &Step<'_>) -> String,
) -> bool {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let step = match conversation.next(side, rest) {
            Ok(step) => step,
            Err(fault) => {
                told.push(format!("{side:?} {} {fault:?}", fault.code()));
                return false;
            }
        };
        assert!(step.len() <= rest.len(), "{step:?} covers more than {} bytes", rest.len());
        check(&step, rest.get(..step.len()).unwrap_or_default());
        if step.is_pause() {
            bytes.drain(..at);
            return true;
        }
        at += step.len();
        tell(told, side, &step, word);
    }
}

/// What a step covers is what it says.
fn check(step: &Step<'_>, covered: &[u8]) {
    match step {
        Step::Rows { rows: count, .. } | Step::CopyData { messages: count, .. } => {
            let mut frames = Frames::new(covered);
            let tag = if matches!(step, Step::Rows { .. }) { b'D' } else { b'd' };
            let found = frames.by_ref().filter(|frame| frame.tag == tag).count();
            assert!(found == *count as usize && frames.rest().is_empty() && *count > 0, "{step:?}");
        }
        Step::Request { .. } | Step::Answer { .. } => {
            assert_eq!(Header::read(covered).ok().flatten().map(|header| header.len), Some(covered.len()), "{step:?}");
        }
        Step::Piece { first, .. } => assert!(covered.len() >= if *first { HEADER_BYTES } else { 1 }, "{step:?}"),
        _ => assert!(covered.is_empty()),
    }
}

fn tell(told: &mut Vec<String>, side: Side, step: &Step<'_>, word: fn(Side, &Step<'_>) -> String) {
    let (begin, count, joins) = match step {
        Step::Rows { exchange, rows, .. } => (format!("{side:?} {exchange} rows "), *rows as usize, true),
        Step::CopyData { exchange, messages, .. } => {
            (format!("{side:?} {exchange} copy data "), *messages as usize, true)
        }
        Step::Piece { exchange, tag, first, len, .. } => {
            (format!("{side:?} {exchange} piece {} ", char::from(*tag)), *len, !first)
        }
        _ => {
            told.push(word(side, step));
            return;
        }
    };
    let before = told.last().and_then(|last| last.strip_prefix(&begin)).and_then(|count| count.parse::<usize>().ok());
    let before = before.filter(|_| joins);
    if before.is_some() {
        told.pop();
    }
    told.push(format!("{begin}{}", before.unwrap_or(0) + count));
}

/// Fuzz entry: the first byte says how a recording behind it is cut; that must change nothing.
///
/// # Panics
/// Where a step covers more than there is or something else than it says, or where a cut changes what is told.
pub fn fuzz_postgres_conversation(data: &[u8]) {
    let Some((cut, recording)) = data.split_first() else { return };
    let turns = turns(recording);
    let word = |side: Side, step: &Step<'_>| format!("{side:?} {step:?}");
    let whole = replay(&turns, usize::MAX, word);
    let pieces = replay(&turns, 1 + usize::from(*cut), word);
    assert_eq!(whole, pieces, "a cut changed what is told");
    refuse(&turns, *cut);
}

/// Refuses and doubts here and there: whatever is decided, the conversation goes on or says that it cannot.
fn refuse(turns: &[Turn<'_>], choice: u8) {
    let mut conversation = Conversation::after_ready();
    let mut seen = 0_u8;
    for (side, bytes) in turns {
        let mut at = 0;
        while let Ok(step) = conversation.next(*side, bytes.get(at..).unwrap_or_default()) {
            if step.is_pause() {
                break;
            }
            at += step.len();
            if let Step::Request { request: Request::Query(_) | Request::Parse(_) | Request::Bind { .. }, .. } = step {
                seen = seen.wrapping_add(1);
                if seen & choice == 0 {
                    conversation.refuse_last();
                } else if seen & choice == 1 {
                    conversation.doubt_names(Doubt::All);
                }
            }
        }
    }
    let _ = (conversation.is_idle(), conversation.answered_next(), conversation.end(Side::Server));
}

/// Fuzz entry: frames and every view of a body. What is read must be within the body, and end with it.
///
/// # Panics
/// Where a view and its bytes differ.
pub fn fuzz_postgres_frames(data: &[u8]) {
    let mut frames = Frames::new(data);
    let mut len = 0;
    for frame in frames.by_ref() {
        len += HEADER_BYTES + frame.body.len();
        views(frame.tag, frame.body);
    }
    assert_eq!(len + frames.rest().len(), data.len());
    views(data.first().copied().unwrap_or_default(), data.get(1..).unwrap_or_default());
    if let Ok(Some((first, len))) = First::read(data) {
        assert!(len <= data.len());
        if let First::Startup(startup) = first {
            let built = startup.build();
            assert_eq!(built.as_deref(), Ok(data.get(..len).unwrap_or_default()));
            let mut changed = Startup { settings: startup.settings, ..startup };
            changed.set("application_name", &b"other"[..]);
            assert_eq!(changed.get("application_name"), Some(&b"other"[..]));
            changed.remove("user");
            assert_eq!(changed.get("user"), None);
        }
    }
}

fn views(tag: u8, body: &[u8]) {
    match tag {
        b'P' => {
            if let Ok(Parse { name, sql, types }) = Parse::read(body) {
                assert_eq!(name.len() + sql.len() + 4 + types.iter().count() * 4, body.len());
            }
        }
        b'B' => {
            if let Ok(Bind { portal, statement, formats, values, result_formats }) = Bind::read(body) {
                let codes = formats.codes().len() + result_formats.codes().len();
                assert_eq!(portal.len() + statement.len() + codes * 2 + cells(values) + 6, body.len());
                drop((0..3).map(|index| formats.is_binary(index)).collect::<Vec<_>>());
            }
        }
        b'D' => {
            if let Ok(DataRow { cells: values }) = DataRow::read(body) {
                assert_eq!(cells(values), body.len());
            }
            let _ = Named::read(tag, body);
        }
        b'T' => {
            if let Ok(columns) = RowDescription::read(body) {
                assert_eq!(columns.fields().count(), columns.len());
                let len: usize = columns.fields().map(|field| field.name.len() + 19).sum();
                assert_eq!(len + 2, body.len());
            }
        }
        b'E' | b'N' => {
            if let Ok(report) = Report::read(tag, body) {
                let len: usize = report.fields().map(|(_, text)| text.len() + 2).sum();
                assert_eq!(len + 1, body.len());
                let _ = (report.is_fatal(), report.get(b'C'));
            }
            let _ = Execute::read(body);
        }
        b'F' => drop(FunctionCall::read(body).map(|call| cells(call.arguments))),
        b't' => drop(ParameterDescription::read(body).map(|parameters| parameters.types.iter().count())),
        b'C' => drop((CommandComplete::read(body).map(|complete| complete.rows()), Named::read(tag, body))),
        b'G' | b'H' | b'W' => drop(CopyResponse::read(tag, body).map(|copy| copy.formats.codes().count())),
        b'v' => drop(Negotiation::read(body).map(|it| it.unknown_options().count())),
        b'R' => {
            if let Ok(Authentication::Sasl(mechanisms)) = Authentication::read(body) {
                let _ = (mechanisms.iter().count(), mechanisms.has("SCRAM-SHA-256"));
            }
        }
        b'p' => drop((password(body), SaslInitial::read(body))),
        b'Q' => drop(Query::read(body)),
        b'Z' => drop(Status::read(body)),
        b'A' => drop(Notification::read(body)),
        b'K' => drop(BackendKey::read(body)),
        b'S' => drop(ParameterStatus::read(body)),
        b'f' => drop(CopyFail::read(body)),
        _ => {}
    }
}

/// Bytes of values with their count and lengths.
fn cells(cells: Cells<'_>) -> usize {
    assert_eq!(cells.iter().count(), cells.len());
    2 + cells.iter().map(|cell| 4 + cell.map_or(0, <[u8]>::len)).sum::<usize>()
}
