#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::limits::MASK_HELD_BYTES_MAX;
use crate::mask::rule::{Check, Kind, Place};

const CARD: &str = "4111111111111111";

fn defaults() -> Detectors {
    of(&Kind::ALL.into_iter().filter(|kind| kind.is_default()).collect::<Vec<_>>())
}

pub(super) fn of(kinds: &[Kind]) -> Detectors {
    let rules: Vec<Rule> = kinds.iter().map(|kind| Rule::of(*kind)).collect();
    Detectors::compile((0..).zip(&rules)).unwrap()
}

fn pattern(regex: &str, check: Option<Check>) -> Rule {
    Rule { what: What::Pattern { regex: regex.into(), check }, keep_last: 0, ..Rule::of(Kind::Card) }
}

fn with_pattern(regex: &str) -> Result<Detectors, RuleError> {
    Detectors::compile([(7, &pattern(regex, None))])
}

pub(super) fn whole(detectors: &Detectors, field: &[u8]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let decided = detectors.find(field, Edges { before: None, inside: None, ends: true }, &mut hits);
    assert_eq!(decided, Decided { len: field.len(), inside: None });
    for pair in hits.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{hits:?}");
    }
    hits
}

fn values<'f>(detectors: &Detectors, field: &'f str) -> Vec<&'f str> {
    whole(detectors, field.as_bytes()).iter().map(|hit| &field[hit.start..hit.end]).collect()
}

/// Which bytes are hidden when the field comes in pieces of these lengths, round and round.
fn chopped(detectors: &Detectors, field: &[u8], lengths: &[usize]) -> (Vec<bool>, usize) {
    let mut hidden = vec![false; field.len()];
    let (mut done, mut come, mut inside, mut most) = (0usize, 0, None, 0);
    let mut lengths = lengths.iter().cycle();
    loop {
        come = (come + lengths.next().unwrap()).min(field.len());
        let edges = Edges { before: done.checked_sub(1).map(|at| field[at]), inside, ends: come == field.len() };
        let mut hits = Vec::new();
        let decided = detectors.find(&field[done..come], edges, &mut hits);
        for hit in hits {
            assert!(hit.end <= decided.len && hit.start < hit.end, "{hit:?} {decided:?}");
            hidden[done + hit.start..done + hit.end - hit.keep].fill(true);
        }
        done += decided.len;
        inside = decided.inside;
        most = most.max(come - done);
        if edges.ends {
            assert_eq!(done, field.len());
            return (hidden, most);
        }
    }
}

fn at_once(detectors: &Detectors, field: &[u8]) -> Vec<bool> {
    chopped(detectors, field, &[field.len().max(1)]).0
}

fn held(detectors: &Detectors, field: &str) -> usize {
    let mut hits = Vec::new();
    let edges = Edges { before: None, inside: None, ends: false };
    field.len() - detectors.find(field.as_bytes(), edges, &mut hits).len
}

#[test]
fn finds_what_is_on_by_default() {
    let found = |field: &str, value: &str| assert_eq!(values(&defaults(), field), [value], "{field}");
    for card in [
        CARD,
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "5555555555554444",
        "2221000000000009",
        "378282246310005",
        "3782 822463 10005",
        "3056 930902 5904",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "6200000000000005",
        "6304000000000000",
    ] {
        found(card, card);
        found(&format!("card {card}."), card);
        found(&format!("{{\"card\":\"{card}\"}}"), card);
        found(&format!("a\\n{card}\\n"), card);
    }
    found("4111 1111 1111 1111 12/27 123", "4111 1111 1111 1111");
    found("IBAN DE89370400440532013000, thanks", "DE89370400440532013000");
    found("DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 00");
    found("gb82west12345698765432", "gb82west12345698765432");
    found("ssn 536-90-4399.", "536-90-4399");
    found("\"ssn\": \"536904399\"", "536904399");
    found("key sk-proj-abcDEF0123456789abcdefghij!", "sk-proj-abcDEF0123456789abcdefghij");
    found("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE");
    found(
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    );
    let jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    found(&format!("Bearer {jwt}. Next"), jwt);
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAabcdefghijklmnop\nabc=\n-----END RSA PRIVATE KEY-----";
    found(&format!("x {pem} y"), pem);
    found(&format!("{{\"k\":\"{}\"}}", pem.replace('\n', "\\n")), &pem.replace('\n', "\\n"));
    found("postgres://me:s3cr3t@db.example/x", "s3cr3t");
    found("postgres://me:p@ss@db.example/x", "p@ss");
    found("host=db password=s3cr3t dbname=x", "s3cr3t");
    found("ALTER ROLE crew PASSWORD 's3cr3t';", "s3cr3t");
    found("ALTER ROLE crew PASSWORD 'it''s one' VALID UNTIL 'x'", "it''s one");
    found("create user x with encrypted password 'a b';", "a b");
    found("Server=db;Pwd=s3cr3t;Database=x", "s3cr3t");
}

#[test]
fn passes_over_what_only_looks_alike() {
    let detectors = defaults();
    for field in [
        "0.4111111111111111",
        "4111111111111111.5",
        "4111111111111112",
        "41111111111111110000000",
        "x4111111111111111",
        "550e8400-e29b-41d4-a716-446655440000",
        "1700000000000",
        "20261123190835",
        "DE89370400440532013001",
        "DE8937040044053201300",
        "000-12-3456",
        "666-12-3456",
        "078-05-1120",
        "1536-90-4399",
        "536-90-4399-1",
        "536904399",
        "sk-folding-cube-with-long-class-name",
        "grep 'BEGIN RSA PRIVATE KEY'",
        "-----BEGIN RSA PRIVATE KEY-----\" is how it begins",
        "-----BEGIN CERTIFICATE-----\nMIIEpAIBAAKCAQEAabcdefghijklmnop\n",
        "http://localhost:8080/path@x",
        "password=${DB_PASSWORD}",
        "password=getpass()",
        "if password == other",
        "ALTER ROLE crew PASSWORD NULL",
        "your password 's not right",
        "password=[redacted:assignment:13:b71181b294fe2b1745d52f92695647df]",
        "postgres://me:[redacted:url:6:b71181b294fe2b1745d52f92695647df]@db/x",
        "eyJmb28iOiJiYXIifQ.eyJmb28iOiJiYXIifQ.x",
    ] {
        assert_eq!(values(&detectors, field), Vec::<&str>::new(), "{field}");
    }
}

#[test]
fn what_is_between_a_word_and_its_value_is_found_too() {
    assert_eq!(
        values(&defaults(), "https://ghp_0123456789abcdefghijklmnopqrstuvwxyz:x-oauth@github.com/"),
        ["ghp_0123456789abcdefghijklmnopqrstuvwxyz", "x-oauth"]
    );
    let rules = [pattern("order .{0,40}(?<value>[0-9]{4})", None), Rule::of(Kind::Card)];
    let detectors = Detectors::compile((0..).zip(&rules)).unwrap();
    assert_eq!(values(&detectors, "order 4111111111111111 0000"), [CARD, "0000"]);
}

#[test]
fn prose_is_decided_to_its_last_word() {
    for field in ["The quick brown fox jumps over the lazy dog", "year 2024 and more", "über größe", "a, b; c"] {
        assert!(held(&defaults(), field) <= 4, "{field}: {}", held(&defaults(), field));
    }
    assert_eq!(held(&defaults(), "pay 4111 1111"), 9);
    assert_eq!(held(&defaults(), "pay 4111111111111111"), 16);
    assert_eq!(held(&defaults(), "x 123456789012345678901234567890"), 0);
    assert_eq!(held(&defaults(), "x sk-pro"), 6);
    assert_eq!(held(&with_pattern("secret-[0-9]{4}").unwrap(), "nothing here, secr"), 4);
}

#[test]
fn keeps_the_last_four_and_never_more_than_a_quarter() {
    let kept = |field: &str| whole(&defaults(), field.as_bytes())[0].keep;
    assert_eq!(kept("4111 1111 1111 1111"), 4);
    assert_eq!(kept("3782 822463 10005"), 3);
    assert_eq!(kept("DE89 3704 0044 0532 0130 00"), 5);
    assert_eq!(kept("536-90-4399"), 0);
}

#[test]
fn a_long_find_comes_in_pieces() {
    let body = "MIIEpAIBAAKCAQEAabcdefghijklmnop\n".repeat(400);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY----- and 4111111111111111 too");
    let token = format!("x sk-ant-api03-{} y", "aB3-".repeat(3000));
    let jwt = format!("eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}. y", "aB3-".repeat(3000), "aB3-".repeat(9));
    let password = format!("password={} y", "aB3-".repeat(3000));
    for field in [pem, token, jwt, password] {
        for lengths in [vec![1], vec![4096], vec![7, 5000, 1]] {
            let (hidden, most) = chopped(&defaults(), field.as_bytes(), &lengths);
            assert!(most <= MASK_HELD_BYTES_MAX, "{most}");
            assert_eq!(hidden, at_once(&defaults(), field.as_bytes()));
            assert!(hidden.iter().filter(|hidden| **hidden).count() >= 12_000);
        }
    }
}

#[test]
fn refuses_patterns_that_never_match_or_have_no_bound() {
    for (regex, word) in [
        ("(", "malformed"),
        ("a*", "matches nothing"),
        ("", "matches nothing"),
        ("[a&&b]", "never match"),
        ("a+", "{1,64}"),
        ("a{5000}", "{1,64}"),
    ] {
        let error = with_pattern(regex).unwrap_err().0;
        assert!(error.contains(word), "{regex}: {error}");
    }
    let placed = Rule { places: vec![Place::Column("a".into())], ..pattern("a+", None) };
    let detectors = Detectors::compile([(0, &placed)]).unwrap();
    assert_eq!(values(&detectors, "baaab"), ["aaa"]);
    assert!(with_pattern("a{1,64}").is_ok());
}

#[test]
fn patterns_hide_their_value_if_it_passes_the_check() {
    let luhn = Detectors::compile([(0, &pattern(r"\bid=(?<value>[0-9]{4})\b", Some(Check::Luhn)))]).unwrap();
    assert_eq!(values(&luhn, "id=1230 id=1234 xid=1230 id=12300"), ["1230"]);
    let unicode = with_pattern("(?u:\\bß{2}\\b)").unwrap();
    assert_eq!(values(&unicode, "ßß xßß"), ["ßß"]);
}

/// Pieces of what detectors look for, whole and broken.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "4111 1111 1111 1111", "4111111111111111", "4111-1111-", "5555", "0000 0000 0000", "1111", " ", "-", ".", "\\n",
            "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "de89", "536-90-4399", "ssn", "ssn: ", "536904399",
            "social security", "sk-", "sk-ant-", "sk-proj-", "abcDEF0123456789abcdefghij", "AKIA", "IOSFODNN7EXAMPLE",
            "ghp_", "github_pat_", "eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxIn0", ".", "-----BEGIN RSA PRIVATE KEY-----",
            "MIIEpAIBAAKCAQEAabcdefghijklmnop\n", "-----END RSA PRIVATE KEY-----", "-----", "://", "http", "user:", "pa@ss@",
            "password=", "pwd='", "'", ";", "secret_access_key=", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "\u{fc}", "a",
            "me@example.com", "+49 30 ", "1234567", "192.168.", "0.1", "fe80::", "1", "cafe:", "12345678Z", "ab", "aba",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        2 => prop::collection::vec(prop::sample::select(b"0123456789 -.\\n4".to_vec()), 1..8),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn everything() -> Detectors {
    let mut rules: Vec<Rule> = Kind::ALL.into_iter().map(Rule::of).collect();
    rules.push(pattern("ab(?:ab){0,3}a?", None));
    rules.push(pattern(r"\b[0-9]{3,9}(?<value>1{2})\B", None));
    rules.push(pattern("(?:ss|sk)n?.{0,12}(?<value>[a-z0-9]{3})", None));
    Detectors::compile((0..).zip(&rules)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn chopping_changes_nothing(field in hostile(), lengths in prop::collection::vec(1usize..40, 1..5)) {
        thread_local!(static EVERYTHING: [Detectors; 2] = [everything(), defaults()]);
        EVERYTHING.with(|all| {
            for detectors in all {
                let (hidden, most) = chopped(detectors, &field, &lengths);
                assert_eq!(hidden, at_once(detectors, &field), "{:?}", String::from_utf8_lossy(&field));
                assert!(most <= MASK_HELD_BYTES_MAX);
                assert_eq!(chopped(detectors, &field, &[1]).0, hidden);
            }
        });
    }
}

#[test]
fn finds_what_is_off_by_default() {
    let found = |kind: Kind, field: &str, wanted: &[&str]| assert_eq!(values(&of(&[kind]), field), wanted, "{field}");
    found(Kind::Email, "mail me.you+x@example.co.uk. <a@b.de>", &["me.you+x@example.co.uk", "a@b.de"]);
    found(Kind::Email, "a@b, @example.com, x@@y.de, a..b@c.de, v1@2.0", &[]);
    for phone in [
        "+49 30 1234567",
        "+14155552671",
        "(415) 555-2671",
        "415-555-2671",
        "030 12345678",
        "0171/1234567",
        "01 23 45 67 89",
    ] {
        found(Kind::Phone, &format!("call {phone}."), &[phone]);
    }
    found(Kind::Phone, "2026-11-23 19:08:35, 1.2.3.4, 12345678901, 01.02.2026, 115-555-2671, 1 000 000 000", &[]);
    for number in [
        "AB 12 34 56 C",
        "AB123456C",
        "12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "255081416802538",
        "65929970489",
        "44051401359",
        "529.982.247-25",
        "2363 4567 8902",
        "046-454-286",
    ] {
        let number_holds = values(&of(&[Kind::NationalId]), &format!("x {number}, y")) == [number];
        assert_eq!(number_holds, !number.starts_with("2363") && !number.starts_with("046"), "{number}");
    }
    found(Kind::NationalId, "bsn: 111222333; 111222333", &["111222333"]);
    found(Kind::NationalId, "12345678A 12345678901 DX123456C", &[]);
    found(Kind::Ip, "at 192.0.2.1:80, 2001:db8::1. ::1", &["192.0.2.1", "2001:db8::1", "::1"]);
    found(Kind::Ip, "1.2.3, 1.2.3.4.5, 256.1.1.1, 12:30:45, std::vec, a::b, 00:1a:2b:3c:4d:5e", &[]);
}

#[test]
fn check_digits_are_the_published_ones() {
    assert!(check::verhoeff(b"2363") && !check::verhoeff(b"2364"));
    assert!(check::luhn(b"79927398713") && !check::luhn(b"79927398710"));
    assert!(check::mod97(b"GB82 WEST 1234 5698 7654 32"));
}

#[path = "../../../../../tests/corpus/masks/generator.rs"]
mod generator;

#[test]
fn the_corpus_is_told_apart() {
    let samples = generator::samples(20_261_123);
    assert!(samples.iter().filter(|sample| sample.kind.is_some()).count() >= 2000);
    assert!(samples.iter().filter(|sample| sample.kind.is_none()).count() >= 20_000);
    let defaults = defaults();
    for (number, kind) in (0u16..).zip(Kind::ALL.into_iter().filter(|kind| kind.is_default())) {
        let (mut right, mut missed, mut wrong) = (0.0, 0.0, 0.0);
        for sample in samples.iter().filter(|sample| sample.test) {
            let labelled = sample.kind == Some(kind.as_str());
            let hits: Vec<Hit> =
                whole(&defaults, sample.text.as_bytes()).into_iter().filter(|hit| hit.rule == number).collect();
            let found = hits.iter().any(|hit| labelled && hit.start == sample.start && hit.end == sample.end);
            right += f64::from(u8::from(found));
            missed += f64::from(u8::from(labelled && !found));
            wrong += f64::from(u8::from(!hits.is_empty() && !found));
        }
        assert!(right / (right + missed) >= 0.99, "{kind:?}: {right} found, {missed} missed");
        assert!(right / (right + wrong) >= 0.99, "{kind:?}: {right} found, {wrong} that are none");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]

    /// What the fuzzer looks for, also where there is none.
    #[test]
    fn a_field_in_pieces_is_what_it_is_whole(
        step in 0u8..40,
        words in prop::collection::vec(prop::sample::select(vec![
            "4111 1111 1111 1111", "4111", "DE89 3704", "password=[Gr8-pw]", "password=", "pwd={a;1bcdef}", "\"]=", "<", ">", "[", "]",
            "{", "}", "'", "-----BEGIN PRIVATE KEY-----\n", "eyJhbGciOiJIUzI1NiJ9.", "sk-ant-api03-", "a@b.test", "+49 30 ", "123-45-6789",
            "postgres://u:p1@h/", "AKIAIOSFODNN7EXAMPLE", " ", "\n", "\\n", ".", "x", "\u{e9}", "ssn ",
        ]), 0..12),
    ) {
        fuzz_detect(&[&[step], words.concat().as_bytes()].concat());
    }
}

#[test]
fn passwords_in_brackets_and_quotes_are_found() {
    let passwords = of(&[Kind::UrlPassword]);
    for (field, value) in [
        ("password=[Gr8-s3cret] now", "Gr8-s3cret"),
        ("PWD={a;Gr8=pw1};Database=x", "a;Gr8=pw1"),
        ("password=<Gr8s3cret>", "Gr8s3cret"),
        ("config['password'] = 'Gr8 s3cret'", "Gr8 s3cret"),
        ("\"password\"=\"Gr8 s3cret\"", "Gr8 s3cret"),
    ] {
        assert_eq!(values(&passwords, field), [value], "{field}");
    }
    for none in [
        "password=<password>",
        "password=[your-password]",
        "password={password}",
        "password=[1, 2]",
        "password={\"a\": 1}",
    ] {
        assert_eq!(values(&passwords, none), Vec::<&str>::new(), "{none}");
    }
}
