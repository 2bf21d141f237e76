//! Files of known hosts that a command line of OpenSSH's client names (`ssh_config(5)`). Never reads its configuration files.

/// Options of `ssh` that have a value (ssh(1)).
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOoPpQRSWw";

/// Files of one option.
const FILES_MAX: usize = 16;

/// What a command line says of known hosts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Named {
    /// In place of those in the user's home.
    pub user: Option<Vec<String>>,
    /// In place of the host's.
    pub global: Option<Vec<String>>,
    /// The name that the host is looked up by, whatever it is connected to by.
    pub alias: Option<String>,
}

/// Reads the words of a command; those of another program than `ssh` say nothing.
#[must_use]
pub fn named<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Named {
    let mut named = Named::default();
    let mut words = words.into_iter();
    let is_ssh = words.next().is_some_and(|name| name == b"ssh" || name.ends_with(b"/ssh"));
    let mut has_host = false;
    while let (true, Some(word)) = (is_ssh, words.next()) {
        let Some(flags) = word.strip_prefix(b"-").filter(|flags| !flags.is_empty() && *flags != b"-") else {
            // The second word without a dash begins the command for the other side.
            if has_host {
                break;
            }
            has_host = word != b"--";
            continue;
        };
        let Some(at) = flags.iter().position(|flag| WITH_VALUE.contains(flag)) else { continue };
        let value = flags.get(at + 1..).filter(|value| !value.is_empty()).or_else(|| words.next());
        if let (Some(b'o'), Some(value)) = (flags.get(at), value) {
            named.take(&String::from_utf8_lossy(value));
        }
    }
    named
}

impl Named {
    /// `KEY=VALUE` or `KEY VALUE`; the first of a key counts.
    fn take(&mut self, option: &str) {
        let option = option.trim_start();
        let end = option.find(|letter: char| letter == '=' || letter.is_ascii_whitespace()).unwrap_or(option.len());
        let (key, value) = option.split_at_checked(end).unwrap_or_default();
        let value = value.trim_start_matches(|letter: char| letter == '=' || letter.is_ascii_whitespace()).trim_end();
        let files = || {
            let files = value.split_ascii_whitespace().map(|file| file.trim_matches('"').to_owned()).take(FILES_MAX);
            Some(if value.eq_ignore_ascii_case("none") { Vec::new() } else { files.collect() })
        };
        match key.to_ascii_lowercase().as_str() {
            "userknownhostsfile" if self.user.is_none() => self.user = files(),
            "globalknownhostsfile" if self.global.is_none() => self.global = files(),
            "hostkeyalias" if self.alias.is_none() && !value.is_empty() => self.alias = Some(value.to_owned()),
            _ => {}
        }
    }
}

/// A path as such an option writes it: with `~` and `%d` for the home directory. None where it has tokens that the command
/// line alone does not tell.
#[must_use]
pub fn expand(file: &str, home: &str) -> Option<String> {
    let file = match file.strip_prefix("~/") {
        Some(rest) => format!("{home}/{rest}"),
        None if file.starts_with('~') => return None,
        None => file.to_owned(),
    };
    let mut expanded = String::with_capacity(file.len());
    let mut parts = file.split('%');
    expanded.push_str(parts.next()?);
    let mut is_literal = false;
    for part in parts {
        if is_literal {
            is_literal = false;
            expanded.push_str(part);
        } else if part.is_empty() {
            is_literal = true;
            expanded.push('%');
        } else {
            expanded.push_str(home);
            expanded.push_str(part.strip_prefix('d')?);
        }
    }
    Some(expanded)
}
