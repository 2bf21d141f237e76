//! Files of roots that a command names itself, by a variable or a word of its command line.
//!
//! Only finds names; whether such a file exists and is one of roots is seen when it is laid.

use std::path::PathBuf;

use super::execution::Execution;

/// Variables that name a bundle.
const FILES: [&str; 16] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PGSSLROOTCERT",
    "NODE_EXTRA_CA_CERTS",
    "DENO_CERT",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
    "HTTPLIB2_CA_CERTS",
    "WEBSOCKET_CLIENT_CA_BUNDLE",
    "SSL_CA_FILE",
    "MYSQL_SSL_CA",
];

/// Variables that name directories, with colons between them.
const DIRECTORIES: [&str; 2] = ["SSL_CERT_DIR", "GIT_SSL_CAPATH"];

/// Options whose value is a bundle: curl, openssl, wget, mysql, redis-cli, grpcurl.
const FILE_OPTIONS: [&[u8]; 9] = [
    b"--cacert",
    b"--cafile",
    b"--ca-file",
    b"-CAfile",
    b"--ca-certificate",
    b"--ssl-ca",
    b"--cacertfile",
    b"--ca-bundle",
    b"--tlsCAFile",
];

/// Options whose value is a directory.
const DIRECTORY_OPTIONS: [&[u8]; 3] = [b"--capath", b"-CApath", b"--ca-directory"];

/// In connection strings of PostgreSQL, as words and as URL parameters.
const POSTGRES: &[u8] = b"sslrootcert=";

/// Files that one command may name.
const NAMED_MAX: usize = 32;

/// What a command names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Named {
    pub(super) files: Vec<PathBuf>,
    pub(super) directories: Vec<PathBuf>,
    /// Trust stores of Java.
    pub(super) keystores: Vec<PathBuf>,
}

/// Everything that is named.
pub(super) fn named(execution: &Execution) -> Named {
    let mut named = Named::default();
    for word in &execution.environment {
        let Some(equals) = word.iter().position(|byte| *byte == b'=') else { continue };
        let (Some(name), Some(value)) = (word.get(..equals), word.get(equals + 1..)) else { continue };
        if value.is_empty() {
            continue;
        }
        if FILES.iter().any(|known| known.as_bytes() == name) {
            named.files.push(execution.path(value));
        } else if DIRECTORIES.iter().any(|known| known.as_bytes() == name) {
            let parts = value.split(|byte| *byte == b':').filter(|part| !part.is_empty());
            named.directories.extend(parts.map(|part| execution.path(part)));
        } else if name == b"JAVA_HOME" {
            named.keystores.push(execution.path(value).join("lib/security/cacerts"));
        }
    }
    let mut words = execution.words.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let next = words.peek().map(|next| next.as_slice());
        if let Some(value) = value_of(word, next, &FILE_OPTIONS).or_else(|| postgres(word)) {
            named.files.push(execution.path(value));
        } else if let Some(value) = value_of(word, next, &DIRECTORY_OPTIONS) {
            named.directories.push(execution.path(value));
        }
    }
    named.files.truncate(NAMED_MAX);
    named.directories.truncate(NAMED_MAX);
    named
}

/// `--option value` and `--option=value`.
fn value_of<'a>(word: &'a [u8], next: Option<&'a [u8]>, options: &[&[u8]]) -> Option<&'a [u8]> {
    options.iter().find_map(|option| {
        let rest = word.strip_prefix(*option)?;
        if rest.is_empty() { next } else { rest.strip_prefix(b"=") }
    })
}

fn postgres(word: &[u8]) -> Option<&[u8]> {
    let at = word.windows(POSTGRES.len()).position(|window| window == POSTGRES)?;
    let value = word.get(at + POSTGRES.len()..)?;
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'&' | b'\''));
    value.get(..end.unwrap_or(value.len())).filter(|value| !value.is_empty() && *value != b"system")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(words: &[&str], environment: &[&str]) -> Execution {
        let bytes = |list: &[&str]| list.iter().map(|word| word.as_bytes().to_vec()).collect();
        let (words, environment) = (bytes(words), bytes(environment));
        Execution { directory: "/srv".into(), words, environment, ..Execution::default() }
    }

    #[test]
    fn variables_and_options_name_files() {
        let found = named(&execution(
            &["curl", "--cacert", "a.pem", "--capath=/d", "https://x"],
            &["SSL_CERT_FILE=/s.pem", "SSL_CERT_DIR=/d1::d2", "SSL_CERT_FILEX=/no", "PIP_CERT=", "JAVA_HOME=/j"],
        ));
        assert_eq!(found.files, [PathBuf::from("/s.pem"), "/srv/a.pem".into()]);
        assert_eq!(found.directories, [PathBuf::from("/d1"), "/srv/d2".into(), "/d".into()]);
        assert_eq!(found.keystores, [PathBuf::from("/j/lib/security/cacerts")]);
    }

    #[test]
    fn connection_strings_name_a_root() {
        let url = "postgresql://u@h/db?sslmode=verify-full&sslrootcert=/r.pem&x=1";
        assert_eq!(named(&execution(&["psql", url], &[])).files, [PathBuf::from("/r.pem")]);
        let words = ["psql", "host=h sslrootcert=r.pem dbname=x"];
        assert_eq!(named(&execution(&words, &[])).files, [PathBuf::from("/srv/r.pem")]);
        assert!(named(&execution(&["psql", "sslrootcert=system"], &[])).files.is_empty());
    }
}
