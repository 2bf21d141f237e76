//! Streams under masks, cut anywhere.

use proptest::prelude::*;

use super::{Flow, dns_shown, shown};
use crate::mask::digest::DigestKey;
use crate::mask::plan::{Finds, Plan, Reaches};
use crate::mask::rule::{JsonStep, Kind, Place, Rule, What};

fn finds() -> Finds {
    Finds::new(&DigestKey::new(&[7; 32]))
}

/// In pieces of these lengths, over and over.
fn cut(plan: &Plan, kind: &str, bytes: &[u8], lengths: &[usize]) -> (Vec<u8>, Vec<crate::bodies::Masked>) {
    let (mut flow, mut finds, mut out) = (Flow::new(kind), finds(), Vec::new());
    let mut rest = bytes;
    for len in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*len).clamp(1, rest.len()));
        out.extend_from_slice(&flow.feed(plan, piece, &mut finds));
        assert_eq!(out.len() + flow.pending().len(), bytes.len() - behind.len(), "nothing is lost");
        rest = behind;
    }
    out.extend(flow.finish(plan, &mut finds));
    (out, finds.take(plan, Reaches::Clear))
}

fn masked(plan: &Plan, kind: &str, text: &str) -> String {
    String::from_utf8(shown(plan, kind, text.as_bytes(), &mut finds())).unwrap()
}

fn all_of(place: Place) -> Rule {
    Rule { name: "mine".into(), what: What::All, places: vec![place], ..Rule::of(Kind::Card) }
}

fn key(name: &str) -> JsonStep {
    JsonStep::Key(name.into())
}

#[test]
fn a_place_in_json_is_hidden_and_stays_json() {
    let rule = all_of(Place::Json(vec![key("customer"), key("id")]));
    let plan = Plan::compile(&[(0, &Rule { keep_last: 0, ..rule })]).unwrap();
    for (text, wanted) in [
        (r#"{"customer": {"id": "C-1\n\u0034", "n": "x"}}"#, r#"{"customer": {"id": "*****\u002a","#),
        (r#"{"customer": {"id": 12345, "n": "x"}}"#, r#"{"customer": {"id": 99999, "n": "x"}}"#),
        (r#"{"id": "free", "customer": {"x": {"id": 1}}}"#, r#"{"id": "free", "customer": {"x": {"id": 1}}}"#),
    ] {
        let found = masked(&plan, "application/json", text);
        assert_eq!(found.len(), text.len());
        let _json: serde_json::Value = serde_json::from_str(&found).unwrap();
        assert!(found.starts_with(wanted), "{found}");
    }
    let deep = Rule { keep_last: 0, ..all_of(Place::Json(vec![JsonStep::Deep, key("pan")])) };
    let plan = Plan::compile(&[(0, &deep)]).unwrap();
    let text = r#"{"a":[{"pan":"1"},{"b":{"pan":"22"}}],"pan":"333"}"#;
    assert_eq!(masked(&plan, "application/json", text), r#"{"a":[{"pan":"*"},{"b":{"pan":"**"}}],"pan":"***"}"#);
}

#[test]
fn a_header_is_hidden_and_others_are_not() {
    let plan = Plan::compile(&[(0, &Rule { keep_last: 0, ..all_of(Place::Header("x-customer".into())) })]).unwrap();
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Customer: C-12\r\nX-Other: C-12\r\n\r\n";
    let wanted = "GET / HTTP/1.1\r\nHost: a\r\nX-Customer: ****\r\nX-Other: C-12\r\n\r\n";
    assert_eq!(masked(&plan, "message/http", text), wanted);
}

#[test]
fn names_in_messages_of_dns_are_read_over_their_labels() {
    let labels = |name: &str| -> Vec<u8> {
        let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
        name.split('.').flat_map(label).chain([0]).collect()
    };
    let plan = Plan::standard();
    let head = [0, 7, 0x84, 0, 0, 1, 0, 2, 0, 0, 0, 0];
    let text = b"\x17paid 4012 8888 8888 1881";
    let record = |kind: u8, content: &[u8]| {
        [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, u8::try_from(content.len()).unwrap()][..], content].concat()
    };
    for name in ["4012888888881881.a.test", "4012.8888.8888.1881.a.test", "x.4012-8888-8888-1881.test"] {
        let message = [&head[..], &labels(name), &[0, 1, 0, 1], &record(5, &labels(name)), &record(16, text)].concat();
        let found = dns_shown(&plan, &message, &mut finds());
        let digits = |bytes: &[u8]| bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
        assert_eq!((found.len(), digits(&found)), (message.len(), 3 * 4), "{name}: {}", found.escape_ascii());
        let bare = |bytes: &[u8]| bytes.iter().map(|byte| if byte.is_ascii_digit() { b'*' } else { *byte }).collect();
        let (found, message): (Vec<u8>, Vec<u8>) = (bare(&found), bare(&message));
        assert_eq!(found, message, "all else is as it was");
    }
    let mut event = ciborium_text("x.4012888888881881.target.test");
    crate::mask::event::hide(&plan, &mut event, &mut finds());
    assert!(event.ends_with(b"x.************1881.target.test"), "{}", event.escape_ascii());
    let broken = [&head[..], b"\x40 4012888888881881"].concat();
    assert!(!dns_shown(&plan, &broken, &mut finds()).windows(4).any(|four| four == b"4012"));
}

/// A row description and rows, the cells as they are.
fn rows(names: &[&str], rows: &[Vec<&[u8]>]) -> Vec<u8> {
    let message = |tag: u8, body: Vec<u8>| {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &len.to_be_bytes(), &body].concat()
    };
    let count = |len: usize| u16::try_from(len).unwrap().to_be_bytes().to_vec();
    let mut described = count(names.len());
    for name in names {
        described.extend_from_slice(name.as_bytes());
        described.extend_from_slice(&[0; 19]);
    }
    let mut all = message(b'T', described);
    for row in rows {
        let mut body = count(row.len());
        for cell in row {
            body.extend_from_slice(&u32::try_from(cell.len()).unwrap().to_be_bytes());
            body.extend_from_slice(cell);
        }
        all.extend(message(b'D', body));
    }
    all
}

#[test]
fn a_column_is_hidden_by_its_name() {
    let plan = Plan::compile(&[(0, &Rule { keep_last: 0, ..all_of(Place::Column("customer_no".into())) })]).unwrap();
    let sent = rows(&["id", "customer_no"], &[vec![b"1", b"C-12"], vec![b"2", b"C-345"]]);
    let wanted = rows(&["id", "customer_no"], &[vec![b"1", b"****"], vec![b"2", b"*****"]]);
    for lengths in [&[usize::MAX][..], &[1], &[3, 7]] {
        let (found, told) = cut(&plan, "application/x-postgresql; columns=25t,25t", &sent, lengths);
        assert_eq!(found, wanted);
        assert_eq!(told.iter().map(|masked| masked.count).sum::<u64>(), 2);
    }
}

const CARD: &str = "4111 1111 1111 1111";

/// Forms in which the card stands, and what has to be left of each.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let message = |tag: u8, body: &[u8]| {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &len.to_be_bytes(), body].concat()
    };
    let postgres = "application/x-postgresql; columns=25t,20b,1700b; parameters=25t";
    let number = 4_111_111_111_111_111u64.to_be_bytes();
    let numeric: Vec<u8> =
        [4u16, 3, 0, 0, 4111, 1111, 1111, 1111].iter().flat_map(|group| group.to_be_bytes()).collect();
    vec![
        ("text/plain", b"pay with 4111 1111 1111 1111, please".to_vec()),
        ("text/plain", b"4111 \x1b[31m1111\x1b[0m 1111 1111".to_vec()),
        ("application/json", br#"{"card": "4111 1111 1111 1111", "n": 1}"#.to_vec()),
        ("application/json", br#"{"card": 4111111111111111}"#.to_vec()),
        ("application/json", br#"{"card": "\u0034111 1111\u00201111 1111"}"#.to_vec()),
        ("application/json", br#"{"arguments": "{\"card\": \"\\u0034111 1111 1111 1111\"}"}"#.to_vec()),
        ("application/x-www-form-urlencoded", b"a=b&card=%34111%201111%201111%201111&c=d".to_vec()),
        ("application/x-www-form-urlencoded", b"card=4111+1111+1111+1111".to_vec()),
        ("message/http", b"GET /pay/4111111111111111?c=4111-1111-1111-1111 HTTP/1.1\r\n\r\n".to_vec()),
        (postgres, message(b'Q', b"SELECT '4111 1111 1111 1111'\0")),
        (postgres, message(b'B', b"\0\0\0\0\0\x01\0\0\0\x104111111111111111\0\0")),
        (postgres, rows(&["a", "b", "c"], &[vec![b"4111111111111111", &number, &numeric]])),
        (postgres, [message(b'd', b"1\t4111 1111"), message(b'd', b" 1111 1111\t2\n"), message(b'c', b"")].concat()),
        (
            "text/event-stream",
            b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"4111 1\"}}]}\n\n\
              data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"seven\"}}]}\n\n\
              data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"111 1111 \"}}]}\n\n\
              data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"1111!\"}}]}\n\ndata: [DONE]\n\n"
                .to_vec(),
        ),
    ]
}

/// Nothing but the last four digits is left, however they are written.
fn assert_hidden(kind: &str, found: &[u8], told: u64) {
    let text = String::from_utf8_lossy(found);
    for clear in ["4111", "u0034", "%34", "1 1", "1-1", "11111"] {
        assert!(!text.contains(clear), "{kind}: {clear:?} in {text}");
    }
    assert!(told > 0, "{kind}: {text}");
    if let Some(body) = kind.ends_with("json").then_some(&text) {
        let _json: serde_json::Value = serde_json::from_str(body).unwrap();
    }
}

#[test]
fn a_card_is_hidden_in_every_form_and_however_it_is_cut() {
    let plan = Plan::standard();
    for (kind, bytes) in forms() {
        let (whole, told) = cut(&plan, kind, &bytes, &[usize::MAX]);
        assert_eq!(whole.len(), bytes.len(), "{kind}");
        let count: u64 = told.iter().map(|masked| masked.count).sum();
        assert_hidden(kind, &whole, count);
        for lengths in [&[1][..], &[2], &[3], &[5, 1], &[7, 2, 11], &[16]] {
            let (pieces, again) = cut(&plan, kind, &bytes, lengths);
            assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&whole), "{kind} in {lengths:?}");
            assert_eq!(again, told, "{kind} in {lengths:?}");
        }
    }
}

#[test]
fn a_value_in_a_field_that_another_rule_is_about_counts_once() {
    let mine = Rule {
        what: What::Pattern { regex: "id-[0-9]{3}".into(), check: None },
        ..all_of(Place::Json(vec![key("a")]))
    };
    let plan = Plan::compile(&[(0, &Rule::of(Kind::Card)), (1, &mine)]).unwrap();
    let text = br#"{"a": "pay 4111 1111 1111 1111 for id-123 and 5555 5555 5555 4444 for id-456", "b": 1}"#;
    let (whole, told) = cut(&plan, "application/json", text, &[usize::MAX]);
    assert_eq!(told.iter().map(|masked| masked.count).collect::<Vec<_>>(), [2, 2]);
    for lengths in [&[1][..], &[3, 8], &[20]] {
        assert_eq!(cut(&plan, "application/json", text, lengths), (whole.clone(), told.clone()), "{lengths:?}");
    }
}

#[test]
fn the_same_value_has_the_same_digest_however_it_is_grouped() {
    let plan = Plan::standard();
    let of = |text: &str| {
        let mut finds = finds();
        let _shown = shown(&plan, "", text.as_bytes(), &mut finds);
        finds.take(&plan, Reaches::Clear).remove(0).values
    };
    assert_eq!(of(CARD), of("4111111111111111"));
    assert_eq!(of(CARD), of("4111-1111-1111-1111"));
    assert_ne!(of(CARD), of("4012888888881881"));
}

#[test]
fn plain_text_goes_on_at_once() {
    let plan = Plan::standard();
    let mut flow = Flow::new("text/event-stream");
    let event = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Good morning, \"}}]}\n\n";
    assert_eq!(&*flow.feed(&plan, event, &mut finds()), event);
    assert!(flow.pending().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]

    /// Whatever is sent, in whatever it claims to be: nothing is lost or added, and a cut changes nothing.
    #[test]
    fn cuts_change_nothing(
        kind in prop::sample::select(vec![
            "text/plain", "application/json", "text/event-stream", "message/http",
            "application/x-postgresql; columns=25t,20b,1700b; parameters=25t",
        ]),
        words in prop::collection::vec(prop::sample::select(vec![
            "4111 1111 1111 1111", "4111", "1111", " ", "-", "\"", "\\", "\\u0034", "%34", "{", "}", "[", "]", ":", ",",
            "data: ", "\n", "\r\n", "\u{1b}[1m", "sk-ant-api03-", "abcdefghij0123456789", "AKIAIOSFODNN7EXAMPLE", "content",
            "index", "0", "D\0\0\0\u{c}\0\u{1}\0\0\0\u{2}", "Q\0\0\0\u{8}", "d\0\0\0\u{6}", "é", "eyJhbGciOiJIUzI1NiJ9.",
        ]), 0..24),
        lengths in prop::collection::vec(1usize..12, 1..5),
    ) {
        let bytes = words.concat().into_bytes();
        let plan = Plan::standard();
        let (whole, told) = cut(&plan, kind, &bytes, &[usize::MAX]);
        prop_assert_eq!(whole.len(), bytes.len());
        let (pieces, again) = cut(&plan, kind, &bytes, &lengths);
        prop_assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&whole));
        prop_assert_eq!(again, told);
    }
}

#[test]
fn values_that_a_statement_says_to_be_of_a_column_are_hidden() {
    let plan = Plan::compile(&[(0, &Rule { keep_last: 0, ..all_of(Place::Column("note".into())) })]).unwrap();
    let message =
        |tag: u8, body: &[u8]| [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat();
    let sql = "INSERT INTO t (id, note) VALUES (1, 'it''s'), ($2, $1) ON CONFLICT (id) DO UPDATE SET note = 77";
    let wanted = "INSERT INTO t (id, note) VALUES (1, '*****'), ($2, $1) ON CONFLICT (id) DO UPDATE SET note = **";
    let postgres = "application/x-postgresql";
    let query = message(b'Q', format!("{sql}\0").as_bytes());
    let parse = message(b'P', format!("name\0{sql}\0\0\0").as_bytes());
    for statement in [&query, &parse] {
        for step in [1, 7, statement.len()] {
            let (found, _) = cut(&plan, postgres, statement, &[step]);
            assert!(String::from_utf8_lossy(&found).contains(wanted), "{}", String::from_utf8_lossy(&found));
        }
    }
    let bind = message(b'B', b"\0\0\0\0\0\x02\0\0\0\x04seen\0\0\0\x06secret\0\0");
    let bound = shown(&plan, &format!("{postgres}; parameters=25t,25t; names=,note"), &bind, &mut finds());
    assert_eq!(String::from_utf8_lossy(&bound), String::from_utf8_lossy(&bind).replace("secret", "******"));
    let mut event = ciborium_text(&format!("x {sql}"));
    crate::mask::event::hide(&plan, &mut event, &mut finds());
    assert!(!String::from_utf8_lossy(&event).contains("it''s"), "{}", String::from_utf8_lossy(&event));
}

/// A text in CBOR.
fn ciborium_text(text: &str) -> Vec<u8> {
    [&[0x78, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
}

#[test]
fn rows_that_are_copied_have_the_columns_of_their_list() {
    let plan = Plan::compile(&[(0, &Rule { keep_last: 0, ..all_of(Place::Column("note".into())) })]).unwrap();
    let message = |tag: u8, body: &str| {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body.as_bytes()].concat()
    };
    for (form, rows, wanted) in [
        ("text-09", ["1\tse\\tc\\\\ret\tx\n", "2\t\\N\ty\n3\t\tz\n"], ["1\t**********\tx\n", "2\t\\N\ty\n3\t\tz\n"]),
        (
            "csv-2c",
            ["1,\"a \"\"b\"\", c\n\",x\n", "2,plain,y\n3,,z\n"],
            ["1,\"**********\n\",x\n", "2,*****,y\n3,,z\n"],
        ),
    ] {
        let kind = format!("application/x-postgresql; names=id,note,free; copied={form}");
        let all = |rows: [&str; 2]| [message(b'd', rows[0]), message(b'd', rows[1]), message(b'c', "")].concat();
        for step in [1, 2, 5, 1000] {
            let (found, _) = cut(&plan, &kind, &all(rows), &[step]);
            let (found, wanted) = (found.escape_ascii().to_string(), all(wanted).escape_ascii().to_string());
            assert_eq!(found, wanted, "{step}");
        }
    }
}

proptest! {
    /// The same of rows that are copied, and of statements, where rules are about columns.
    #[test]
    fn cuts_change_nothing_in_columns(
        form in prop::sample::select(vec!["text-09", "csv-2c"]),
        messages in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
            "\t", "\n", "\\", "N", "\\N", "\"", "\"\"", ",", "a", "note", "4111 1111 1111 1111", "\\u0034", "%34", "secret",
        ]), 0..12), 0..5),
        lengths in prop::collection::vec(1usize..9, 1..5),
    ) {
        let note = Rule { keep_last: 0, ..all_of(Place::Column("note".into())) };
        let plan = Plan::compile(&[(0, &note), (1, &Rule::of(Kind::Card))]).unwrap();
        let kind = format!("application/x-postgresql; names=id,note; copied={form}");
        let message = |tag: u8, body: &str| {
            [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body.as_bytes()].concat()
        };
        let data = messages.iter().map(|words| message(b'd', &words.concat()));
        let sql = messages.concat().concat();
        let statement = message(b'Q', &format!("INSERT INTO t (id, note) VALUES (1, '{sql}')\0"));
        let bytes = data.chain([message(b'c', ""), statement]).collect::<Vec<_>>().concat();
        let (whole, told) = cut(&plan, &kind, &bytes, &[usize::MAX]);
        prop_assert_eq!(whole.len(), bytes.len());
        let (pieces, again) = cut(&plan, &kind, &bytes, &lengths);
        prop_assert_eq!(pieces.escape_ascii().to_string(), whole.escape_ascii().to_string());
        prop_assert_eq!(again, told);
    }

    /// Whatever is said to be a message of DNS, nothing is added or lost.
    #[test]
    fn any_message_of_dns_keeps_its_length(bytes in prop::collection::vec(any::<u8>(), 0..80), counts in any::<[u8; 4]>()) {
        let [a, b, c, d] = counts.map(|count| count % 3);
        let head = [0, 1, 0, 0, 0, a, 0, b, 0, c, 0, d];
        let message = [&head[..], &bytes].concat();
        prop_assert_eq!(dns_shown(&Plan::standard(), &message, &mut finds()).len(), message.len());
    }
}
