//! Values under a wire rule, anywhere in a stream that is cut anywhere: the client gets none of them.

use std::sync::Arc;

use proptest::prelude::*;

use super::Outgoing;
use crate::mask::digest::DigestKey;
use crate::mask::plan::Plan;
use crate::mask::rule::{Apply, Kind, Place, Rule, What};
use crate::wire::postgres::MEDIA_TYPE;

const CARD: &str = "4012888888881881";
const IBAN: &str = "DE89370400440532013000";
const KEY: &str = "AKIAQYLPMN5HHHFPZAM2";

/// The wire rules of a plan that also has others.
fn plan(more: &[Rule]) -> Arc<Plan> {
    let wire = [Kind::Card, Kind::Iban, Kind::ApiKey].map(|kind| Rule { apply: Apply::Wire, ..Rule::of(kind) });
    let rules: Vec<Rule> = wire.into_iter().chain([Rule::of(Kind::Jwt)]).chain(more.iter().cloned()).collect();
    let numbered: Vec<_> = (0..).zip(&rules).collect();
    Plan::compile(&numbered).unwrap().wire().unwrap().clone()
}

fn key() -> DigestKey {
    DigestKey::new(&[9; 32])
}

/// Content in pieces of these lengths, in one-byte frames where `framed`; what the client gets, and its framing taken out.
fn received(plan: &Arc<Plan>, kind: &str, content: &[u8], lengths: &[usize], framed: bool) -> (Vec<u8>, Vec<u8>) {
    let mut outgoing = Outgoing::new(plan, &key(), kind);
    let (mut got, mut wanted_framing, mut rest) = (Vec::new(), Vec::new(), content);
    for (number, len) in lengths.iter().cycle().enumerate() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*len).clamp(1, rest.len()));
        got.extend_from_slice(&outgoing.content(piece));
        rest = behind;
        if framed {
            // Two bytes that stand in no content, and where they stand.
            let mark = [0xfe, 0xff];
            got.extend_from_slice(&outgoing.framing(&mark));
            wanted_framing.push(content.len() - rest.len() + 2 * number);
        }
    }
    got.extend(outgoing.finish());
    assert_eq!(outgoing.held(), 0);
    let marks: Vec<usize> =
        got.windows(2).enumerate().filter(|(_, two)| *two == [0xfe, 0xff]).map(|(at, _)| at).collect();
    assert!(!framed || marks == wanted_framing, "framing stands where it stood");
    let plain = got.iter().copied().filter(|byte| !framed || !matches!(byte, 0xfe | 0xff)).collect();
    (got, plain)
}

fn rows(cells: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    for cell in cells {
        let len = u32::try_from(4 + 2 + 4 + cell.len()).unwrap();
        all.extend_from_slice(&[&b"D"[..], &len.to_be_bytes(), &[0, 1]].concat());
        all.extend_from_slice(&u32::try_from(cell.len()).unwrap().to_be_bytes());
        all.extend_from_slice(cell);
    }
    all
}

fn copied(rows: &[Vec<u8>]) -> Vec<u8> {
    let message =
        |tag: u8, body: &[u8]| [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat();
    let rows = rows.iter().flat_map(|row| message(b'd', row));
    rows.chain(message(b'c', b"")).chain(message(b'C', b"COPY 2\0")).collect()
}

/// What stands around values.
fn around() -> impl Strategy<Value = String> {
    proptest::string::string_regex("([a-z]{1,6}|[0-9]{1,5}|[ ,;:=/-]){0,12}[ ,]").unwrap()
}

fn planted() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just(CARD.to_owned()),
        Just("4012 8888 8888 1881".to_owned()),
        Just(IBAN.to_owned()),
        Just(KEY.to_owned()),
    ];
    prop::collection::vec((around(), value, around()), 1..5).prop_map(|all| {
        let words = all.into_iter().map(|(before, value, behind)| [before, value, behind].join(" "));
        words.collect::<Vec<_>>().concat()
    })
}

fn assert_absent(got: &[u8]) {
    let text = String::from_utf8_lossy(got);
    for value in [CARD, "4012 8888 8888 1881", "8888 1881", "88888881881", &IBAN[..18], KEY] {
        assert!(!text.contains(value), "{value} in {text}");
    }
}

proptest! {
    #[test]
    fn a_value_under_a_wire_rule_reaches_nobody_at_any_cut(
        text in planted(),
        lengths in prop::collection::vec(1usize..40, 1..6),
        framed: bool,
    ) {
        let json = serde_json::to_string(&serde_json::json!({"text": text, "n": [1, text]})).unwrap();
        let events = format!("data: {json}\n\nevent: done\ndata: [DONE]\n\n");
        let form = format!("a={}&b=2", text.replace(' ', "+"));
        let rows = rows(&[text.clone().into_bytes(), b"x".to_vec(), text.clone().into_bytes()]);
        let copied = copied(&[format!("1\t{text}\n").into_bytes(), b"2\tx\n".to_vec()]);
        let postgres = format!("{MEDIA_TYPE}; columns=25t");
        for (kind, content) in [
            ("text/plain", text.into_bytes()),
            ("application/json", json.into_bytes()),
            ("text/event-stream", events.into_bytes()),
            ("application/x-www-form-urlencoded", form.into_bytes()),
            (&*postgres, rows),
            (&*postgres, copied),
        ] {
            let plan = plan(&[]);
            let (_, whole) = received(&plan, kind, &content, &[content.len()], false);
            prop_assert_eq!(whole.len(), content.len());
            assert_absent(&whole);
            let (_, cut) = received(&plan, kind, &content, &lengths, framed && !kind.contains("postgres"));
            prop_assert_eq!(cut, whole);
        }
    }
}

#[test]
fn events_go_out_as_soon_as_they_are_decided() {
    let plan = plan(&[]);
    let mut outgoing = Outgoing::new(&plan, &key(), "text/event-stream");
    let event =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let first = event("Your order is, ");
    assert_eq!(&*outgoing.content(first.as_bytes()), first.as_bytes());
    assert!(*outgoing.framing(b"\r\n") == b"\r\n"[..]);
    let mut got = Vec::new();
    for text in ["card 4012 88", "88 8888", " 1881 was", " charged. "] {
        got.extend_from_slice(&outgoing.content(event(text).as_bytes()));
        got.extend_from_slice(&outgoing.framing(b"\r\n"));
    }
    assert_eq!(outgoing.held(), 0, "a sentence's end decides");
    let got = String::from_utf8(got).unwrap();
    for wanted in ["card **** **\"", "\"** ****\"", "\" 1881 was\"", "charged. "] {
        assert!(got.contains(wanted), "{wanted} in {got}");
    }
}

#[test]
fn what_waits_for_too_long_goes_as_stars() {
    let plan = plan(&[]);
    let mut outgoing = Outgoing::new(&plan, &key(), "text/event-stream");
    let event = |index: usize, text: &str| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let mut got = outgoing.content(event(0, "pay 4012 8888 8888").as_bytes()).into_owned();
    let filler = event(1, &"word ".repeat(100));
    for _ in 0..4000 {
        got.extend_from_slice(&outgoing.content(filler.as_bytes()));
        assert!(outgoing.held() <= 2 * crate::limits::MASK_STREAM_BYTES_MAX);
    }
    got.extend_from_slice(&outgoing.content(event(0, " 1881").as_bytes()));
    got.extend(outgoing.finish());
    let got = String::from_utf8(got).unwrap();
    assert!(!got.contains("4012") && !got.contains("8888") && got.contains("word word"), "{}", got.get(..200).unwrap());
}

#[test]
fn tiny_chunks_are_held_within_bounds() {
    let plan = plan(&[]);
    let mut outgoing = Outgoing::new(&plan, &key(), "text/plain");
    let framing = vec![b'x'; 64 * 1024];
    let mut got = 0;
    for digit in "4012888888881881".repeat(3).bytes() {
        got += outgoing.content(&[digit]).len() + outgoing.framing(&framing).len();
        assert!(outgoing.held() <= 2 * crate::limits::MASK_STREAM_BYTES_MAX);
    }
    got += outgoing.finish().len();
    assert_eq!(got, 48 + 48 * framing.len());
}

#[test]
fn a_whole_field_is_hidden_however_long_it_is() {
    let rule = Rule {
        name: "note".into(),
        what: What::All,
        places: vec![Place::parse("json:$.note").unwrap(), Place::parse("column:note").unwrap()],
        apply: Apply::Wire,
        keep_last: 4,
        ..Rule::of(Kind::Card)
    };
    let plan = plan(&[rule]);
    for len in [10, 65_530, 65_540, 3_000_000] {
        let secret = "secret".repeat(len / 6 + 1);
        let json = format!("{{\"a\": 1, \"note\": \"{secret}\", \"b\": \"seen\"}}");
        let mut described = vec![0, 1];
        described.extend_from_slice(b"note\0");
        described.extend_from_slice(&[0; 18]);
        let described = [&b"T"[..], &u32::try_from(described.len() + 4).unwrap().to_be_bytes(), &described].concat();
        let result = [described, rows(&[secret.clone().into_bytes()])].concat();
        for (kind, content) in [("application/json", json.into_bytes()), (MEDIA_TYPE, result)] {
            let (_, whole) = received(&plan, kind, &content, &[content.len()], false);
            let (_, cut) = received(&plan, kind, &content, &[4093], false);
            assert!(whole == cut, "{kind} {len}");
            assert!(!String::from_utf8_lossy(&whole).contains("secr"), "{kind} {len}");
            assert_eq!(whole.ends_with(b"ret"), kind == MEDIA_TYPE && len < 65_540);
        }
    }
}
