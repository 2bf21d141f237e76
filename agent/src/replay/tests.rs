//! Moments, screens, keyframes, lines, commands and exports of hand-made journals.

use proptest::prelude::*;

use super::asciicast::{self, Sieve};
use super::commands::Commands;
use super::emulator::Emulator;
use super::film::Film;
use super::ground::{Memory, Story};
use super::lines::{Lines, Told};
use super::take::Take;
use super::tape::{Moment, Stream, Tape, What};

const MS: u64 = 1_000_000;

/// What each moment was, in short.
fn moments(take: &Take, memory: &Memory) -> Vec<(u64, String)> {
    let short = |moment: Moment| {
        let what = match moment.what {
            What::Said { stream, bytes } => format!("{} {}", stream.word(), String::from_utf8_lossy(&bytes)),
            What::Resized { columns, rows } => format!("{columns}x{rows}"),
            What::Ended { outcome, code } => format!("{outcome} {}", code.unwrap_or_default()),
            What::Withheld { stream, len } => format!("{} withheld {len}", stream.word()),
            other => format!("{other:?}"),
        };
        (moment.at_ns / MS, what)
    };
    Tape::new(memory, take).map(short).collect()
}

fn owned(list: &[(u64, &str)]) -> Vec<(u64, String)> {
    list.iter().map(|(at, what)| (*at, (*what).to_owned())).collect()
}

#[test]
fn only_the_exchange_is_on_its_tape_also_what_comes_behind_its_end() {
    let mut story = Story::new();
    story.begin(0, "EXEC", "true", None);
    story.said(1, "stdout", b"not mine", 0);
    story.begin(10, "SHELL", "a shell", Some("xterm 80x24"));
    story.said(20, "terminal", b"$ ", 0);
    let other = story.session;
    story.session = story.sample.session_id();
    story.said(21, "terminal", b"another session", 0);
    story.session = other;
    story.resized(30, 100, 30);
    story.ended(40, "success", "0");
    story.said(50, "terminal", b"late", 0);
    story.close();
    let (take, memory) = story.take(2);
    let expected = [(10, "terminal $ "), (20, "100x30"), (30, "success 0"), (40, "terminal late")];
    assert_eq!(moments(&take, &memory), owned(&expected));
}

#[test]
fn bytes_that_masks_held_back_come_when_they_were_seen() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 80x24"));
    story.said(10, "terminal", b"card ", 2);
    story.said(20, "keys", b"4", 0);
    story.said(30, "terminal", b"", 3);
    story.said(40, "keys", b"x", 0);
    story.said(50, "terminal", b"***!", 0);
    story.said(60, "terminal", b"end", 4);
    let (take, memory) = story.take(1);
    let expected = [
        (10, "terminal card **"),
        (20, "keys 4"),
        (30, "terminal *"),
        (40, "keys x"),
        (50, "terminal !"),
        (60, "terminal end"),
        (60, "terminal withheld 4"),
    ];
    assert_eq!(moments(&take, &memory), owned(&expected));
}

#[test]
fn what_waits_has_a_bound_and_nothing_is_lost() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 80x24"));
    story.said(1, "terminal", b"a", 1);
    for n in 0..5000 {
        story.said(2 + n, "keys", b"k", 0);
    }
    story.said(6000, "terminal", b"bc", 0);
    let (take, memory) = story.take(1);
    let moments = moments(&take, &memory);
    assert_eq!(moments.iter().filter(|(_, what)| what == "keys k").count(), 5000);
    let shown: Vec<_> = moments.iter().filter(|(_, what)| what.starts_with("terminal")).collect();
    assert_eq!(shown, [&(1, "terminal a".to_owned()), &(6000, "terminal bc".to_owned())]);
}

/// A long terminal: a line each 10 ms, colours, a cut letter, resizes, a full-screen program.
fn long(lines: u64) -> (Take, Memory) {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 80x24"));
    for n in 0..lines {
        let text =
            format!("\x1b[3{}mline {n:06} grüße {}\x1b[m\r\n", n % 8, "x".repeat(usize::try_from(n % 90).unwrap()));
        let (one, two) = text.as_bytes().split_at(usize::try_from(n).unwrap() % text.len());
        story.said(n * 10, "terminal", one, 0);
        story.said(n * 10 + 5, "terminal", two, 0);
        match n % 1000 {
            300 => story.said(n * 10 + 6, "terminal", b"\x1b[?1049h\x1b[2;5Hwhole", 0),
            400 => story.said(n * 10 + 6, "terminal", b"\x1b[?1049l", 0),
            500 => story.resized(n * 10 + 6, 60, 20),
            700 => story.resized(n * 10 + 6, 80, 24),
            _ => {}
        }
    }
    story.ended(lines * 10, "success", "0");
    story.take(1)
}

#[test]
fn a_seek_gives_the_screen_that_playing_gives_and_does_not_begin_at_the_beginning() {
    let (take, memory) = long(6000);
    let at = |ns: u64| {
        let mut film = Film::new(&memory, &take).unwrap();
        film.play_to(ns);
        (film.screen().text(), film.screen().cursor(), film.screen().size())
    };
    let mut film = Film::new(&memory, &take).unwrap();
    film.seek(film.length_ns()).unwrap();
    let whole = film.work();
    assert!(whole > 300_000, "{whole}");
    for tenth in [5, 3, 9, 0, 7, 7, 1, 8, 2] {
        let (ns, before) = (film.length_ns() / 10 * tenth + 7 * MS, film.work());
        film.seek(ns).unwrap();
        assert_eq!((film.screen().text(), film.screen().cursor(), film.screen().size()), at(ns), "{tenth}");
        assert!(film.work() - before <= 70_000, "{tenth}: {} of {whole} bytes", film.work() - before);
        assert_eq!(film.at_ns(), ns);
    }
}

#[test]
fn nothing_but_letters_comes_off_the_screen() {
    let hostile = "a\x1b]0;title\x07b\x1b]52;c;c2VjcmV0\x07c\x1b[6n\x1b[c\x1bZd\x1bP+q544e\x1b\\e\x1b_apc\x1b\\f\x1b^pm\x1b\\\
                   g\x1b[8;9999;9999th\x1b[?1000h\u{202e}\u{200b}\u{9d}0;x\u{9c}i\x07\x05j";
    let mut screen = Emulator::new(80, 24).unwrap();
    screen.feed(hostile.as_bytes());
    let text = screen.text();
    assert!(!text.replace('\n', "").contains(crate::cli::screen::is_unsafe), "{text:?}");
    for swallowed in ["title", "c2Vj", "544e", "apc", "pm", "9999", "0;x"] {
        assert!(!text.contains(swallowed), "{swallowed}: {text:?}");
    }
    assert_eq!(screen.size(), (80, 24), "no stream chooses the size");
    assert!(text.starts_with("abcdefgh"), "{text:?}");
    let huge = Emulator::new(u32::MAX, u32::MAX).unwrap();
    assert_eq!((huge.size(), Emulator::new(0, 0).unwrap().size()), ((500, 200), (1, 1)));
}

#[test]
fn an_export_holds_what_draws_or_what_was_recorded() {
    let hostile =
        "A\x1b]52;c;c2VjcmV0\x07\x1b[1;31mB\x1b[m\x1b]0;title\x1b\\\x1b[6nC\x1b[?25;1000l\x1bP+q544e\x1b\\D\x1b[8;9;9t";
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm-256color 132x43"));
    // Cut anywhere.
    for (n, byte) in hostile.as_bytes().iter().enumerate() {
        story.said(100 + n as u64, "terminal", &[*byte], 0);
    }
    let (take, memory) = story.take(1);
    let lines = |as_recorded| {
        let mut out = Vec::new();
        asciicast::write(&take, Tape::new(&memory, &take), as_recorded, &mut out).unwrap();
        cast(&out)
    };
    let shown = |events: &[(f64, String, String)]| -> String {
        events.iter().filter(|(_, code, _)| code == "o").map(|(_, _, text)| text.as_str()).collect()
    };
    let (header, events) = lines(false);
    assert_eq!(shown(&events), "A\x1b[1;31mB\x1b[mC\x1b[?25lD");
    assert_eq!(header["term"], serde_json::json!({ "cols": 132, "rows": 43, "type": "xterm-256color" }));
    assert_eq!(shown(&lines(true).1), hostile);
}

/// Reads an asciicast as strictly as its definition says.
fn cast(file: &[u8]) -> (serde_json::Value, Vec<(f64, String, String)>) {
    let text = std::str::from_utf8(file).unwrap();
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(header["version"], 3);
    assert!(header["term"]["cols"].as_u64().unwrap() > 0 && header["term"]["rows"].as_u64().unwrap() > 0);
    assert!(header["timestamp"].as_u64().unwrap() > 1_700_000_000);
    let events = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let (interval, code, text): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(interval >= 0.0 && ["o", "i", "r", "x"].contains(&code.as_str()), "{line}");
        (interval, code, text)
    });
    (header, events.collect())
}

#[test]
fn an_export_has_times_sizes_keys_and_the_exit_status_last() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 80x24"));
    story.said(250, "terminal", "gr\u{fc}".as_bytes().split_last().unwrap().1, 0);
    story.said(1250, "terminal", &["\u{fc}".as_bytes()[1], 0xff], 0);
    story.said(1500, "keys", b"\x1b[A\r", 0);
    story.resized(1750, 100, 30);
    story.ended(2000, "failure", "3");
    story.said(2500, "terminal", b"late", 0);
    let (take, memory) = story.take(1);
    let mut out = Vec::new();
    asciicast::write(&take, Tape::new(&memory, &take), false, &mut out).unwrap();
    let (_, events) = cast(&out);
    let expected = [
        (0.25, "o", "gr"),
        (1.0, "o", "\u{fc}\u{fffd}"),
        (0.25, "i", "\x1b[A\r"),
        (0.25, "r", "100x30"),
        (0.75, "o", "late"),
        (0.0, "x", "3"),
    ];
    let expected: Vec<_> = expected.map(|(at, code, text)| (at, code.to_owned(), text.to_owned())).into();
    assert_eq!(events, expected);
}

#[test]
fn lines_are_told_when_the_cursor_leaves_them() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 10x4"));
    story.said(1, "terminal", b"10%\r20%\r\n", 0);
    story.said(2, "terminal", b"0123456789abcdefghij0123456789abcdefghij0123456789klm\r\nnext", 0);
    story.said(3, "terminal", b"\r\n\x1b[?1049hvim\r\nvim\x1b[?1049lback", 0);
    let (take, memory) = story.take(1);
    let mut lines = Lines::new(&take).unwrap();
    let told: Vec<Told> = Tape::new(&memory, &take).flat_map(|moment| lines.hear(&moment)).collect();
    let line = |text: &str| Told::Line(text.into());
    let long = "0123456789abcdefghij0123456789abcdefghij0123456789klm";
    assert_eq!(told, [line("20%"), line(long), line("next"), Told::FullScreen, Told::Back]);
    assert_eq!(lines.rest().as_deref(), Some("back"));
}

#[test]
fn commands_are_what_stood_behind_the_prompt() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 40x6"));
    let mut typed = |keys: &[(&str, &str)]| {
        for (n, (part, text)) in keys.iter().enumerate() {
            let part = if *part == "k" { "keys" } else { "terminal" };
            story.said(n as u64, part, text.as_bytes(), 0);
        }
    };
    typed(&[
        ("t", "root$x:~> "),
        ("k", "l"),
        ("t", "l"),
        ("k", "s\r"),
        ("t", "s\r\nfile\r\nroot$x:~> "),
        // From the history, changed, completed.
        ("k", "\x1b[A"),
        ("t", "ls"),
        ("k", " /etc/pas\t"),
        ("t", " /etc/passwd"),
        ("k", "\r"),
        ("t", "\r\n\x1b[?2004lroot:x\r\nroot$x:~> "),
        // Interrupted, empty, a password that is not shown.
        ("k", "rm\x03"),
        ("t", "rm^C\r\nroot$x:~> "),
        ("k", "\r"),
        ("t", "\r\nroot$x:~> "),
        ("k", "sudo id\r"),
        ("t", "sudo id\r\nPassword: "),
        ("k", "hunter2\r"),
        ("t", "\r\nuid=0\r\nroot$x:~> "),
    ]);
    let (take, memory) = story.take(1);
    let mut commands = Commands::new(&take).unwrap();
    let found: Vec<String> =
        Tape::new(&memory, &take).flat_map(|moment| commands.hear(&moment)).map(|one| one.command).collect();
    assert_eq!(found, ["ls", "ls /etc/passwd", "sudo id"]);
}

#[test]
fn what_is_typed_ahead_is_read_behind_what_looks_like_a_prompt() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 40x6"));
    story.said(1, "terminal", b"$ ", 0);
    story.said(2, "keys", b"echo one\recho two\r", 0);
    story.said(3, "terminal", b"echo one\r\n", 0);
    story.said(4, "terminal", b"$ echo two\r\none\r\n", 0);
    let (take, memory) = story.take(1);
    let mut commands = Commands::new(&take).unwrap();
    let found: Vec<String> =
        Tape::new(&memory, &take).flat_map(|moment| commands.hear(&moment)).map(|one| one.command).collect();
    assert_eq!(found, ["echo one", "echo two"]);
}

#[test]
fn a_line_begun_before_its_prompt_came_is_read_behind_the_prompt_of_before() {
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 40x6"));
    story.said(1, "terminal", b"a@t> ", 0);
    story.said(2, "keys", b"make\r", 0);
    story.said(3, "terminal", b"make\r\nmade\r\n", 0);
    story.said(4, "keys", b"ls > x\r", 0);
    story.said(5, "terminal", b"a@t> ls > x\r\na@t> ", 0);
    story.said(6, "keys", b"cat\r", 0);
    story.said(7, "terminal", b"cat\r\n", 0);
    // No prompt at all: what is typed is what stands there.
    story.said(8, "keys", b"one > two\r", 0);
    story.said(9, "terminal", b"one > two\r\n", 0);
    let (take, memory) = story.take(1);
    let mut commands = Commands::new(&take).unwrap();
    let found: Vec<String> =
        Tape::new(&memory, &take).flat_map(|moment| commands.hear(&moment)).map(|one| one.command).collect();
    assert_eq!(found, ["make", "ls > x", "cat", "one > two"]);
}

#[test]
fn what_cannot_be_read_is_told_and_what_follows_it_is_played() {
    struct Torn(Memory);
    impl crate::cli::store::Evidence for Torn {
        fn record(&self, leaf: u64) -> Result<Option<crewtap_core::chain::Record>, String> {
            self.0.record(leaf)
        }
        fn records(&self, from: u64) -> Box<dyn Iterator<Item = Result<crewtap_core::chain::Record, String>> + '_> {
            Box::new(self.0.records(from).map(|record| {
                record.and_then(|record| if record.payload == b"torn" { Err("torn".into()) } else { Ok(record) })
            }))
        }
        fn count(&self) -> Result<u64, String> {
            self.0.count()
        }
    }
    let mut story = Story::new();
    story.begin(0, "SHELL", "a shell", Some("xterm 40x6"));
    story.said(1, "terminal", b"one", 0);
    story.said(2, "terminal", b"torn", 0);
    story.said(3, "terminal", b"two", 0);
    let (take, memory) = story.take(1);
    let torn = Torn(memory);
    let heard: Vec<What> = Tape::new(&torn, &take).map(|moment| moment.what).collect();
    let said = |text: &str| What::Said { stream: Stream::Terminal, bytes: text.into() };
    assert_eq!(heard, [said("one"), What::Lost("torn".into()), said("two")]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_letters_alone_and_a_kept_screen_goes_on_the_same(
        pieces in prop::collection::vec(prop::collection::vec(prop_oneof![
            any::<u8>(), Just(0x1b), Just(b'['), Just(b';'), b'0'..=b'9', b'@'..=b'~', Just(b'\n')], 0..60), 1..12),
        sizes in prop::collection::vec((0u32..600, 0u32..300), 1..4), cut in 0usize..12,
    ) {
        let mut screen = Emulator::new(sizes[0].0, sizes[0].1).unwrap();
        let mut other: Option<Emulator> = None;
        let mut sieve = Sieve::default();
        for (n, piece) in pieces.iter().enumerate() {
            if n == cut {
                other = Some(Emulator::of(&screen.kept()).unwrap());
            }
            screen.feed(piece);
            if let Some(other) = &mut other {
                other.feed(piece);
                prop_assert_eq!((other.text(), other.cursor()), (screen.text(), screen.cursor()));
            } else if let Some((columns, rows)) = sizes.get(n) {
                screen.resize(*columns, *rows);
            }
            let drawn = sieve.take(&String::from_utf8_lossy(piece));
            prop_assert!(!drawn.contains("\x1b]") && !drawn.contains("\x1bP") && !drawn.contains('\x07'));
        }
        prop_assert!(!screen.text().replace('\n', "").contains(crate::cli::screen::is_unsafe));
    }
}
