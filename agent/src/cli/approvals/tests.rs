//! The view as it is drawn, its keys, and what hostile text comes to.

use std::collections::BTreeSet;

use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::verdict::Terms;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::lines::Lines;
use super::view::{Effect, View};
use super::watch::News;
use super::*;
use crate::cli::tests::{UTC, printed, store_of};
use crate::cli::{show, timeline};
use crate::index::sample::Sample;

const HOSTILE: &str = "DELETE\x1b[2J\x1b]0;owned\x07 \u{202e}sredro MORF\n\r\t!";

fn waiting(id: &str, subject: &str) -> Waiting {
    Waiting {
        id: id.into(),
        run: RunId(Ulid::from_bytes([1; 16])),
        session: SessionId(Ulid::from_bytes([2; 16])),
        n: Some(4),
        identity: Identity { id: "os:1000".into(), name: format!("crew{HOSTILE}"), ..Identity::unknown() },
        target: "orders-db".into(),
        verb: "query".into(),
        subject: subject.into(),
        policies: vec!["no-delete".into()],
        terms: Terms { groups: BTreeSet::from(["os:dba".to_owned()]), approvers: 2, whole_session: false },
        approved_by: vec![Identity { id: "os:7".into(), name: "bob".into(), ..Identity::unknown() }],
        digest: "0123".into(),
        asked_ns: 0,
        expires_ns: 600_000_000_000,
        media_type: "text/plain".into(),
        len: 9,
    }
}

fn drawn(view: &View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(100, 24)).unwrap();
    terminal.draw(|frame| view.draw(frame, 45_000_000_000)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let cells: Vec<&str> = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(!cells.iter().any(|cell| cell.chars().any(is_unsafe)), "something recorded reached the terminal");
    cells.chunks(100).map(|line| line.concat().trim_end().to_owned() + "\n").collect()
}

fn press(view: &mut View, key: KeyCode) -> Effect {
    view.key(KeyEvent::new(key, KeyModifiers::NONE))
}

fn list(of: &[Waiting]) -> News {
    News::List { waiting: of.to_vec(), left_off: 0 }
}

#[test]
fn the_list_the_details_and_the_countdown_are_drawn() {
    let mut view = View::default();
    assert!(drawn(&view).contains("nothing waits for an approval"));
    view.hear(list(&[waiting("01A", "DELETE FROM orders"), waiting("01B", "DROP TABLE x")]));
    assert_eq!(view.wants_content().as_deref(), Some("01A"));
    view.content("01A", "DELETE FROM orders\n$1 = 4111********1111".into());
    assert_eq!(view.wants_content(), None);
    let screen = drawn(&view);
    for shown in [
        "2 wait",
        "9:15 orders-db query DELETE",
        "$1 = 4111********1111",
        "2 of os:dba, has bob",
        "no-delete",
        "a approve",
    ] {
        assert!(screen.contains(shown), "{shown}\n{screen}");
    }
    press(&mut view, KeyCode::Down);
    assert_eq!(view.wants_content().as_deref(), Some("01B"));
    assert!(!drawn(&view).contains("4111"), "the content of another one is not shown");
}

#[test]
fn hostile_text_is_spelled_out_wherever_it_stands() {
    let mut view = View::default();
    let mut one = waiting("01A", HOSTILE);
    (one.target, one.policies) = (HOSTILE.into(), vec![HOSTILE.into()]);
    view.hear(list(std::slice::from_ref(&one)));
    view.content("01A", HOSTILE.repeat(3));
    view.told(HOSTILE.into());
    assert!(drawn(&view).contains("DELETE\\x1b[2J"));
    press(&mut view, KeyCode::Char('a'));
    for letter in HOSTILE.chars() {
        press(&mut view, KeyCode::Char(letter));
    }
    drawn(&view);
    view.hear(News::Silent(HOSTILE.into()));
    drawn(&view);
    let mut out = Vec::new();
    Lines::default().tell(&[one.clone()], &mut out).unwrap();
    let mut screen = Screen::new(&mut out, &ViewArgs::default());
    print_list(&[one], 1, 0, &mut screen).unwrap();
    assert!(!String::from_utf8(out).unwrap().replace('\n', "").contains(is_unsafe));
}

#[test]
fn an_answer_is_of_the_one_that_was_asked_about_though_the_list_moves() {
    let mut view = View::default();
    let (a, b) = (waiting("01A", "a"), waiting("01B", "b"));
    view.hear(list(&[a.clone(), b.clone()]));
    press(&mut view, KeyCode::Char('j'));
    assert_eq!(press(&mut view, KeyCode::Char('d')), Effect::Nothing);
    view.hear(list(&[a]));
    for letter in "no q".chars() {
        assert_eq!(press(&mut view, KeyCode::Char(letter)), Effect::Nothing, "typed, not obeyed");
    }
    press(&mut view, KeyCode::Backspace);
    assert!(drawn(&view).contains("deny 01B?"));
    let answer = Effect::Answer { id: "01B".into(), approve: false, reason: Some("no".into()) };
    assert_eq!(press(&mut view, KeyCode::Enter), answer);
    press(&mut view, KeyCode::Char('a'));
    assert_eq!(press(&mut view, KeyCode::Esc), Effect::Nothing, "not done");
    press(&mut view, KeyCode::Char('a'));
    assert_eq!(press(&mut view, KeyCode::Enter), Effect::Answer { id: "01A".into(), approve: true, reason: None });
    assert_eq!(press(&mut view, KeyCode::Char('q')), Effect::Leave);
    view.hear(list(&[]));
    assert_eq!(press(&mut view, KeyCode::Char('a')), Effect::Nothing, "there is nothing to answer");
    assert!(!drawn(&view).contains("approve 01A?"));
}

#[test]
fn lines_tell_what_comes_and_what_goes_once() {
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    let (a, b) = (waiting("01A", "a"), waiting("01B", "b"));
    lines.tell(std::slice::from_ref(&a), &mut out).unwrap();
    lines.tell(&[a, b.clone()], &mut out).unwrap();
    lines.tell(&[b], &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let words: Vec<String> =
        text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(words, ["waits 01A", "waits 01B", "gone 01A"]);
}

#[test]
fn a_run_tells_what_was_asked_what_was_said_and_what_passed_by_an_override() {
    let (sample, run, session) = Sample::asking();
    let (_dir, store) = store_of(&sample.records);
    let args = timeline::TimelineArgs { run: None, identity: None, view: UTC };
    let (_, told) = printed(&UTC, |screen| timeline::print(&store, &args, screen));
    for line in [
        "held query DELETE FROM orders on orders-db, asked by no-delete",
        "approval 01APPROVED approved by alice (os:1000): why approved, not settled by it",
        "approval 01APPROVED used: why used",
        "approval 01DENIED denied by bob (os:1001): why denied",
        "OVERRIDE: everything passes to orders-db for ",
        "by alice (os:1000): incident 7\\x1b[2J",
        "OVERRIDDEN: it passed by override 01OVERRIDE against ask query",
        "OVERRIDE of orders-db ended by os:1001",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let show = |id: String| {
        let args = show::ShowArgs { id, all: false, bytes: None, view: UTC };
        printed(&UTC, |screen| show::show(&store, &args, screen)).1
    };
    let shown = show(run.to_string());
    for line in [
        "3 approvals asked (1 approved, 1 denied, 1 waiting), 1 override, 1 PASSED BY IT",
        "! OVERRIDE: policy did not hold for orders-db, by alice (os:1000)",
        "! 1 action PASSED by an override",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let shown = show(session.to_string());
    assert!(shown.contains("! .4 PASSED by override 01OVERRIDE"), "{shown}");
    assert!(shown.contains(".4  DELETE DELETE FROM orders  no response  OVERRIDDEN"), "{shown}");
    assert!(shown.contains("approval   .2 query DELETE FROM orders denied by bob: why denied (01DENIED)"), "{shown}");
    let shown = show(format!("{session}.1"));
    assert!(shown.contains("approved by bob") && !shown.contains("OVERRID"), "{shown}");
    assert!(show(format!("{session}.4")).contains("PASSED by override 01OVERRIDE"));
}
