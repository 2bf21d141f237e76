//! Options of well-known programs that carry credentials, where the option's name alone does not say so.
//!
//! Owns the table, one line per option, from the programs' manual pages. `-p` is a password in one program and a port
//! in the next, so nothing here holds for a program that is not named.

use super::Span;

/// Which part of an option's value is the credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// All of it.
    Whole,
    /// What follows the first of this character; nothing where there is none.
    After(char),
    /// All of it if it holds a `=` (otherwise it names a file).
    IfAssignment,
}

impl Shape {
    /// The credential in the value that begins at `at` of `word`.
    pub(super) fn span(self, word: &str, at: usize, scheme: &'static str) -> Option<Span> {
        let value = word.get(at..)?;
        let start = match self {
            Self::Whole => at,
            Self::After(mark) => at + value.find(mark)? + mark.len_utf8(),
            Self::IfAssignment => value.contains('=').then_some(at)?,
        };
        Some(Span { range: start..word.len(), scheme })
    }
}

/// One option.
pub(super) struct Rule {
    pub(super) flag: &'static str,
    /// The value may stand in the same word (`-pX`, `--user=X`).
    pub(super) attached: bool,
    /// The value may be the next word.
    pub(super) separate: bool,
    pub(super) shape: Shape,
    pub(super) scheme: &'static str,
}

const fn both(flag: &'static str, shape: Shape) -> Rule {
    Rule { flag, attached: true, separate: true, shape, scheme: "option" }
}

const fn attached(flag: &'static str) -> Rule {
    Rule { flag, attached: true, separate: false, shape: Shape::Whole, scheme: "option" }
}

const fn separate(flag: &'static str) -> Rule {
    Rule { flag, attached: false, separate: true, shape: Shape::Whole, scheme: "option" }
}

/// Programs by the beginning or the whole of their name, and their options.
const TABLE: &[(&[&str], &[Rule])] = &[
    (
        &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlshow",
            "mysqlcheck",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
        ],
        &[attached("-p")],
    ),
    (&["sshpass"], &[both("-p", Shape::Whole)]),
    (
        &["curl"],
        &[
            both("-u", Shape::After(':')),
            both("--user", Shape::After(':')),
            both("-U", Shape::After(':')),
            both("--proxy-user", Shape::After(':')),
            both("--oauth2-bearer", Shape::Whole),
            both("-b", Shape::IfAssignment),
            both("--cookie", Shape::IfAssignment),
            both("-E", Shape::After(':')),
            both("--cert", Shape::After(':')),
        ],
    ),
    (&["http", "https", "xh", "xhs"], &[both("-a", Shape::Whole), both("--auth", Shape::Whole)]),
    (&["lftp"], &[both("-u", Shape::After(','))]),
    (&["redis-cli", "valkey-cli"], &[both("-a", Shape::Whole)]),
    (&["mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"], &[both("-p", Shape::Whole)]),
    (
        &["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldappasswd", "ldapcompare"],
        &[both("-w", Shape::Whole), both("-s", Shape::IfAssignment)],
    ),
    (&["smbclient", "rpcclient", "smbget"], &[both("-U", Shape::After('%')), both("--user", Shape::After('%'))]),
    (&["sqlcmd", "bcp", "isql", "tsql"], &[both("-P", Shape::Whole)]),
    (&["7z", "7za", "7zz", "rar", "unrar"], &[attached("-p")]),
    (&["zip", "unzip"], &[both("-P", Shape::Whole)]),
    (&["cqlsh", "rabbitmqadmin", "twine", "ncftpput", "ncftpget", "az"], &[separate("-p")]),
];

/// Programs that take a password only behind `login`: elsewhere `-p` publishes a port.
const LOGINS: &[&str] = &["docker", "podman", "nerdctl", "helm", "buildah", "skopeo", "oc"];
const LOGIN_RULES: &[Rule] = &[both("-p", Shape::Whole)];

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox", "fish", "su", "runuser", "ssh"];

/// The program that `word` names, if it is one with rules.
pub(super) fn program(word: &str) -> Option<&'static str> {
    let name = word.rsplit('/').next().unwrap_or(word);
    let listed = TABLE.iter().flat_map(|(programs, _)| programs.iter());
    listed.chain(LOGINS).chain(SHELLS).find(|known| **known == name).copied()
}

/// The options of a program.
pub(super) fn rules(program: Option<&'static str>, login: bool) -> impl Iterator<Item = &'static Rule> {
    let logs_in = login && program.is_some_and(|program| LOGINS.contains(&program));
    let own = TABLE.iter().filter(move |(programs, _)| program.is_some_and(|program| programs.contains(&program)));
    own.flat_map(|(_, rules)| rules.iter()).chain(logs_in.then_some(LOGIN_RULES).into_iter().flatten())
}

/// Whether the word behind this option is a script for a shell: `-c`, also among others (`-lc`, `-ec`).
pub(super) fn takes_script(program: Option<&'static str>, word: &str) -> bool {
    program.is_some_and(|program| SHELLS.contains(&program) && program != "ssh")
        && (word == "--command"
            || word.strip_prefix('-').is_some_and(|flags| {
                flags.contains('c') && flags.len() <= 6 && flags.bytes().all(|flag| flag.is_ascii_alphabetic())
            }))
}
