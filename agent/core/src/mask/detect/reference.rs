//! The slow reference: every substring at every position, judged by the letter of the rules. Shares the issuers' and countries'
//! tables with the engine, and nothing else.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use regex_automata::meta::Regex;
use std::sync::LazyLock;

use super::tests::{of, whole};
use super::{card, iban};
use crate::mask::rule::Kind;

/// Rules in the order of their numbers.
const KINDS: [Kind; 3] = [Kind::Card, Kind::Iban, Kind::Ssn];

fn word(letter: Option<char>) -> bool {
    letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A word or a fraction goes on behind a value.
fn goes_on(behind: &str) -> bool {
    let mut letters = behind.chars();
    match letters.next() {
        Some('.') => letters.next().is_some_and(|next| next.is_ascii_digit()),
        next => word(next),
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|letter| letter.to_digit(10)).collect()
}

/// As it is taught: from the right, every second one twice, the digits of that summed.
fn luhn(text: &str) -> bool {
    let doubled =
        digits(text).into_iter().rev().enumerate().map(|(place, digit)| if place % 2 == 1 { digit * 2 } else { digit });
    doubled.map(|value| value / 10 + value % 10).sum::<u32>().is_multiple_of(10)
}

fn is_card(before: Option<char>, value: &str, behind: &str) -> bool {
    if word(before) || before == Some('.') || goes_on(behind) {
        return false;
    }
    let groups = |separator: char| value.split(separator).map(str::len).collect::<Vec<_>>();
    let is_digits = |separator: char| value.chars().all(|letter| letter.is_ascii_digit() || letter == separator);
    let plain = value.chars().all(|letter| letter.is_ascii_digit());
    let separator = [' ', '-', '.'].into_iter().find(|separator| {
        let shapes: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4]];
        is_digits(*separator) && shapes.contains(&&*groups(*separator))
    });
    let grouped = match separator {
        None if plain => false,
        None => return false,
        // A further group behind hyphens belongs to it, but for the fifth one of three digits.
        Some('-') if behind.starts_with('-') && behind[1..].starts_with(|next: char| next.is_ascii_digit()) => {
            return groups('-').len() == 5 && card::issued_and_checked(value, true, luhn);
        }
        Some(_) => true,
    };
    card::issued_and_checked(value, grouped, luhn)
}

fn is_iban(before: Option<char>, value: &str, behind: &str) -> bool {
    let bare: String = value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    let fours: Vec<&str> = (0..bare.len()).step_by(4).map(|at| &bare[at..(at + 4).min(bare.len())]).collect();
    let upper = value.to_uppercase();
    let written = [bare.clone(), fours.join(" "), fours.join("-")].contains(&upper);
    if word(before) || goes_on(behind) || !written || bare.len() < 5 || !bare.is_ascii() {
        return false;
    }
    let Some((_, structure)) = iban::COUNTRIES.iter().find(|(country, _)| bare.as_bytes().starts_with(*country)) else {
        return false;
    };
    // `8n12c` is eight digits, twelve letters or digits.
    let (mut account, mut count) = (String::new(), String::new());
    for letter in structure.chars() {
        let class = match letter {
            'n' => "[0-9]",
            'a' => "[A-Z]",
            'c' => "[A-Z0-9]",
            digit => {
                count.push(digit);
                continue;
            }
        };
        account.extend([class, "{", &count, "}"]);
        count.clear();
    }
    let is_whole = Regex::new(&format!("^[A-Z]{{2}}[0-9]{{2}}{account}$")).unwrap().is_match(&bare);
    // A number in full, as on paper.
    let number: String = format!("{}{}", &bare[4..], &bare[..4])
        .chars()
        .map(|letter| letter.to_digit(36).unwrap().to_string())
        .collect();
    is_whole && number.bytes().fold(0, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % 97) == 1
}

fn is_ssn_number(value: &str) -> bool {
    let number = digits(value).iter().map(u32::to_string).collect::<String>();
    number.len() == 9
        && !number.starts_with(['9'])
        && !["000", "666"].contains(&&number[..3])
        && &number[3..5] != "00"
        && &number[5..] != "0000"
        && !["078051120", "219099999"].contains(&&*number)
}

fn is_ssn(before: Option<char>, value: &str, behind: &str) -> bool {
    static SHAPE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^([0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{3} [0-9]{2} [0-9]{4})$").unwrap());
    let begins = !word(before) && !matches!(before, Some('-' | '.'));
    begins && SHAPE.is_match(value) && !goes_on(behind) && !behind.starts_with('-') && is_ssn_number(value)
}

/// What begins with the word that makes nine digits a number; where they begin.
fn named_ssn(before: Option<char>, text: &str, behind: &str) -> Option<usize> {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("^(?i:ssn|social[ _-]security)[A-Za-z \\t_:=\"'#()\\\\>|-]{0,24}[0-9]{9}$").unwrap()
    });
    if !SHAPE.is_match(text) {
        return None;
    }
    let (words, number) = text.split_at(text.len() - 9);
    let joined = words.ends_with(|letter: char| letter.is_ascii_alphanumeric());
    let begins = !before.is_some_and(|before| before.is_ascii_alphanumeric());
    (begins && !joined && !goes_on(behind) && is_ssn_number(number)).then_some(words.len())
}

/// Rule, start and end of every find.
fn reference(field: &str) -> Vec<(usize, usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < field.len() {
        let before = field[..at].chars().next_back();
        let candidates = (at + 1..=field.len()).flat_map(|end| {
            let (value, behind) = (&field[at..end], &field[end..]);
            let named = named_ssn(before, value, behind).map(|start| (end, at + start, 2));
            let plain = [is_card(before, value, behind), is_iban(before, value, behind), is_ssn(before, value, behind)];
            let plain = (0..).zip(plain).filter(|(_, holds)| *holds).map(move |(rule, _)| (end, at, rule));
            plain.chain(named).collect::<Vec<_>>()
        });
        // The longest; of those the one that begins first, of those the first rule.
        match candidates.max_by_key(|(end, start, rule)| (*end, std::cmp::Reverse((*start, *rule)))) {
            Some((end, start, rule)) => {
                found.push((rule, start, end));
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 192 } else { 2048 }))]

    #[test]
    fn the_engine_finds_what_the_slow_reference_finds(
        words in prop::collection::vec(prop::sample::select(vec![
            "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "4012.8888.8888.1881", "371449635398431",
            "3714 496353 98431", "3056 930902 5904", "6011000990139424", "4111", "1111", "4444", "371", "378282246310005",
            "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82-WEST-1234-5698-7654-32", "gb82west12345698765432",
            "NO9386011117947", "DE", "89", "3704", "0044", "123-45-6789", "123 45 6789", "123456789", "078-05-1120",
            "900-12-3456", "ssn", "SSN: ", "social security ", "social_security=\"", "number", " ", "-", ".", "_", ",", "x",
            "0", "5", "9", "=", ": ", "(", ")",
        ]), 0..9),
        digits in "[0-9]{0,20}",
        spot in 0usize..9,
    ) {
        let mut words: Vec<&str> = words;
        words.insert(spot.min(words.len()), &digits);
        let field = words.concat();
        let hits = whole(&of(&KINDS), field.as_bytes());
        let found: Vec<_> = hits.iter().map(|hit| (usize::from(hit.rule), hit.start, hit.end)).collect();
        prop_assert_eq!(found, reference(&field), "{}", field);
    }
}
