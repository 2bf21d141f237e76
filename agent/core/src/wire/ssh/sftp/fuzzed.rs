//! What must hold for any bytes of SFTP, as an entry for the fuzzer and the tests.
//!
//! Owns properties only, and panics where one is broken. Never called by the product.

use super::{Answer, Fault, Packets, Request, answer, attributes_in_words, flags_in_words, normal, refusal, request};

/// Entry point of the fuzzer: in how large pieces it comes, and a recording of both sides (`C` or `S`, a length of two bytes, and so
/// many bytes). However it is cut, the same is told of it; and nothing that changes a file is told as something that does not.
#[doc(hidden)]
pub fn fuzz_sftp(data: &[u8]) {
    let Some((piece, mut rest)) = data.split_first() else { return };
    let mut sides = [Vec::new(), Vec::new()];
    while let Some(([side, high, low], behind)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (bytes, next) = behind.split_at(len);
        let [client, server] = &mut sides;
        (if side & 0x10 == 0 { client } else { server }).extend_from_slice(bytes);
        rest = next;
    }
    let [client, server] = sides;
    for (bytes, word) in [(client, asked as fn(&[u8]) -> Result<String, Fault>), (server, answered)] {
        let whole = told(&bytes, usize::MAX, word);
        assert_eq!(told(&bytes, usize::from(*piece) + 1, word), whole, "a cut changes what is told");
    }
}

/// A line for each packet, and one for how it ended: as the driver reads a side.
fn told(bytes: &[u8], piece: usize, word: fn(&[u8]) -> Result<String, Fault>) -> Vec<String> {
    let (mut packets, mut lines, mut passed) = (Packets::default(), Vec::new(), 0);
    for bytes in bytes.chunks(piece) {
        packets.feed(bytes);
        loop {
            let read = match packets.next_packet() {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    passed += packet.len();
                    word(packet)
                }
                Err(fault) => Err(fault),
            };
            match read {
                Ok(line) => lines.push(line),
                Err(fault) => {
                    lines.push(fault.to_string());
                    return lines;
                }
            }
        }
    }
    assert!(passed <= bytes.len(), "more passes than came");
    assert_eq!(packets.is_cut(), passed < bytes.len(), "what is not told waits");
    lines
}

fn asked(packet: &[u8]) -> Result<String, Fault> {
    let (id, request) = request(packet)?;
    let kind = packet.get(4).copied().unwrap_or_default();
    let changes = match &request {
        Request::Open { reads, writes, attributes, path } => {
            assert!(*reads || *writes, "a file is opened for something");
            let _ = flags_in_words(attributes);
            assert!(is_plain(&normal(path, Some(b"/home/crew"))), "a path has a detour");
            *writes
        }
        Request::OfPath { path, other, attributes, writes, .. } => {
            let _ = attributes_in_words(attributes);
            for path in [Some(*path), *other].into_iter().flatten() {
                assert!(is_plain(&normal(path, None)) && is_plain(&normal(path, Some(path))), "a path has a detour");
            }
            *writes
        }
        Request::OfHandle { writes, attributes, .. } => {
            let _ = attributes_in_words(attributes);
            *writes
        }
        Request::Write { .. } | Request::Unknown { .. } => true,
        _ => false,
    };
    // WRITE, SETSTAT, FSETSTAT, REMOVE, MKDIR, RMDIR, RENAME, SYMLINK, and all that nobody knows.
    let must = matches!(kind, 6 | 9 | 10 | 13 | 14 | 15 | 18 | 20 | 0 | 2 | 21..=199 | 201..);
    assert!(changes || !must, "packet {kind} changes something: {request:?}");
    let refused = refusal(id, "no");
    assert!(matches!(answer(&refused), Ok((to, Answer::Status { .. })) if to == id), "a refusal is an answer");
    Ok(format!("{id} {request:?}"))
}

fn answered(packet: &[u8]) -> Result<String, Fault> {
    answer(packet).map(|(id, answer)| format!("{id} {answer:?}"))
}

/// Whether policies may take a path for one file.
fn is_plain(path: &str) -> bool {
    path == "UNPARSED"
        || path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
        })
}
