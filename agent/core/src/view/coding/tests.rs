use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

/// "crewtap " 40 times, as `brotli` makes it.
fn text() -> Vec<u8> {
    b"crewtap ".repeat(40)
}

fn coded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zlib" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "bare" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
    }
}

const CODINGS: &[(&str, &str)] = &[("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "bare"), ("zstd", "zstd")];

fn decoded(codings: &[&[u8]], bytes: &[u8], piece: usize, max: usize) -> Decoded {
    let mut decoder = Decoder::new(codings, max);
    bytes.chunks(piece.max(1)).for_each(|piece| decoder.feed(piece));
    decoder.finish()
}

#[test]
fn each_coding_is_undone_in_any_pieces() {
    for (name, form) in CODINGS {
        for piece in [1, 7, 10_000] {
            let found = decoded(&[name.as_bytes()], &coded(form, &text()), piece, 1 << 20);
            assert_eq!(found, Decoded { bytes: text(), end: End::Whole }, "{form} in pieces of {piece}");
        }
    }
}

#[test]
fn brotli_is_undone() {
    // An empty stream is one byte (RFC 7932 section 10); the other has an uncompressed meta-block of 5 bytes.
    assert_eq!(decoded(&[b"br"], &[0x06], 1, 9), Decoded { bytes: Vec::new(), end: End::Whole });
    let hello = [0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
    for piece in [1, 99] {
        assert_eq!(decoded(&[b"BR"], &hello, piece, 9), Decoded { bytes: b"hello".to_vec(), end: End::Whole });
    }
    assert_eq!(decoded(&[b"br"], &hello[..5], 1, 9).end, End::Truncated);
    assert_eq!(decoded(&[b"br"], &hello, 1, 3), Decoded { bytes: b"hel".to_vec(), end: End::Bounded });
    assert_eq!(decoded(&[b"br"], &[0xff; 9], 1, 9).end, End::Broken);
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let zeroes = vec![0; 8 << 20];
    for (name, form) in CODINGS {
        let bomb = coded(form, &zeroes);
        let found = decoded(&[name.as_bytes()], &bomb, 4096, 1000);
        assert_eq!((found.bytes.len(), found.end), (1000, End::Bounded), "{form}");
    }
    // Twice coded: the inner bound holds as well.
    let twice = coded("gzip", &coded("gzip", &zeroes));
    let found = decoded(&[b"gzip", b"x-gzip"], &twice, 4096, 1000);
    assert_eq!((found.bytes.len(), found.end), (1000, End::Bounded));
}

#[test]
fn a_cut_body_gives_what_there_is() {
    let long: Vec<u8> = (0..60_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    for (name, form) in CODINGS {
        let whole = coded(form, &long);
        let found = decoded(&[name.as_bytes()], &whole[..whole.len() - whole.len() / 4], 999, 1 << 20);
        assert_eq!(found.end, End::Truncated, "{form}");
        assert!(found.bytes.len() > long.len() / 4, "{form} gives {} bytes", found.bytes.len());
        assert!(long.starts_with(&found.bytes), "{form}");
    }
}

#[test]
fn what_is_not_coded_or_not_known_is_shown_as_it_is() {
    assert_eq!(decoded(&[], b"abc", 2, 9), Decoded { bytes: b"abc".to_vec(), end: End::Whole });
    assert_eq!(decoded(&[b"identity"], b"abc", 2, 2), Decoded { bytes: b"ab".to_vec(), end: End::Bounded });
    assert_eq!(decoded(&[b"aes128gcm"], b"abc", 2, 9), Decoded { bytes: b"abc".to_vec(), end: End::Unknown });
    assert_eq!(decoded(&[&b"gzip"[..]; 9], b"abc", 2, 9).end, End::Unknown);
    for (name, _) in CODINGS.iter().filter(|(name, _)| *name != "deflate") {
        assert_eq!(decoded(&[name.as_bytes()], b"plain text", 3, 99).end, End::Broken, "{name}");
    }
}

#[test]
fn a_skipped_frame_and_a_second_one_are_walked_over() {
    let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let both = [skipped, coded("zstd", b"one "), coded("zstd", b"two")].concat();
    assert_eq!(decoded(&[b"zstd"], &both, 2, 99), Decoded { bytes: b"one two".to_vec(), end: End::Whole });
}

proptest! {
    #[test]
    fn bent_bodies_break_nothing(which in 0..4_usize, bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), bit in 0..8_u8) {
        let (name, form) = CODINGS[which];
        let mut bent = coded(form, &bytes);
        let at = at % bent.len();
        bent[at] ^= 1 << bit;
        prop_assert!(decoded(&[name.as_bytes()], &bent, 5, 1000).bytes.len() <= 1000);
        prop_assert!(decoded(&[name.as_bytes()], &bytes, 5, 1000).bytes.len() <= 1000);
        prop_assert!(decoded(&[b"br"], &bytes, 5, 1000).bytes.len() <= 1000);
    }
}
