//! Conversations that say exactly what a test needs.

use super::*;
use crate::limits;
use crate::wire::postgres::conversation::Doubt;
use crate::wire::postgres::frame::Frames;
use crate::wire::postgres::message::Status;
use crate::wire::postgres::reply::{self, frame};

pub(super) fn query(sql: &str) -> Vec<u8> {
    reply::query(sql.as_bytes())
}

pub(super) fn sync() -> Vec<u8> {
    reply::sync()
}

fn texts(body: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
}

pub(super) fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', |body| {
        texts(body, &[name, sql]);
        body.extend_from_slice(&[0, 1, 0, 0, 0, 23]);
    })
}

pub(super) fn bind(portal: &str, name: &str) -> Vec<u8> {
    frame(b'B', |body| {
        texts(body, &[portal, name]);
        body.extend_from_slice(&[0; 6]);
    })
}

/// With results in these formats.
fn bind_as(name: &str, formats: &[u8]) -> Vec<u8> {
    frame(b'B', |body| {
        texts(body, &["", name]);
        body.extend_from_slice(&[0, 0, 0, 0, 0, u8::try_from(formats.len()).unwrap()]);
        body.extend(formats.iter().flat_map(|format| [0, *format]));
    })
}

pub(super) fn describe(kind: u8, name: &str) -> Vec<u8> {
    frame(b'D', |body| {
        body.push(kind);
        texts(body, &[name]);
    })
}

pub(super) fn close(kind: u8, name: &str) -> Vec<u8> {
    frame(b'C', |body| {
        body.push(kind);
        texts(body, &[name]);
    })
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    frame(b'E', |body| {
        texts(body, &[portal]);
        body.extend_from_slice(&[0; 4]);
    })
}

fn call() -> Vec<u8> {
    frame(b'F', |body| body.extend_from_slice(&[0, 0, 5, 117, 0, 0, 0, 0, 0, 0]))
}

/// A message of the server without a body, or with this one.
fn server(tag: u8, body: &[u8]) -> Vec<u8> {
    frame(tag, |to| to.extend_from_slice(body))
}

fn error() -> Vec<u8> {
    server(b'E', b"SERROR\0VERROR\0C42601\0Mno\0\0")
}

fn ready() -> Vec<u8> {
    server(b'Z', b"I")
}

fn complete() -> Vec<u8> {
    server(b'C', b"SELECT 1\0")
}

/// Columns `a` int4 and `b` text.
fn columns() -> Vec<u8> {
    let field =
        |name: &[u8], oid: u8| [name, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, oid, 0, 4, 255, 255, 255, 255, 0, 0]].concat();
    server(b'T', &[&[0, 2][..], &field(b"a", 23), &field(b"b", 25)].concat())
}

fn row() -> Vec<u8> {
    server(b'D', &[0, 1, 0, 0, 0, 1, b'x'])
}

/// Types of the messages, for what went wrong.
pub(super) fn frames(bytes: &[u8]) -> String {
    Frames::new(bytes).map(|frame| char::from(frame.tag)).collect()
}

/// What is told of `bytes`; `…` where something stays behind.
fn tell(conversation: &mut Conversation, side: Side, bytes: &[Vec<u8>]) -> Vec<String> {
    let bytes = bytes.concat();
    let (mut told, mut at) = (Vec::new(), 0);
    loop {
        let step = match conversation.next(side, &bytes[at..]) {
            Ok(step) => step,
            Err(fault) => {
                told.push(format!("fault {}", fault.code()));
                return told;
            }
        };
        at += step.len();
        match step {
            Step::NeedMore if at == bytes.len() => return told,
            Step::NeedMore | Step::Over | Step::Opaque | Step::Wait => {
                told.push(format!("{step:?}"));
                return told;
            }
            Step::Rows { exchange, rows, .. } => told.push(format!("S{exchange} rows {rows}")),
            Step::CopyData { exchange, messages, .. } => told.push(format!("{exchange} copy data {messages}")),
            Step::Piece { exchange, tag, first, last, len } => {
                let ends = if first {
                    "first"
                } else if last {
                    "last"
                } else {
                    "middle"
                };
                told.push(format!("{exchange} {} {ends} {len}", char::from(tag)));
            }
            step => told.push(word(side, &step)),
        }
    }
}

/// Who speaks, what, and what is told of it.
type Turn<'t> = (Side, &'t [Vec<u8>], &'t [&'t str]);

fn talk(turns: &[Turn<'_>]) -> Conversation {
    let mut conversation = Conversation::after_ready();
    for (side, bytes, expected) in turns {
        assert_eq!(tell(&mut conversation, *side, bytes), *expected, "{side:?} {}", frames(&bytes.concat()));
    }
    conversation
}

#[test]
fn a_name_that_is_on_its_way_over_a_sync_is_waited_for() {
    let known = "C1 Bind \"\" \"a\" [] Some(Some(\"one\"))";
    let mut conversation = talk(&[
        (Client, &[parse("a", "one"), sync(), bind("", "a"), sync()], &["C1 Parse \"a\" one", "C0 Sync", "Wait"]),
        (Client, &[bind("", "a")], &["Wait"]),
        (Server, &[server(b'1', b"")], &["S1 Parsed"]),
        (Client, &[bind("", "a"), sync()], &[known, "C0 Sync"]),
        (Server, &[ready(), server(b'2', b""), ready()], &["S0 Ready idle", "S1 Bound", "S0 Ready idle"]),
        // In one segment the newest counts: if it fails, the Bind is skipped.
        (Client, &[close(b'S', "a"), parse("a", "two")], &["C1 Close Statement \"a\"", "C2 Parse \"a\" two"]),
        (Client, &[bind("", "a"), sync()], &["C2 Bind \"\" \"a\" [] Some(Some(\"two\"))", "C0 Sync"]),
        (Client, &[bind("", "a")], &["Wait"]),
        (Server, &[server(b'3', b""), error(), ready()], &["S1 Closed", "S2 Error 42601", "S0 Ready idle"]),
        (Client, &[bind("", "a"), sync()], &["C3 Bind \"\" \"a\" [] None", "C0 Sync"]),
    ]);
    assert_eq!(conversation.end(Server).unanswered, [3]);
}

#[test]
fn refused_messages_fail_in_their_place() {
    let mut conversation = Conversation::after_ready();
    tell(&mut conversation, Client, &[parse("", "kept"), sync()]);
    tell(&mut conversation, Server, &[server(b'1', b""), ready()]);
    tell(&mut conversation, Client, &[parse("", "refused")]);
    conversation.refuse_last();
    let rest = [bind("", ""), execute(""), sync(), query("next")];
    let bound = "C2 Bind \"\" \"\" [] Some(Some(\"refused\"))";
    assert_eq!(tell(&mut conversation, Client, &rest), [bound, "C2 Execute \"\"", "C0 Sync", "C3 Query next"]);
    conversation.refuse_last();
    let answers = [error(), ready(), error(), ready()];
    let told = ["S2 Error 42601 refused", "S0 Ready idle", "S3 Error 42601 refused", "S3 Ready idle"];
    assert_eq!(tell(&mut conversation, Server, &answers), told);
    // The Query in its place has ended the unnamed statement; before it, that was still the first.
    assert_eq!(tell(&mut conversation, Client, &[bind("", "")]), ["C4 Bind \"\" \"\" [] None"]);

    let mut conversation = Conversation::after_ready();
    tell(&mut conversation, Client, &[parse("", "kept"), bind("p", "")]);
    conversation.refuse_last();
    assert_eq!(tell(&mut conversation, Client, &[execute("p"), sync()]), ["C1 Execute \"p\"", "C0 Sync"]);
    let told = ["S1 Parsed", "S1 Error 42601 refused", "S0 Ready idle"];
    assert_eq!(tell(&mut conversation, Server, &[server(b'1', b""), error(), ready()]), told);
    let told = ["C2 Bind \"\" \"\" [] Some(Some(\"kept\"))", "C3 Execute \"p\" unknown"];
    assert_eq!(tell(&mut conversation, Client, &[bind("", ""), execute("p"), sync()])[..2], told);
    // What was sent in the place of a Bind cannot be answered as one.
    assert_eq!(tell(&mut conversation, Server, &[server(b'2', b""), error(), ready()]).len(), 3);
    tell(&mut conversation, Client, &[bind("", "")]);
    conversation.refuse_last();
    assert_eq!(tell(&mut conversation, Server, &[server(b'2', b"")]), ["fault unasked"]);
}

#[test]
fn a_refused_function_call_fails_as_a_query() {
    let mut conversation = Conversation::after_ready();
    assert_eq!(conversation.next(Client, &call()).unwrap().len(), call().len());
    conversation.refuse_last();
    assert_eq!(tell(&mut conversation, Server, &[error(), ready()]), ["S1 Error 42601 refused", "S1 Ready idle"]);
    assert!(conversation.is_idle());
}

#[test]
fn doubt_ends_what_was_known_and_comes_again_with_each_execute() {
    let mut conversation = Conversation::after_ready();
    let answer = |conversation: &mut Conversation, tags: &[u8]| {
        let answers: Vec<Vec<u8>> = tags
            .iter()
            .map(|tag| match tag {
                b'C' => complete(),
                b'Z' => server(b'Z', b"T"),
                tag => server(*tag, b""),
            })
            .collect();
        let told = tell(conversation, Server, &answers);
        assert_eq!(told.len(), tags.len(), "{told:?}");
    };
    tell(&mut conversation, Client, &[parse("a", "one"), parse("do", "deallocate a"), bind("p", "do")]);
    conversation.doubt_names(Doubt::All);
    let told =
        tell(&mut conversation, Client, &[bind("", "a"), parse("b", "two"), execute("p"), bind("", "b"), sync()]);
    let expected =
        ["C3 Bind \"\" \"a\" [] None", "C4 Parse \"b\" two", "C2 Execute \"p\"", "C5 Bind \"\" \"b\" [] None"];
    assert_eq!(told[..4], expected);
    answer(&mut conversation, b"11221C2Z");
    let told = tell(&mut conversation, Client, &[execute("p"), parse("c", "three"), bind("", "c"), sync()]);
    assert_eq!(told[..3], ["C2 Execute \"p\"", "C6 Parse \"c\" three", "C6 Bind \"\" \"c\" [] Some(Some(\"three\"))"]);
    answer(&mut conversation, b"C12Z");
    assert_eq!(conversation.status(), Status::Open);
    assert_eq!(tell(&mut conversation, Client, &[query("prepare c as drop table t")]).len(), 1);
    conversation.doubt_names(Doubt::All);
    assert_eq!(tell(&mut conversation, Client, &[bind("", "c")]), ["C8 Bind \"\" \"c\" [] None"]);
}

#[test]
fn an_unknown_portal_may_make_names() {
    // The server cuts the portal's name, so that it is not known here.
    let long = "p".repeat(64);
    let mut conversation = Conversation::after_ready();
    tell(&mut conversation, Client, &[parse("do", "prepare a as delete from t"), bind(&long, "do")]);
    conversation.doubt_names(Doubt::All);
    let told = tell(&mut conversation, Client, &[parse("a", "one"), execute(&long), bind("", "a")]);
    assert_eq!(told[1..], [format!("C3 Execute {long:?} unknown"), "C4 Bind \"\" \"a\" [] None".into()]);
}

#[test]
fn a_full_pipeline_waits_unless_the_server_skips_it() {
    let mut conversation = Conversation::after_ready();
    let binds = vec![bind("", "a"); limits::POSTGRES_PIPELINE_MAX + 1];
    let told = tell(&mut conversation, Client, &binds);
    assert_eq!(told.len(), limits::POSTGRES_PIPELINE_MAX + 1);
    assert_eq!(told.last().unwrap(), "Wait");
    let told = tell(&mut conversation, Server, &[error()]);
    assert_eq!((told[0].as_str(), told.len()), ("S1 Error 42601", limits::POSTGRES_PIPELINE_MAX));
    // Now it waits for a Sync only, and as much may come before that as the client likes.
    let told = tell(&mut conversation, Client, &binds);
    assert_eq!(told.len(), 2 * (limits::POSTGRES_PIPELINE_MAX + 1));
    assert!(told[1].ends_with("skipped"), "{:?}", told[1]);
    assert_eq!(tell(&mut conversation, Client, &[sync()]), ["C0 Sync"]);
    assert_eq!(tell(&mut conversation, Server, &[ready()]), ["S0 Ready idle"]);
    assert!(conversation.is_idle());
}

#[test]
fn columns_come_from_the_statement_and_the_formats_of_the_bind() {
    let told = |conversation: &Conversation, exchange| -> Option<Vec<(u32, bool)>> {
        conversation.columns(exchange).map(|columns| columns.iter().map(|(_, oid, binary)| (oid, binary)).collect())
    };
    let mut conversation = Conversation::after_ready();
    tell(&mut conversation, Client, &[parse("s", "select"), describe(b'S', "s"), sync()]);
    tell(&mut conversation, Server, &[server(b'1', b""), server(b't', &[0, 1, 0, 0, 0, 20]), columns(), ready()]);
    for (exchange, formats, expected) in
        [(1, &[1][..], [true, true]), (2, &[0, 1], [false, true]), (3, &[], [false, false]), (4, &[0], [false, false])]
    {
        let Step::Request { request: Request::Bind { statement, .. }, exchange: told_exchange, .. } =
            conversation.next(Client, &bind_as("s", formats)).unwrap()
        else {
            panic!("no Bind");
        };
        // The server knows better than the client.
        assert_eq!((statement.unwrap().parameter_types(), told_exchange), (&[20][..], exchange));
        tell(&mut conversation, Client, &[execute(""), sync()]);
        assert_eq!(
            tell(&mut conversation, Server, &[server(b'2', b""), row(), row()])[1],
            format!("S{exchange} rows 2")
        );
        assert_eq!(told(&conversation, exchange), Some(vec![(23, expected[0]), (25, expected[1])]));
        tell(&mut conversation, Server, &[complete(), ready()]);
        assert!(told(&conversation, exchange).is_some(), "the end of the rows may ask, too");
    }
    tell(&mut conversation, Client, &[query("select; insert")]);
    tell(&mut conversation, Server, &[columns(), complete()]);
    assert_eq!(told(&conversation, 5), Some(vec![(23, false), (25, false)]));
    assert_eq!(told(&conversation, 4), None);
    tell(&mut conversation, Server, &[complete()]);
    assert_eq!(told(&conversation, 5), None, "the second statement has none");
}

#[test]
fn what_is_too_large_to_be_judged_passes_in_pieces_and_is_not_known() {
    let long = "x".repeat(limits::POSTGRES_JUDGED_BYTES_MAX);
    let mut conversation = Conversation::after_ready();
    let told = tell(&mut conversation, Client, &[parse("a", &long), bind("", "a"), execute(""), query(&long), sync()]);
    let len = parse("a", &long).len();
    let expected = [
        format!("C1 P too large {len}"),
        format!("1 P first {len}"),
        "C1 Bind \"\" \"a\" [] Some(None)".into(),
        "C1 Execute \"\"".into(),
        format!("C2 Q too large {}", query(&long).len()),
        format!("2 Q first {}", query(&long).len()),
        "C0 Sync".into(),
    ];
    assert_eq!(told, expected);
    let answers = [server(b'1', b""), server(b'2', b""), complete(), complete(), ready(), ready()];
    let told = tell(&mut conversation, Server, &answers);
    assert_eq!(told[3..], ["S2 Complete SELECT 1", "S2 Ready idle", "S0 Ready idle"]);
    // A cut in the names, then in the rest.
    let bytes = bind(&long, "a");
    assert_eq!(tell(&mut conversation, Client, &[bytes]), ["fault malformed"]);
}

#[test]
fn texts_beyond_the_budget_are_not_kept() {
    let half = "x".repeat(limits::POSTGRES_JUDGED_BYTES_MAX - 1000);
    let mut conversation = Conversation::after_ready();
    let known = |conversation: &mut Conversation, name: &str| {
        tell(conversation, Client, &[parse(name, &half)]);
        let message = bind("", name);
        let Step::Request { request: Request::Bind { statement, .. }, .. } =
            conversation.next(Client, &message).unwrap()
        else {
            panic!("no Bind");
        };
        tell(conversation, Client, &[sync()]);
        tell(conversation, Server, &[server(b'1', b""), server(b'2', b""), ready()]);
        statement.unwrap().text().is_some()
    };
    let kept: Vec<bool> = ["a", "b", "c"].map(|name| known(&mut conversation, name)).into();
    assert_eq!(kept, [true, true, false]);
    tell(&mut conversation, Client, &[close(b'S', "a"), sync()]);
    tell(&mut conversation, Server, &[server(b'3', b""), ready()]);
    assert!(known(&mut conversation, "d"), "what is closed gives its room back");
}

#[test]
fn answers_that_nothing_asked_for_are_faults() {
    /// What the client asks, what the server answers, and what is wrong with that.
    type Asked<'a> = (&'a [Vec<u8>], &'a [Vec<u8>], &'a str);
    let faults: [Asked<'_>; 12] = [
        (&[], &[server(b'1', b"")], "unasked"),
        (&[], &[ready()], "unasked"),
        (&[], &[row()], "unasked"),
        (&[sync()], &[complete()], "unasked"),
        (&[query("a")], &[row()], "unasked"),
        (&[query("a")], &[ready()], "unasked"),
        (&[query("a")], &[error(), complete()], "unasked"),
        (&[query("a")], &[server(b'R', &[0; 4])], "unasked"),
        (&[parse("", "a"), bind("", "")], &[server(b'2', b"")], "unasked"),
        (&[query("a")], &[server(b'1', b"x")], "malformed"),
        (&[query("a")], &[server(b'T', &[0, 1])], "malformed"),
        (&[query("a")], &[b"C\0\0\0\x03".to_vec()], "length"),
    ];
    for (client, answers, code) in faults {
        let mut conversation = Conversation::after_ready();
        tell(&mut conversation, Client, client);
        let told = tell(&mut conversation, Server, answers);
        assert_eq!(
            told.last().unwrap(),
            &format!("fault {code}"),
            "{} {}",
            frames(&client.concat()),
            frames(&answers.concat())
        );
        // It stays one, for both sides.
        assert_eq!(tell(&mut conversation, Client, &[sync()]), [format!("fault {code}")]);
    }
    let long = server(b'S', &vec![0; limits::POSTGRES_JUDGED_BYTES_MAX]);
    assert_eq!(tell(&mut Conversation::after_ready(), Client, &[long]), ["fault too_large"]);
}

#[test]
fn unknown_types_pass_and_large_ones_in_pieces() {
    let large = vec![7; limits::POSTGRES_ROW_BYTES_MAX];
    let mut conversation = talk(&[
        (Client, &[query("a"), server(b'y', b"abc")], &["C1 Query a", "C0 Other(121)"]),
        (
            Server,
            &[server(b'y', b"abc"), server(b'Y', &large)],
            &["S0 Other(121)", &format!("0 Y first {}", large.len() + 5)],
        ),
        (Server, &[complete(), ready()], &["S1 Complete SELECT 1", "S1 Ready idle"]),
        (Client, &[server(b'd', b"late"), reply::terminate(), query("b")], &["0 copy data 1", "C0 Terminate", "Over"]),
    ]);
    assert_eq!(conversation.end(Server), Ended::default());
}

#[test]
fn a_copy_that_fails_before_its_early_sync_leaves_nothing_known() {
    let mut conversation = Conversation::after_ready();
    tell(&mut conversation, Client, &[parse("", "one"), parse("c", "copy view from stdin"), sync()]);
    tell(&mut conversation, Server, &[server(b'1', b""), server(b'1', b""), ready()]);
    let early = [bind("p", "c"), execute("p"), sync()];
    assert_eq!(tell(&mut conversation, Client, &early).len(), 3);
    let answers = [server(b'2', b""), server(b'G', &[0, 0, 0]), error()];
    assert_eq!(tell(&mut conversation, Server, &answers), ["S2 Bound", "S2 CopyIn", "S2 Error 42601"]);
    // The server reads the Sync behind its error, and then it does this, too.
    let told = tell(&mut conversation, Client, &[bind("", ""), parse("", "two"), bind("", ""), sync()]);
    let expected =
        ["C3 Bind \"\" \"\" [] None", "C4 Parse \"\" two", "C4 Bind \"\" \"\" [] Some(Some(\"two\"))", "C0 Sync"];
    assert_eq!(told, expected);
    assert_eq!(
        tell(&mut conversation, Server, &[ready(), error(), ready()])[1..],
        ["S3 Error 42601", "4 skipped", "S0 Ready idle"]
    );
    assert!(conversation.is_idle());
}

#[test]
fn a_copy_that_fails_is_followed_by_one_or_by_two_ready_for_query() {
    for count in [1, 2] {
        let mut conversation = Conversation::after_ready();
        tell(&mut conversation, Client, &[parse("", "copy"), bind("", ""), execute(""), sync()]);
        let begun = [server(b'1', b""), server(b'2', b""), server(b'G', &[0, 0, 0]), error()];
        assert_eq!(tell(&mut conversation, Server, &begun).len(), 4);
        tell(&mut conversation, Client, &[server(b'd', b"x"), server(b'c', b""), sync()]);
        assert_eq!(tell(&mut conversation, Server, &vec![ready(); count]), vec!["S0 Ready idle"; count]);
        // What comes next is told rightly either way, also where it fails.
        tell(&mut conversation, Client, &[parse("", "no"), sync(), query("yes")]);
        let told = ["S2 Error 42601", "S0 Ready idle", "S3 Complete SELECT 1", "S3 Ready idle"];
        assert_eq!(tell(&mut conversation, Server, &[error(), ready(), complete(), ready()]), told, "{count}");
        assert!(conversation.is_idle());
    }
}

#[test]
fn the_end_says_what_is_cut_off_and_what_is_owed() {
    let mut conversation = Conversation::after_ready();
    let long = server(b'd', &vec![0; limits::POSTGRES_ROW_BYTES_MAX]);
    tell(&mut conversation, Client, &[query("copy"), parse("", "a"), bind("", ""), execute(""), sync()]);
    tell(&mut conversation, Server, &[server(b'G', &[0, 0, 0])]);
    assert_eq!(tell(&mut conversation, Client, &[long[..100].to_vec()]), ["1 d first 100"]);
    assert_eq!(conversation.end(Client).cut, Some(1));
    assert_eq!(conversation.end(Server).unanswered, [1, 2]);
}
