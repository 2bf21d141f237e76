//! Our own detectors by their kind: where their finds begin, and how a long one goes on.
//!
//! Owns the list. Never reads a byte itself.

use super::filter::{Bytes, Edge, Start};
use super::view::{Outcome, View, is_token};
use super::{card, iban, ip, jwt, key, mail, national, password, pem, phone, ssn};
use crate::mask::rule::Kind;

/// Where finds of a kind can begin.
pub(super) fn starts(kind: Kind) -> Vec<Start> {
    use Bytes::{Digit, Fold, Letter, Of, One, Range};
    let start = |before, bytes, attempt| Start { before, bytes, attempt };
    match kind {
        Kind::Card => {
            let card = |first, second| start(Edge::Fraction, [first, second, Digit], card::attempt as _);
            vec![
                card(One(b'2'), Of(vec![b'2', b'3', b'4', b'5', b'6', b'7'])),
                card(One(b'3'), Of(vec![b'0', b'4', b'5', b'6', b'7', b'8', b'9'])),
                card(Range(b'4', b'6'), Digit),
                card(One(b'8'), One(b'1')),
                card(One(b'9'), One(b'7')),
            ]
        }
        Kind::Iban => vec![start(Edge::Word, [Letter, Letter, Digit], iban::attempt)],
        Kind::Ssn => vec![
            start(Edge::Number, [Digit, Digit, Digit], ssn::attempt),
            start(Edge::Any, [Fold(b's'), Fold(b's'), Fold(b'n')], ssn::near_word),
            start(Edge::Any, [Fold(b's'), Fold(b'o'), Fold(b'c')], ssn::near_word),
        ],
        Kind::ApiKey => key::starts(),
        Kind::Jwt => vec![start(Edge::Word, [One(b'e'), Of(b"yw".to_vec()), Of(b"JAoK0w".to_vec())], jwt::attempt)],
        Kind::PrivateKey => vec![start(Edge::Any, [One(b'-'), One(b'-'), One(b'-')], pem::attempt)],
        Kind::UrlPassword => password::starts(),
        Kind::Email => vec![start(Edge::Mail, [Bytes::Any, Bytes::Any, Bytes::Any], mail::attempt)],
        Kind::Phone => vec![
            start(Edge::Number, [One(b'+'), Digit, Of(b"0123456789 (-.".to_vec())], phone::attempt),
            start(Edge::Number, [One(b'('), Digit, Digit], phone::attempt),
            start(
                Edge::Number,
                [Digit, Of(b"0123456789 -.".to_vec()), Of(b"0123456789 -./(".to_vec())],
                phone::attempt,
            ),
        ],
        Kind::NationalId => vec![
            start(Edge::Number, [Digit, Of(b"0123456789 ".to_vec()), Digit], national::number),
            start(Edge::Word, [Letter, Letter, Bytes::Any], national::lettered),
            start(Edge::Word, [Range(b'X', b'Z'), Digit, Digit], national::lettered),
            start(Edge::Any, [Of(b"bpcastiBPCASTI".to_vec()), Letter, Letter], national::named),
        ],
        Kind::Ip => vec![
            start(Edge::Number, [Digit, Of(b"0123456789.".to_vec()), Of(b"0123456789.".to_vec())], ip::four),
            start(
                Edge::Word,
                [Of(b"0123456789abcdefABCDEF:".to_vec()), Of(b"0123456789abcdefABCDEF:".to_vec()), Bytes::Any],
                ip::six,
            ),
        ],
    }
}

/// A line's end that is escaped (`\n4111…`): what stands behind it stands at the beginning of a line.
pub(super) fn escape() -> Start {
    Start { before: Edge::Any, bytes: [Bytes::One(b'\\'), Bytes::Of(b"nrt".to_vec()), Bytes::Any], attempt: never }
}

/// An attempt that finds nothing.
#[allow(clippy::unnecessary_wraps, reason = "it is an attempt")]
pub(super) fn never(_: View<'_>, _: usize) -> Outcome {
    Ok(None)
}

/// How a find of a kind goes on that was longer than what is held.
pub(super) fn rest(kind: Kind, view: View<'_>) -> Outcome {
    match kind {
        Kind::ApiKey => view.grown(0, 0, is_token),
        Kind::Jwt => jwt::rest(view, 0, 0),
        Kind::PrivateKey => pem::rest(view, 0, 0),
        Kind::UrlPassword => view.grown(0, 0, password::is_value),
        _ => Ok(None),
    }
}
