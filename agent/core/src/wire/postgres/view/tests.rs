use super::super::media::Field;
use super::*;

const BOUNDS: Bounds = Bounds { rows: 100, bytes: 1 << 16 };

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn text_row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend(u32::MAX.to_be_bytes()),
            Some(value) => body.extend([&u32::try_from(value.len()).unwrap().to_be_bytes(), *value].concat()),
        }
    }
    frame(b'D', &body)
}

fn described(columns: &[(&str, u32)]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (name, oid) in columns {
        body.extend([name.as_bytes(), &[0; 7], &oid.to_be_bytes(), &[0; 8]].concat());
    }
    frame(b'T', &body)
}

fn piece<'r>(side: Side, media_type: &'r str, bytes: &'r [u8]) -> Piece<'r> {
    Piece { side, media_type, bytes }
}

const PLAIN: &str = super::super::MEDIA_TYPE;

#[test]
fn a_simple_query_reads_as_in_psql() {
    let client = frame(b'Q', b"select id, name\nfrom t\0");
    let server = [
        described(&[("id", 23), ("name", 25)]),
        text_row(&[Some(b"1"), Some(b"one")]),
        text_row(&[Some(b"20"), None]),
        text_row(&[Some(b"300"), Some(b"a\nb\x1b[2J")]),
        frame(b'C', b"SELECT 3\0"),
        frame(b'Z', b"I"),
    ]
    .concat();
    let pieces = [piece(Side::Client, PLAIN, &client), piece(Side::Server, PLAIN, &server)];
    let expected = "=> select id, name\n-> from t\n id  |   name\n-----+----------\n   1 | one\n  20 | ∅\n 300 | a\\nb\u{1b}[2J\n(3 rows)\n\n";
    assert_eq!(transcript(pieces, &[], BOUNDS), expected);
}

#[test]
fn a_prepared_statement_shows_its_values_in_binary_too() {
    let parse = frame(b'P', b"s1\0select $1, $2, $3\0\0\0");
    let values = [&[0, 3][..], &[0, 0, 0, 4, 0, 0, 0, 42], &[0xff; 4], &[0, 0, 0, 1, b'x']].concat();
    let bind = frame(b'B', &[&b"\0s1\0"[..], &[0, 3, 0, 1, 0, 1, 0, 0], &values, &[0, 1, 0, 1]].concat());
    let client = [parse, bind, frame(b'D', b"P\0"), frame(b'E', b"\0\0\0\0\0"), frame(b'S', b"")].concat();
    let parameters =
        Media { parameters: [23, 23, 25].map(|oid| Field { oid, binary: false }).to_vec(), ..Media::default() };
    let row = text_row(&[Some(&[0, 0, 0, 7]), Some(&[1])]);
    let server = [row.clone(), row, frame(b's', b"")].concat();
    let columns = Media { columns: [23, 16].map(|oid| Field { oid, binary: true }).to_vec(), ..Media::default() };
    let (client_type, server_type) = (parameters.to_string(), columns.to_string());
    let pieces = [piece(Side::Client, &client_type, &client), piece(Side::Server, &server_type, &server)];
    let bounds = Bounds { rows: 1, ..BOUNDS };
    let shown = transcript(pieces, &["n".to_owned()], bounds);
    let expected = "=> select $1, $2, $3\n$1 = 42\n$2 = ∅\n$3 = x\n n | column2\n---+---------\n 7 | t\n … 1 more\n(2 rows)\n\n(portal suspended: more rows can be fetched)\n";
    assert_eq!(shown, expected);
    let Shown::Rows { columns, rows, more } = &read(pieces, &[], bounds)[2] else { panic!("no rows") };
    assert_eq!((columns[1].kind.as_str(), rows.len(), *more), ("boolean", 1, 1));
    assert_eq!(words(&server_type, &server).as_deref(), Some("7\nt\n7\nt\n"));
    assert_eq!(words(&client_type, &client).as_deref(), Some("select $1, $2, $3\n42\nx\n"));
}

#[test]
fn errors_notices_and_copy_are_shown() {
    let error = b"SFEHLER\0VERROR\0C42501\0Mnot\nallowed\0Dsession 01\0Hask\0\0";
    let server = [
        frame(b'N', b"SNOTICE\0C00000\0Mmind\0\0"),
        frame(b'E', error),
        frame(b'd', b"1\ta\n"),
        frame(b'd', b"2\t\xff\n"),
        frame(b'C', b"COPY 2\0"),
        frame(b'A', b"\0\0\0\x07chan\0hello\0"),
    ]
    .concat();
    let pieces = [piece(Side::Server, PLAIN, &server)];
    let expected = "NOTICE:  00000: mind\nERROR:  42501: not\\nallowed\nDETAIL:  session 01\nHINT:  ask\n< 1\\ta\n< \\x3209ff0a\nCOPY 2\nnotification \"chan\" with payload \"hello\" from process 7\n";
    assert_eq!(transcript(pieces, &[], BOUNDS), expected);
    let words = words(PLAIN, &server).unwrap();
    for word in ["mind", "42501", "allowed", "session 01", "ask", "1 a", "COPY 2", "chan", "hello"] {
        assert!(words.contains(word), "{word} is not in {words:?}");
    }
}

#[test]
fn a_frame_in_pieces_is_read_when_it_is_whole_and_told_when_it_is_too_large() {
    let whole = [described(&[("a", 25)]), text_row(&[Some(&[b'x'; 100])]), frame(b'C', b"SELECT 1\0")].concat();
    let continued = Media { continued: true, ..Media::default() }.to_string();
    for cut in 30..whole.len() - 20 {
        let (one, two) = whole.split_at(cut);
        let media = if cut == 33 { PLAIN } else { &continued };
        // The first frame has 26 bytes; a cut at a boundary begins no frame.
        let is_boundary = cut == described(&[("a", 25)]).len();
        let pieces =
            [piece(Side::Server, PLAIN, one), piece(Side::Server, if is_boundary { PLAIN } else { media }, two)];
        if cut != 33 && cut > 32 {
            let shown = read(pieces, &[], BOUNDS);
            assert!(
                shown
                    .iter()
                    .any(|item| matches!(item, Shown::Rows { rows, .. } if rows[0][0].as_ref().unwrap().len() == 100)),
                "{cut}: {shown:?}"
            );
        }
    }
    let (one, two) = whole.split_at(60);
    let pieces = [piece(Side::Server, PLAIN, one), piece(Side::Server, &continued, two)];
    let small = Bounds { rows: 10, bytes: 50 };
    assert!(transcript(pieces, &[], small).contains("too large to be shown"));
    assert!(words(PLAIN, one).unwrap().contains("xxx") && words(&continued, two).unwrap().contains("xxx"));
}

#[test]
fn what_is_shown_is_bounded() {
    let rows: Vec<u8> = (0..1000).flat_map(|_| text_row(&[Some(&[b'y'; 50])])).collect();
    let shown = transcript([piece(Side::Server, PLAIN, &rows)], &[], Bounds { rows: 100_000, bytes: 1000 });
    assert!(shown.len() < 3000 && shown.contains("more\n(1000 rows)"), "{shown}");
    let copy: Vec<u8> = (0..100).flat_map(|_| frame(b'd', &[b'z'; 100])).collect();
    let shown = transcript([piece(Side::Client, PLAIN, &copy)], &[], Bounds { rows: 1, bytes: 1000 });
    assert!(shown.len() < 3000 && shown.contains("more bytes"), "{shown}");
    assert!(words(PLAIN, &frame(b'd', &vec![b'w'; 3 << 20])).unwrap().len() <= (1 << 20) + 1);
}

#[test]
fn another_media_type_has_no_words_here() {
    assert_eq!(words("text/plain", b"Q"), None);
    assert_eq!(crate::view::words(PLAIN, &frame(b'Q', b"select 1\0")).as_deref(), Some("select 1\n"));
    assert_eq!(crate::view::words("application/json", b"{}"), None);
}

#[test]
fn bent_frames_are_read_as_something() {
    let whole = [
        described(&[("a", 25), ("b", 1700)]),
        text_row(&[Some(b"1"), None]),
        frame(b'E', b"SERROR\0C42501\0Mx\0\0"),
        frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0"),
        frame(b'C', b"SELECT 1\0"),
    ]
    .concat();
    for at in 0..whole.len() {
        for bent in [0, 1, b'D', b'T', 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = bent;
            for side in [Side::Client, Side::Server] {
                transcript([piece(side, "application/x-postgresql; columns=23b,1007b", &bytes)], &[], BOUNDS);
                words("application/x-postgresql; columns=23b,1007b; parameters=1700b", &bytes).unwrap();
            }
        }
    }
}
