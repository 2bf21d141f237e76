//! What the player shows and does, which exchange is meant, and what transcripts look like.

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::export::{self, ExportArgs, Format};
use super::super::tests::{JSON, UTC, printed, store_of};
use super::view::Player;
use super::*;
use crate::replay::film::Film;
use crate::replay::ground::{Memory, Story};

fn args(id: &str, view: &ViewArgs) -> ReplayArgs {
    let (id, view) = (id.to_owned(), view.clone());
    let (speed, idle_max, from, exchange) = (1.0, None, None, None);
    ReplayArgs { id, speed, idle_max, from, exchange, text: false, times: false, commands: false, view }
}

/// A shell of ten minutes: a prompt, a command after 10 s, its output after 20 s, a resize, nothing until the end.
fn shell() -> (Take, Memory) {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell as root", Some("xterm 40x6"));
    story.said(0, "terminal", b"$ ", 0);
    story.said(10_000, "keys", b"ls\r", 0);
    story.said(10_010, "terminal", b"ls\r\n", 0);
    story.said(20_000, "terminal", "\x1b[1;31mrecipe\x1b[m 日本\x1b]52;c;AAAA\x07\r\n$ ".as_bytes(), 0);
    story.resized(30_000, 60, 8);
    story.said(590_000, "terminal", b"Recipe two", 0);
    story.ended(600_000, "success", "0");
    story.take(1)
}

fn player<'e>(take: &Take, memory: &'e Memory, idle_max: Option<Duration>) -> Player<'e> {
    Player::new(Film::new(memory, take).unwrap(), take, TimeZone::UTC, 1.0, idle_max)
}

fn press(player: &mut Player<'_>, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\r' => KeyCode::Enter,
            '>' => KeyCode::Right,
            '<' => KeyCode::Left,
            key => KeyCode::Char(key),
        };
        assert!(!player.key(KeyEvent::new(code, KeyModifiers::NONE)), "{key:?} leaves");
        while player.searches() {
            player.tick(Duration::ZERO);
        }
    }
}

/// Everything that is on the screen of 60 columns and 8 rows, without what is behind each row's end.
fn drawn(player: &Player<'_>) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(60, 8)).unwrap();
    terminal.draw(|frame| player.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..60).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>().trim_end().to_owned();
    (0..8).map(row).collect()
}

#[test]
fn time_passes_as_it_did_and_faster_when_asked() {
    let (take, memory) = shell();
    let mut player = player(&take, &memory, None);
    player.tick(Duration::from_secs(9));
    assert_eq!(drawn(&player)[..2], ["$", ""]);
    player.tick(Duration::from_millis(1010));
    assert_eq!(drawn(&player)[..2], ["$ ls", ""]);
    press(&mut player, "++");
    player.tick(Duration::from_secs(3));
    let shown = drawn(&player);
    assert_eq!(shown[1].replace(' ', ""), "recipe日本", "{shown:?}");
    assert!(shown[7].starts_with(" plays  0:00:22 / 0:10:00  4x  2026-11-23 02:00:22  40x6"), "{shown:?}");
    press(&mut player, " ");
    player.tick(Duration::from_mins(5));
    assert!(drawn(&player)[7].starts_with(" paused  0:00:22"), "time stands still");
    press(&mut player, " -----");
    player.tick(Duration::from_secs(8));
    assert!(drawn(&player)[7].starts_with(" plays  0:00:23 / 0:10:00  0.125x"), "{:?}", drawn(&player));
}

#[test]
fn where_nothing_happens_is_cut_short() {
    let (take, memory) = shell();
    let mut player = player(&take, &memory, Some(Duration::from_secs(2)));
    for _ in 0..20 {
        player.tick(Duration::from_millis(100));
    }
    assert_eq!(drawn(&player)[0], "$", "typed is not shown");
    player.tick(Duration::from_millis(100));
    assert_eq!(drawn(&player)[0], "$ ls");
    for _ in 0..90 {
        player.tick(Duration::from_millis(100));
    }
    let shown = drawn(&player);
    assert!(shown[7].starts_with(" ended  0:10:00 / 0:10:00") && shown[2] == "$ Recipe two", "{shown:?}");
    press(&mut player, " ");
    assert!(drawn(&player)[7].starts_with(" plays  0:00:00"), "from the beginning");
}

#[test]
fn keys_go_anywhere_and_find_anything() {
    let (take, memory) = shell();
    let mut player = player(&take, &memory, None);
    press(&mut player, "5");
    let shown = drawn(&player);
    assert!(shown[7].starts_with(" plays  0:05:00") && shown[7].contains("60x8"), "{shown:?}");
    press(&mut player, "0>>>");
    assert!(drawn(&player)[7].starts_with(" plays  0:00:15"));
    press(&mut player, "<");
    assert!(drawn(&player)[7].starts_with(" plays  0:00:10"));
    press(&mut player, "/recipe");
    assert!(drawn(&player)[7].starts_with("/recipe_"));
    press(&mut player, "\r");
    assert!(drawn(&player)[7].starts_with(" paused  0:00:20"), "{:?}", drawn(&player));
    press(&mut player, "n");
    assert!(drawn(&player)[7].starts_with(" paused  0:09:50"));
    press(&mut player, "n");
    let shown = drawn(&player);
    assert!(shown[7].starts_with(" paused  0:09:50") && shown[7].contains("does not come"), "{shown:?}");
    press(&mut player, "0/Recipe\r");
    assert!(drawn(&player)[7].starts_with(" paused  0:09:50"), "capitals count where there are some");
    press(&mut player, "0.");
    press(&mut player, ".");
    assert!(drawn(&player)[7].starts_with(" paused  0:00:10"), "moment by moment");
    assert!(player.key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE)));
    assert!(player.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn a_long_search_can_be_left() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 40x6"));
    for n in 0..2000 {
        story.said(n, "terminal", b"line\r\n", 0);
    }
    let (take, memory) = story.take(1);
    let mut player = player(&take, &memory, None);
    let press = |player: &mut Player<'_>, code| player.key(KeyEvent::new(code, KeyModifiers::NONE));
    for code in [KeyCode::Char('/'), KeyCode::Char('z'), KeyCode::Enter] {
        press(&mut player, code);
    }
    player.tick(Duration::ZERO);
    assert!(player.searches() && drawn(&player)[7].starts_with(" searches  0:00:00"), "{:?}", drawn(&player));
    assert!(!press(&mut player, KeyCode::Char('q')), "it ends the search alone");
    assert!(!player.searches() && drawn(&player)[7].contains("the search was left"));
}

#[test]
fn a_screen_that_is_too_large_is_seen_around_its_cursor() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 200x50"));
    story.said(0, "terminal", b"\x1b[1;1Hcorner\x1b[40;101Hfar away", 0);
    let (take, memory) = story.take(1);
    let mut player = player(&take, &memory, None);
    player.tick(Duration::from_secs(1));
    let shown = drawn(&player);
    assert!(shown[6].ends_with("far away") && !shown.concat().contains("corner"), "{shown:?}");
}

#[test]
fn an_id_means_the_only_terminal_or_a_list_or_all_commands() {
    let mut story = Story::new();
    story.begin(0, "LOGIN", "root", None);
    story.begin(1, "EXEC", "echo hi", None);
    story.said(2, "stdin", b"one\ntw", 0);
    story.said(3, "stdout", "hi \u{202e}x\r\nunfinished".as_bytes(), 0);
    story.said(4, "stderr", b"\x1b[2Joops\n", 0);
    story.said(5, "stdin", b"o\n", 0);
    story.said(6, "stdout", b"\nlast\n\0\x01\x02\xff", 0);
    story.ended(7, "failure", "3");
    story.begin(8, "EXEC", "true", None);
    story.ended(9, "success", "0");
    let (_dir, store) = store_of(&story.sample.records);
    let id = story.session.to_string();
    let shown = |args: &ReplayArgs| {
        let chosen = choose(&store, &args.id, args.exchange).unwrap();
        printed(&args.view, |screen| print(&store, &chosen, args, screen))
    };
    let (found, text) = shown(&args(&id, &UTC));
    let body: Vec<&str> = text.lines().filter(|line| !line.starts_with("exchange")).collect();
    let expected = [
        "in  | one",
        "err | \\x1b[2Joops",
        "in  | two",
        "out | unfinished",
        "out | last",
        "out | (4 bytes that are no text)",
        "-- ended: failure 3",
        "-- ended: success 0",
    ];
    assert!(found && body.iter().copied().filter(|line| !line.starts_with("out | hi")).eq(expected), "{text}");
    assert!(body.contains(&"out | hi \\u{202e}x"), "{text}");
    let (_, text) = shown(&ReplayArgs { times: true, exchange: Some(2), ..args(&id, &UTC) });
    assert!(text.contains("02:00:00.005  in  | two") && !text.contains("ended: success"), "{text}");
    let (_, text) = shown(&args(&id, &JSON));
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].is_string()));
    assert!(text.contains("\"base64\":\""), "{text}");
    assert!(!shown(&args(&format!("{id}.1"), &UTC)).0, "a log-in");

    story.begin(20, "SHELL", "a shell as root", Some("xterm 80x24"));
    story.said(21, "terminal", b"only terminal\r\n", 0);
    let (_dir, store) = store_of(&story.sample.records);
    let chosen = |id: &str, n| choose(&store, id, n).unwrap();
    assert!(matches!(chosen(&id, None), Chosen::One(take) if take.exchange.n == 4));
    assert!(matches!(chosen(&id, Some(2)), Chosen::One(take) if take.exchange.n == 2));
    assert!(matches!(chosen(&story.run.to_string(), None), Chosen::One(take) if take.exchange.n == 4));
    story.begin(30, "EXEC", "top", Some("xterm 132x43"));
    let (_dir, store) = store_of(&story.sample.records);
    let chosen = choose(&store, &id, None).unwrap();
    let (_, text) = printed(&UTC, |screen| print(&store, &chosen, &args(&id, &UTC), screen));
    assert!(text.contains(&format!("{id}.4")) && text.contains("xterm 132x43  top"), "{text}");
}

#[test]
fn what_is_no_session_of_commands_says_which_verb_shows_it() {
    let (sample, _, sessions) = crate::index::sample::Sample::story();
    let (_dir, store) = store_of(&sample.records);
    for id in [sessions[0].to_string(), format!("{}.1", sessions[1])] {
        assert!(matches!(choose(&store, &id, None).unwrap(), Chosen::Nothing));
    }
    assert!(matches!(choose(&store, "ZZZZ", None).unwrap(), Chosen::Nothing));
}

#[test]
fn a_terminal_is_told_with_times_and_its_commands_are_marked() {
    let (take, memory) = shell();
    let mut cut = transcript::Cut::default();
    let told = |cut| printed(&UTC, |screen| transcript::print(&memory, &take, cut, screen).map(|()| true)).1;
    let text = told(cut);
    assert!(text.contains("02:00:10.010  $ ls\n02:00:20.000  recipe 日本\n"), "{text}");
    assert!(text.ends_with("-- ended: success 0\n02:10:00.000  $ Recipe two\n"), "{text}");
    cut.from_ns = 15_000_000_000;
    assert!(!told(cut).contains("$ ls") && told(cut).contains("recipe"), "{}", told(cut));
    let (found, text) = printed(&UTC, |screen| transcript::commands(&memory, &take, screen));
    assert!(found && text.contains("recovered, not proof\n02:00:10.000  ls\n"), "{text}");
    let (_, text) = printed(&JSON, |screen| transcript::commands(&memory, &take, screen));
    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((row["command"].as_str(), row["recovered"].as_bool()), (Some("ls"), Some(true)));
}

#[test]
fn points_in_time_are_read_in_any_spelling() {
    let (take, _) = shell();
    let mut nothing = std::io::sink();
    let screen = Screen::new(&mut nothing, &UTC);
    let at = |text: &str| offset(text, &take.exchange, &screen).map(|ns| ns / 1_000_000).ok();
    for (text, ms) in [("90", 90_000), ("1.5", 1500), ("1:30", 90_000), ("1:00:01", 3_601_000), ("1m30s", 90_000)] {
        assert_eq!(at(text), Some(ms), "{text}");
    }
    assert_eq!(at("2026-11-23T02:01:00Z"), Some(60_000));
    assert_eq!(at("2020-01-01"), Some(0), "before it began");
    assert_eq!(at("soon"), None);
    assert!(speed("0").is_err() && speed("2x") == Ok(2.0) && seconds("-1").is_err());
    assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
}

#[test]
fn an_export_needs_one_terminal() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 80x24"));
    story.said(1, "terminal", b"one", 0);
    story.begin(2, "EXEC", "ls", None);
    story.said(3, "stdout", b"two\n", 0);
    let (_dir, store) = store_of(&story.sample.records);
    let id = story.session.to_string();
    let exported = |exchange, format| {
        let mut out = Vec::new();
        let args = ExportArgs { id: id.clone(), format, output: None, exchange, raw: false, utc: true };
        let chosen = choose(&store, &id, exchange).unwrap();
        export::export(&store, &chosen, &args, &mut out).map(|found| (found, String::from_utf8(out).unwrap()))
    };
    let (found, text) = exported(None, Format::Asciicast).unwrap();
    assert!(found && text.contains("[0.001,\"o\",\"one\"]"), "{text}");
    let (_, text) = exported(Some(2), Format::Text).unwrap();
    assert!(text.contains("02:00:00.003  out | two"), "{text}");
    let error = exported(Some(2), Format::Asciicast).unwrap_err().to_string();
    assert!(error.contains("--format text"), "{error}");
}
