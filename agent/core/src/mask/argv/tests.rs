//! Command lines as people type them.

use proptest::prelude::*;

use super::{ahead, redact, text};

mod plain;

/// Redacts `words` and returns them with the digest `D` and lengths for reading.
fn shown(words: &[&str]) -> Vec<String> {
    let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    redact(&argv, &|_| "D".into()).argv
}

#[test]
fn credentials_are_replaced_where_programs_take_them() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["tool", "--password", "hunter2", "x"], &["tool", "--password", "[redacted:option:7:D]", "x"]),
        (&["tool", "--password=hunter2"], &["tool", "--password=[redacted:assignment:7:D]"]),
        (&["tool", "--openai-api-key", "abc"], &["tool", "--openai-api-key", "[redacted:option:3:D]"]),
        (&["tool", "--token=a b&c;d"], &["tool", "--token=[redacted:assignment:7:D]"]),
        (&["env", "PGPASSWORD=my pass", "psql"], &["env", "PGPASSWORD=[redacted:assignment:7:D]", "psql"]),
        (&["mysql", "-psecret", "-P3306"], &["mysql", "-p[redacted:option:6:D]", "-P3306"]),
        (
            &["sudo", "/usr/bin/mysqldump", "-uroot", "-psecret", "db"],
            &["sudo", "/usr/bin/mysqldump", "-uroot", "-p[redacted:option:6:D]", "db"],
        ),
        (&["sshpass", "-p", "x1", "ssh", "host"], &["sshpass", "-p", "[redacted:option:2:D]", "ssh", "host"]),
        (&["sshpass", "-px1", "ssh"], &["sshpass", "-p[redacted:option:2:D]", "ssh"]),
        (&["curl", "-u", "me:pw", "http://h/"], &["curl", "-u", "me:[redacted:option:2:D]", "http://h/"]),
        (&["curl", "-ume:pw"], &["curl", "-ume:[redacted:option:2:D]"]),
        (&["curl", "--user=me:pw"], &["curl", "--user=me:[redacted:option:2:D]"]),
        (
            &["curl", "-H", "Authorization: Bearer abc"],
            &["curl", "-H", "Authorization: Bearer [redacted:authorization:3:D]"],
        ),
        (&["curl", "-HX-Api-Key:abc"], &["curl", "-HX-Api-Key:[redacted:x-api-key:3:D]"]),
        (&["wget", "--header=Cookie: a=b"], &["wget", "--header=Cookie: [redacted:cookie:3:D]"]),
        (&["psql", "postgres://u:p%40w@h:5432/db"], &["psql", "postgres://u:[redacted:url-password:5:D]@h:5432/db"]),
        (&["psql", "postgres://u:p/w@h/db"], &["psql", "postgres://u:[redacted:url-password:3:D]@h/db"]),
        (&["psql", "host=h password=secret dbname=d"], &["psql", "host=h password=[redacted:assignment:6:D] dbname=d"]),
        (
            &["psql", "host=h password = 'se cret' dbname=d"],
            &["psql", "host=h password = '[redacted:assignment:7:D]' dbname=d"],
        ),
        (&["psql", "password=secret dbname=d"], &["psql", "password=[redacted:assignment:6:D] dbname=d"]),
        (
            &["app", "Server=h;Uid=u;Pwd=x;Database=d"],
            &["app", "Server=h;Uid=u;Pwd=[redacted:assignment:1:D];Database=d"],
        ),
        (&["curl", "https://h/p?a=1&key=abc&b=2"], &["curl", "https://h/p?a=1&key=[redacted:query:3:D]&b=2"]),
        (
            &["curl", "-d", r#"{"api_key": "abc", "n": 1}"#],
            &["curl", "-d", r#"{"api_key": "[redacted:member:3:D]", "n": 1}"#],
        ),
        (&["echo", "ghp_0123456789abcdefghijABCDEFGHIJ012345"], &["echo", "[redacted:token:40:D]"]),
        (
            &["git", "clone", "https://x:ghp_0123456789abcdefghij@github.com/a/b"],
            &["git", "clone", "https://x:[redacted:url-password:24:D]@github.com/a/b"],
        ),
        (&["echo", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"], &["echo", "[redacted:jwt:41:D]"]),
        (
            &["sh", "-c", "PGPASSWORD=x psql -h h; mysql -pabc db | curl -u 'a:b' http://h"],
            &[
                "sh",
                "-c",
                "PGPASSWORD=[redacted:assignment:1:D] psql -h h; mysql -p[redacted:option:3:D] db | curl -u 'a:[redacted:option:1:D]' http://h",
            ],
        ),
        (&["docker", "login", "-p", "x", "reg"], &["docker", "login", "-p", "[redacted:option:1:D]", "reg"]),
        (&["redis-cli", "-a", "x", "ping"], &["redis-cli", "-a", "[redacted:option:1:D]", "ping"]),
        (&["ssh", "host", "mysql -pabc db"], &["ssh", "host", "mysql -p[redacted:option:3:D] db"]),
        (&["sh", "-c", "ssh host 'mysql -pabc db'"], &["sh", "-c", "ssh host 'mysql -p[redacted:option:3:D] db'"]),
        (&["sh", "-c", "x --password 'a b' c"], &["sh", "-c", "x --password '[redacted:option:3:D]' c"]),
    ];
    for (words, expected) in cases {
        assert_eq!(shown(words), *expected, "{words:?}");
    }
}

#[test]
fn what_is_no_credential_stays_byte_for_byte() {
    for words in [
        &["docker", "run", "-p", "8080:80", "nginx"][..],
        &["psql", "-p5432", "-h", "db", "-U", "me"],
        &["python3", "-m", "http.server", "--bind", "::1", "8000"],
        &["env", "PWD=/home/x", "OLDPWD=/", "PATH=/bin"],
        &["ls", "--no-password", "x"],
        &["mkdir", "-p", "a/b"],
        &["mysql", "-p", "db"],
        &["curl", "http://h:8080/a@b", "-o", "x"],
        &["tool", "--max-tokens", "100", "--task-aaaaaaaaaaaaaaaaaaaaaaaa"],
        &["grep", "password", "file"],
        &["crewai", "run"],
        &["", "-", "--", "=", ":", "://", "?key", "é=ü"],
    ] {
        assert_eq!(shown(words), *words);
    }
}

#[test]
fn counts_and_digests_are_told() {
    let argv = ["curl", "-u", "a:b", "https://u:p@h/?token=t"].map(String::from);
    let redacted = redact(&argv, &|value| format!("<{}>", value.len()));
    assert_eq!(redacted.count, 3);
    assert_eq!(redacted.values, ["option 1 <1>", "url-password 1 <1>", "query 1 <1>"]);
}

/// What a captured program could put into its command line to hold the agent.
const HOSTILE: &[&str] = &[
    "://",
    "://a",
    "://a:",
    "a://b:c@",
    "://:x/",
    "?key=",
    "?key=&",
    "password=",
    "PASSWORD=",
    "password='",
    "password=\"",
    "password=\\\"",
    "token=\"\\\"",
    "\"token\":",
    "\"token\": ",
    "token = ",
    "=",
    ":",
    "\"",
    "\\",
    "\\\"",
    "sk-",
    "ghp_",
    "eyJ",
    "eyJ.",
    "eyJ-",
    ".eyJ",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "sh -c ",
    "sh -c '",
    "sh\" \"-c\" \"",
    "-pX ",
    "--password ",
    "Authorization:",
    " ",
    "&",
    "é",
    "@",
    "a@b:",
];

#[test]
fn no_repetition_costs_more_than_reading_the_text_a_few_times() {
    /// The look-aheads of one reading: one for each issuer's prefix, and a handful of others.
    const READINGS: usize = text::SHAPES.len() + 16;
    for piece in HOSTILE {
        for tail in ["", "@", "x", "\"", "'", " "] {
            let words = piece.repeat(4000) + tail;
            ahead::READ.set(0);
            text::spans(&words, true);
            let read = ahead::READ.get();
            assert!(read <= READINGS * words.len(), "{piece:?} {tail:?}: {read} bytes for {}", words.len());
        }
    }
}

/// Four times what is kept of a command line: tens of seconds each where anything is quadratic, whoever searches.
#[test]
fn command_lines_far_beyond_what_is_kept_are_read_at_once() {
    for piece in HOSTILE {
        let long = piece.repeat(128 * 1024 / piece.len());
        let scripted = ["x".to_owned(), "sh".to_owned(), "-c".to_owned(), long.clone()];
        let many: Vec<String> = long.split_inclusive(' ').take(8000).map(str::to_owned).collect();
        for argv in [&scripted[..], &[long][..], &many[..]] {
            assert_eq!(redact(argv, &|_| "D".into()).argv.len(), argv.len());
        }
    }
}

/// A script in a script in a script …, each level with its own quotation marks around what is left of it.
#[test]
fn scripts_nested_deeper_than_people_nest_them_end() {
    let mut script = String::from("mysql -pabc");
    for level in 0..2000 {
        let mark = if level % 2 == 0 { '"' } else { '\'' };
        script = format!("{mark}{mark}sh -c {mark}{script}{mark}");
    }
    let argv = ["sh".to_owned(), "-c".to_owned(), script];
    assert_eq!(redact(&argv, &|_| "D".into()).argv.len(), 3);
    // What people write is still read.
    assert_eq!(
        shown(&["sh", "-c", "bash -c 'mysql -pabc x'; sh -c \"mysql -pd\""])[2],
        "bash -c 'mysql -p[redacted:option:3:D] x'; sh -c \"mysql -p[redacted:option:1:D]\""
    );
}

proptest! {
    #[test]
    fn looking_ahead_finds_what_searching_anew_finds(pieces in proptest::collection::vec(proptest::sample::select(HOSTILE), 0..24), text in r#"[-a-z:=/@?&'".\\ ]{0,12}"#, whole: bool) {
        let mixed = pieces.concat() + &text + &pieces.concat();
        prop_assert_eq!(text::searched(&mixed, whole), plain::spans(&mixed, whole), "{}", mixed);
    }

    #[test]
    fn any_arguments_are_redacted_without_a_panic(argv in proptest::collection::vec(r#"[-a-zA-Z0-9:=/@?&'"\\ ;é$({]{0,24}|--password|password=|-p|sh|-c|curl"#, 0..8)) {
        let redacted = redact(&argv, &|_| "D".into());
        prop_assert_eq!(redacted.argv.len(), argv.len());
        prop_assert_eq!(redacted.count, redacted.values.len() as u64);
    }

    #[test]
    fn a_password_behind_its_option_never_shows(secret in "[a-zA-Z0-9]{12,40}") {
        for words in [vec!["x", "--password", &secret], vec!["sshpass", "-p", &secret], vec!["sh", "-c", &format!("mysql -p{secret}")],
                      vec!["x", &format!("postgresql://u:{secret}@h/d?sslmode=require")], vec!["x", &format!("API_TOKEN={secret}")]] {
            prop_assert!(!shown(&words).join(" ").contains(&secret), "{:?}", words);
        }
    }
}
