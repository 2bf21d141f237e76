#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

fn packet(kind: u8, id: u32, fields: &[&[u8]], tail: &[u8]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(id.to_be_bytes());
    for field in fields {
        body.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
        body.extend(*field);
    }
    body.extend(tail);
    let mut packet = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

#[test]
fn attributes_are_told_in_words() {
    let attributes = [&[0, 0, 0, 7][..], &[0; 7], &[9], &[0, 0, 0, 1], &[0, 0, 0, 2], &[0, 0, 0x09, 0xed]].concat();
    assert_eq!(attributes_in_words(&attributes), "size 9, owner 1:2, mode 4755");
    assert_eq!(flags_in_words(&[0, 0, 0, 0x1a, 0, 0, 0, 0]), "write, create, truncate");
    assert_eq!(attributes_in_words(&[1]), "01");
}

#[test]
fn requests_are_told_by_what_they_touch() {
    let open = packet(3, 7, &[b"/etc/passwd"], &[0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(
        request(&open),
        Ok((
            7,
            Request::Open { path: b"/etc/passwd", reads: true, writes: false, attributes: &[0, 0, 0, 1, 0, 0, 0, 0] }
        ))
    );
    let create = packet(3, 7, &[b"x"], &[0, 0, 0, 0x1a, 0, 0, 0, 0]);
    assert_eq!(
        request(&create),
        Ok((7, Request::Open { path: b"x", reads: false, writes: true, attributes: &[0, 0, 0, 0x1a, 0, 0, 0, 0] }))
    );
    let rename = packet(200, 1, &[b"posix-rename@openssh.com", b"a", b"b"], &[]);
    let expected = Request::OfPath { verb: "RENAME", path: b"a", other: Some(b"b"), attributes: b"", writes: true };
    assert_eq!(request(&rename), Ok((1, expected)));
    assert_eq!(
        request(&packet(200, 1, &[b"new@x"], &[])),
        Ok((1, Request::Unknown { name: b"new@x", attributes: b"" }))
    );
    assert!(matches!(request(&packet(99, 1, &[], &[])), Ok((1, Request::Unknown { .. }))));
    assert_eq!(request(&packet(13, 1, &[], &[0, 0, 0, 9, b'x'])), Err(Fault::Malformed));
}

#[test]
fn our_refusal_reads_as_one() {
    let refused = refusal(5, "no");
    assert_eq!(answer(&refused), Ok((5, Answer::Status { code: PERMISSION_DENIED, message: b"no" })));
}

#[test]
fn paths_mean_one_file_or_none() {
    let home = Some(&b"/home/crew"[..]);
    for (path, expected) in [
        ("/a//b/./c", "/a/b/c"),
        ("x", "/home/crew/x"),
        ("/", "/"),
        (".", "/home/crew"),
        ("/a/../b", "UNPARSED"),
        ("..", "UNPARSED"),
    ] {
        assert_eq!(normal(path.as_bytes(), home), expected, "{path}");
    }
    assert_eq!(normal(b"x", None), "UNPARSED");
    assert_eq!(normal(b"/\xff", home), "UNPARSED");
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let mut packets = Packets::default();
    packets.feed(&[0xff; 8]);
    assert!(matches!(packets.next_packet(), Err(Fault::TooLong(_))));
    let mut packets = Packets::default();
    packets.feed(&[0; 8]);
    assert_eq!(packets.next_packet(), Err(Fault::Malformed));
}

proptest! {
    #[test]
    fn a_cut_changes_nothing(cut in 0usize..80) {
        let bytes = [packet(13, 1, &[b"/a"], &[]), packet(6, 2, &[b"h"], &[0; 12]), packet(17, 3, &[b"/b"], &[])].concat();
        let (one, other) = bytes.split_at(cut.min(bytes.len()));
        let (mut packets, mut seen) = (Packets::default(), Vec::new());
        for part in [one, other] {
            packets.feed(part);
            while let Some(packet) = packets.next_packet().unwrap() {
                seen.extend_from_slice(packet);
            }
        }
        prop_assert_eq!(&seen, &bytes);
        prop_assert!(!packets.is_cut());
    }

    #[test]
    fn nothing_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&bytes);
        let _ = answer(&bytes);
        let _ = normal(&bytes, Some(&bytes));
    }
}
