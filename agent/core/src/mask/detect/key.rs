//! Keys and tokens of the well-known shapes.
//!
//! Owns their issuers' prefixes, alphabets and lengths, as the issuers publish them. Never guesses by entropy.

use super::filter::{Bytes, Edge, Start};
use super::view::{Found, Outcome, View, is_alphanumeric, is_token, is_word};

/// What follows a prefix.
struct Shape {
    prefix: &'static str,
    class: fn(u8) -> bool,
    /// Bytes of the class that make it one.
    min: usize,
    /// Whether it has exactly so many; otherwise it goes on as long as a token does.
    exact: bool,
    /// A digit and a letter must be among the first: otherwise it is somebody's name for something.
    mixed: bool,
}

/// Bytes behind those that make it one, among which the digit and the letter may be.
const MIXED_WITHIN: usize = 32;

const fn open(prefix: &'static str, class: fn(u8) -> bool, min: usize) -> Shape {
    Shape { prefix, class, min, exact: false, mixed: false }
}

const fn mixed(prefix: &'static str, class: fn(u8) -> bool, min: usize) -> Shape {
    Shape { prefix, class, min, exact: false, mixed: true }
}

const fn exact(prefix: &'static str, class: fn(u8) -> bool, min: usize) -> Shape {
    Shape { prefix, class, min, exact: true, mixed: false }
}

/// Longer prefixes before the shorter ones that they begin with.
const SHAPES: &[Shape] = &[
    // OpenAI, Anthropic, OpenRouter.
    mixed("sk-ant-", is_token, 24),
    mixed("sk-proj-", is_token, 20),
    mixed("sk-svcacct-", is_token, 20),
    mixed("sk-admin-", is_token, 20),
    mixed("sk-or-v1-", is_hexadecimal, 32),
    mixed("sk-", is_alphanumeric, 20),
    // Stripe.
    open("sk_live_", is_alphanumeric, 16),
    open("sk_test_", is_alphanumeric, 16),
    open("rk_live_", is_alphanumeric, 16),
    open("rk_test_", is_alphanumeric, 16),
    mixed("whsec_", is_base64, 24),
    // AWS: identifiers of long and of temporary keys.
    exact("AKIA", is_base32, 16),
    exact("ASIA", is_base32, 16),
    // GitHub.
    open("ghp_", is_alphanumeric, 36),
    open("gho_", is_alphanumeric, 36),
    open("ghu_", is_alphanumeric, 36),
    open("ghs_", is_token, 36),
    open("ghr_", is_alphanumeric, 36),
    open("github_pat_", is_word, 40),
    // GitLab.
    open("glpat-", is_token, 20),
    open("gldt-", is_token, 20),
    open("glrt-", is_token, 20),
    open("glptt-", is_token, 20),
    open("glcbt-", is_token, 20),
    // Slack.
    mixed("xoxa-", is_token, 16),
    mixed("xoxb-", is_token, 16),
    mixed("xoxe-", is_token, 16),
    mixed("xoxp-", is_token, 16),
    mixed("xoxr-", is_token, 16),
    mixed("xoxs-", is_token, 16),
    mixed("xapp-", is_token, 20),
    mixed("hooks.slack.com/services/", is_path, 40),
    // Google.
    exact("AIza", is_token, 35),
    exact("GOCSPX-", is_token, 28),
    open("ya29.", is_token, 24),
    // Package registries.
    exact("npm_", is_alphanumeric, 36),
    open("pypi-Ag", is_token, 50),
    exact("rubygems_", is_hexadecimal, 48),
    open("dckr_pat_", is_token, 20),
    // Models.
    open("hf_", is_alphanumeric, 30),
    open("gsk_", is_alphanumeric, 40),
    open("xai-", is_alphanumeric, 60),
    open("pplx-", is_alphanumeric, 40),
    exact("r8_", is_alphanumeric, 37),
    // Others.
    exact("SG.", is_dotted, 66),
    exact("SK", is_hexadecimal, 32),
    exact("dop_v1_", is_hexadecimal, 64),
    exact("doo_v1_", is_hexadecimal, 64),
    exact("dor_v1_", is_hexadecimal, 64),
    open("hvs.", is_token, 24),
    open("hvb.", is_token, 24),
    exact("shpat_", is_hexadecimal, 32),
    exact("shpca_", is_hexadecimal, 32),
    exact("shppa_", is_hexadecimal, 32),
    exact("shpss_", is_hexadecimal, 32),
    exact("dapi", is_hexadecimal, 32),
    exact("lin_api_", is_alphanumeric, 40),
];

/// Where keys can begin. Shapes that begin with the same letter share an entry.
pub(super) fn starts() -> Vec<Start> {
    let mut letters: Vec<u8> = SHAPES.iter().filter_map(|shape| shape.prefix.bytes().next()).collect();
    letters.sort_unstable();
    letters.dedup();
    let of = |letter: u8, place: usize| -> Vec<u8> {
        let same = SHAPES.iter().filter(|shape| shape.prefix.as_bytes().first() == Some(&letter));
        same.flat_map(|shape| match shape.prefix.as_bytes().get(place) {
            Some(byte) => vec![*byte],
            None => (0..=u8::MAX).filter(|byte| (shape.class)(*byte)).collect(),
        })
        .collect()
    };
    let entry = |letter: u8| Start {
        before: Edge::Word,
        bytes: [Bytes::One(letter), Bytes::Of(of(letter, 1)), Bytes::Of(of(letter, 2))],
        attempt,
    };
    let secret = Start {
        before: Edge::Any,
        bytes: [Bytes::Fold(b's'), Bytes::Fold(b'e'), Bytes::Fold(b'c')],
        attempt: aws_secret,
    };
    letters.into_iter().map(entry).chain([secret]).collect()
}

/// Looks for a key at a position.
pub(super) fn attempt(view: View<'_>, at: usize) -> Outcome {
    if view.before(at).is_some_and(is_word) {
        return Ok(None);
    }
    for shape in SHAPES {
        let Some(body) = view.literal(at, shape.prefix.as_bytes())? else { continue };
        let sure = view.run(body, shape.min, shape.class)?;
        let looked = if shape.mixed { view.run(sure, MIXED_WITHIN, shape.class)? } else { sure };
        let first = view.slice(body, looked);
        let is_mixed = first.iter().any(u8::is_ascii_digit) && first.iter().any(u8::is_ascii_alphabetic);
        if sure - body < shape.min || shape.mixed && !is_mixed {
            continue;
        }
        if !shape.exact {
            return view.grown(at, sure, is_token);
        }
        let dots = shape.prefix != "SG." || first.get(22) == Some(&b'.') && !first.ends_with(b".");
        if dots && !view.is(sure, is_token)? {
            return Ok(Some(Found::whole(at, sure)));
        }
    }
    Ok(None)
}

/// The forty characters behind `secret_access_key`, which have no shape of their own.
fn aws_secret(view: View<'_>, at: usize) -> Outcome {
    const GAP_MAX: usize = 16;
    const LENGTH: usize = 40;
    let Some(behind) = view.word(at, b"secret")? else { return Ok(None) };
    let joint = |at| view.run(at, 1, |byte| matches!(byte, b'_' | b'-' | b' '));
    let behind = joint(behind)?;
    let behind = match view.word(behind, b"access")? {
        Some(behind) => joint(behind)?,
        None => behind,
    };
    let Some(behind) = view.word(behind, b"key")? else { return Ok(None) };
    let start = view.run(behind, GAP_MAX, |byte| {
        matches!(byte, b' ' | b'\t' | b'=' | b':' | b'"' | b'\'' | b'\\' | b'>' | b',' | b'[' | b'(')
    })?;
    let end = view.run(start, LENGTH + 1, is_base64)?;
    let found = start > behind && end - start == LENGTH && !view.is(end, is_token)?;
    Ok(found.then(|| Found::whole(start, end)))
}

const fn is_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

const fn is_base32(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'2'..=b'7')
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

const fn is_dotted(byte: u8) -> bool {
    is_token(byte) || byte == b'.'
}

const fn is_path(byte: u8) -> bool {
    is_token(byte) || byte == b'/'
}
