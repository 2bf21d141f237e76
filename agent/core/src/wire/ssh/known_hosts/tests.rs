use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

/// Made by ssh-keygen; `found` is what `ssh-keygen -F HOST -f FILE` found in them.
fn corpus(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/known_hosts");
    std::fs::read(folder.join(name)).unwrap()
}

fn text(name: &str) -> String {
    String::from_utf8(corpus(name)).unwrap()
}

fn key(name: &str) -> Vec<u8> {
    STANDARD.decode(text(&format!("key-{name}.pub")).split_whitespace().nth(1).unwrap()).unwrap()
}

fn plain(key: &[u8]) -> Shown<'_> {
    Shown { key, authority: None }
}

const fn at(file: usize, line: usize) -> At {
    At { file, line }
}

#[test]
fn hosts_are_found_where_openssh_finds_them() {
    let found = text("found");
    assert!(found.lines().count() >= 30);
    for line in found.lines() {
        let mut words = line.split_whitespace();
        let (file, host) = (words.next().unwrap(), words.next().unwrap());
        let expected: Vec<usize> = words.map(|number| number.parse().unwrap()).collect();
        let file = KnownHosts::parse(&corpus(file));
        let about: Vec<usize> =
            file.lines().iter().filter(|line| line.is_about(host)).map(|line| line.number).collect();
        assert_eq!(about, expected, "{line}");
    }
}

#[test]
fn lines_that_cannot_be_read_are_counted_and_the_others_hold() {
    let file = KnownHosts::parse(&corpus("plain"));
    // A marker that nobody knows, a key of SSH 1, one that is cut, one that says it is another.
    assert_eq!((file.skipped(), file.lines().len()), (4, 10));
    let long = format!("{} {}", "a".repeat(KNOWN_HOSTS_LINE_BYTES_MAX), text("key-a.pub"));
    assert_eq!(KnownHosts::parse(long.as_bytes()).skipped(), 1);
    assert_eq!(KnownHosts::parse(b"\n \t\r\n# x y z\n"), KnownHosts::default());
    assert_eq!(KnownHosts::parse(&[0xff, b' ', b'x']).skipped(), 1);
}

#[test]
fn a_key_is_known_changed_or_of_another_algorithm() {
    let (first, second) = (KnownHosts::parse(&corpus("plain")), KnownHosts::parse(&corpus("hashed")));
    let files = [&first, &second];
    let (a, b, r) = (key("a"), key("b"), key("r"));
    let of = |host, port, key: &[u8]| judge(&files, host, port, plain(key));
    assert_eq!(of("ALPHA.test", 22, &a), Verdict::Known(at(0, 3)));
    assert_eq!(of("alpha.test", 22, &r), Verdict::Known(at(0, 4)));
    assert_eq!(of("alpha.test", 22, &b), Verdict::Changed(vec![at(0, 3), at(1, 1)]));
    assert_eq!(of("192.0.2.1", 22, &r), Verdict::Known(at(1, 3)), "the second file knows what the first does not");
    assert_eq!(of("beta.test", 2222, &b), Verdict::Known(at(0, 5)));
    assert_eq!(of("beta.test", 2222, &r), Verdict::OtherAlgorithm(vec![at(0, 5), at(1, 2)]));
    assert_eq!(of("beta.test", 22, &b), Verdict::Unknown, "another port is another host");
    assert_eq!(of("no.wild.test", 22, &a), Verdict::Unknown);
    // As OpenSSH: the name without its port can vouch for what listens elsewhere, but nothing has changed by it.
    assert_eq!(of("alpha.test", 2222, &a), Verdict::Known(at(0, 3)));
    assert_eq!(of("alpha.test", 2222, &b), Verdict::Unknown);
    let known = known(&files, "alpha.test", 22);
    assert_eq!((known.algorithms, known.by_authority), (vec!["ssh-ed25519".to_owned(), "ssh-rsa".into()], false));
}

#[test]
fn a_revoked_key_is_refused_whatever_else_is_said_of_it() {
    let file = KnownHosts::parse(&corpus("plain"));
    let (e, a, ca) = (key("e"), key("a"), key("ca"));
    assert_eq!(judge(&[&file], "gamma.test", 22, plain(&e)), Verdict::Revoked(at(0, 10)));
    assert_eq!(judge(&[&file], "gamma.test", 2022, plain(&e)), Verdict::Revoked(at(0, 10)), "whatever the port");
    let of = |authority| judge(&[&file], "x.ca.test", 22, Shown { key: &a, authority });
    assert_eq!(of(Some(&ca)), Verdict::Authority(at(0, 11)));
    assert_eq!(of(Some(&e)), Verdict::Revoked(at(0, 10)), "a revoked authority");
    assert_eq!(of(None), Verdict::Unknown);
    assert_eq!(judge(&[&file], "x.ca.test", 22, plain(&ca)), Verdict::Unknown, "an authority's key is no host's");
    let elsewhere = judge(&[&file], "alpha.test", 22, Shown { key: &e, authority: Some(&ca) });
    assert_eq!(elsewhere, Verdict::Revoked(at(0, 10)));
    assert!(known(&[&file], "x.ca.test", 22).by_authority);
}

#[test]
fn captured_programs_see_the_same_hosts_with_other_keys() {
    let ours = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVub3VnaEJ5dGVzRm9yQUtleU9mRWQyNTUxOQ".to_owned()];
    let ours_full = [text("key-b.pub").trim().to_owned(), text("key-r.pub").trim().to_owned()];
    for (name, original) in [("plain", corpus("plain")), ("hashed", corpus("hashed"))] {
        let shown = KnownHosts::parse(&rewrite(&original, &ours_full, false));
        assert!(shown.lines().iter().all(|line| line.marker == Marker::None), "{name}");
        for host in ["alpha.test", "192.0.2.1", "a.wild.test", "no.wild.test"] {
            let before = known(&[&KnownHosts::parse(&original)], host, 22);
            let (b, r) = (key("b"), key("r"));
            for key in [&b, &r] {
                let is_known = matches!(judge(&[&shown], host, 22, plain(key)), Verdict::Known(_));
                assert_eq!(is_known, !before.algorithms.is_empty(), "{name} {host}");
            }
        }
    }
    let global = String::from_utf8(rewrite(&corpus("plain"), &ours, true)).unwrap();
    assert!(global.contains("@revoked *") && global.contains("# plain names") && !global.contains("@cert-authority"));
    assert!(global.contains(&format!("*.ca.test,[*.ca.test]:* {}", ours[0])), "{global}");
    assert_eq!(global.matches("alpha.test,192.0.2.1 ").count(), 1);
    assert!(global.contains("old.test 1024 65537 123456789\n"), "what is not understood stays");
}

#[test]
fn a_command_line_of_ssh_names_files() {
    let of = |line: &str| named(line.split('|').map(str::as_bytes));
    let found = of("/usr/bin/ssh|-4vo|userknownhostsfile=/a ~/b|-oGlobalKnownHostsFile none|-o|HostKeyAlias = x|h");
    assert_eq!(found.user, Some(vec!["/a".into(), "~/b".into()]));
    assert_eq!((found.global, found.alias.as_deref()), (Some(Vec::new()), Some("x")));
    assert_eq!(of("ssh|-p|2222|u@h|-oUserKnownHostsFile=/x|ls|-oHostKeyAlias=y").user, Some(vec!["/x".into()]));
    assert_eq!(of("ssh|-p|-oHostKeyAlias=y|h"), Named::default(), "the value of another option");
    assert_eq!(of("ssh|-o|HostKeyAlias=x|-oHostKeyAlias=y|h").alias.as_deref(), Some("x"), "the first counts");
    assert_eq!(of("sshx|-oHostKeyAlias=y"), Named::default());
    assert_eq!(expand("~/a%%/%d/b", "/h").as_deref(), Some("/h/a%//h/b"));
    assert_eq!((expand("~u/a", "/h"), expand("/%h", "/h")), (None, None));
}

proptest! {
    /// No text makes it panic, and what was written by the rules is found again.
    #[test]
    fn any_text_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz_known_hosts(&bytes);
    }

    /// The same as trying all ways.
    #[test]
    fn patterns_match_as_a_slow_oracle_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        fn slow(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.split_first(), text.split_first()) {
                (None, None) => true,
                (Some((b'*', rest)), _) => (0..=text.len()).any(|skipped| slow(rest, &text[skipped..])),
                (Some((b'?', rest)), Some((_, others))) => slow(rest, others),
                (Some((wanted, rest)), Some((letter, others))) => wanted == letter && slow(rest, others),
                _ => false,
            }
        }
        prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
    }

    /// Whatever a file says, a key that it does not hold is never known by it.
    #[test]
    fn only_a_key_in_the_file_is_known(lines in proptest::collection::vec((0usize..5, 0usize..4, 0usize..3), 0..8), host in 0usize..4, shown in 0usize..4) {
        let keys = ["a", "b", "r", "e"].map(|name| text(&format!("key-{name}.pub")));
        let hosts = ["h.test", "*.test", "[h.test]:2222", "i.test,!h.test", "*"];
        let marker = ["", "@revoked ", "@cert-authority "];
        let line = |(host, key, mark): &(usize, usize, usize)| format!("{}{} {}", marker[*mark], hosts[*host], keys[*key]);
        let file = lines.iter().map(line).collect::<Vec<_>>().concat();
        let names = ["h.test", "i.test", "x.test", "other"];
        let name = ["a", "b", "r", "e"][shown];
        let known = KnownHosts::parse(file.as_bytes());
        let verdict = judge(&[&known], names[host], 22, plain(&key(name)));
        if let Verdict::Known(at) = verdict {
            prop_assert_eq!(&known.lines()[at.line - 1].key, &key(name));
            prop_assert!(!lines.iter().any(|(of, key, mark)| *mark == 1 && ["a", "b", "r", "e"][*key] == name && matches!((hosts[*of], names[host]), ("*", _))));
        }
    }
}
