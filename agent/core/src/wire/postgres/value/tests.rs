use super::*;

/// Type, binary form and text of values, as a PostgreSQL 15 wrote them: `COPY … (FORMAT binary)` and `format('%s', …)`.
const VALUES: &str = include_str!("../../../../../../tests/corpus/value/postgres15.tsv");

const MAX: usize = 1 << 20;

fn values() -> Vec<(u32, Vec<u8>, &'static str)> {
    let line = |line: &'static str| {
        let mut parts = line.splitn(3, '\t');
        let (oid, digits, text) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let bytes = (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap());
        (oid.parse().unwrap(), bytes.collect(), text)
    };
    let values: Vec<_> = VALUES.lines().map(line).collect();
    assert!(values.len() > 100, "the corpus is too small to show anything");
    values
}

#[test]
fn binary_values_read_as_the_server_writes_them() {
    let wrong: Vec<String> = values()
        .into_iter()
        .filter_map(|(oid, bytes, expected)| {
            let shown = text(Field { oid, binary: true }, &bytes, MAX);
            // Types without a reader here are shown as bytes.
            let is_bytes = [3614, 3615].contains(&oid) && shown == hex(&bytes);
            (shown != expected && !is_bytes).then(|| format!("{oid}: {shown:?} instead of {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn text_values_stay_as_they_are() {
    for (oid, _, expected) in values() {
        assert_eq!(text(Field { oid, binary: false }, expected.as_bytes(), MAX), expected);
    }
}

#[test]
fn cut_and_bent_values_are_shown_as_something() {
    for (oid, bytes, _) in values() {
        for cut in 0..bytes.len() {
            let _ = text(Field { oid, binary: true }, &bytes[..cut], MAX);
            for bent in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[cut] = bent;
                // Every reader meets every form.
                for other in [oid, 1007, 2249, 3904, 1700, 602, 1186, 1184] {
                    let _ = text(Field { oid: other, binary: true }, &bytes, MAX);
                }
            }
        }
    }
}

#[test]
fn what_is_not_of_its_form_is_hexadecimal_and_what_is_long_is_cut() {
    let int4 = Field { oid: 23, binary: true };
    assert_eq!(text(int4, &[0, 0, 1], MAX), "\\x000001");
    assert_eq!(text(Field { oid: 99_999, binary: true }, b"ab", MAX), "\\x6162");
    assert_eq!(text(Field { oid: 25, binary: false }, "aßßß".as_bytes(), 4), "aß…");
    assert_eq!(text(Field { oid: 25, binary: true }, b"abcdef", 3), "abc…");
    let deep = (0..40).fold(vec![], |inner: Vec<u8>, _| {
        let len = u32::try_from(inner.len()).unwrap().to_be_bytes();
        [&1_u32.to_be_bytes()[..], &2249_u32.to_be_bytes(), &len, &inner].concat()
    });
    assert!(text(Field { oid: 2249, binary: true }, &deep, MAX).contains("\\x"));
}

#[test]
fn types_have_names() {
    assert!(TYPES.is_sorted_by_key(|(oid, _)| *oid));
    assert_eq!(type_name(23), "integer");
    assert_eq!(type_name(1007), "integer[]");
    assert_eq!(type_name(99_999), "99999");
}
