//! `crewtap help TOPIC`: guides with worked examples, beside the help of the verbs.
//!
//! Owns which topics there are. A verb of the same name has its options in `crewtap VERB --help`.

use std::ffi::OsString;
use std::io::{self, Write};

/// The topics and their texts.
const GUIDES: [(&str, &str); 5] = [
    ("approvals", include_str!("guides/approvals.md")),
    ("identity", include_str!("guides/identity.md")),
    ("masks", include_str!("guides/masks.md")),
    ("policy", include_str!("guides/policy.md")),
    ("targets", include_str!("guides/targets.md")),
];

/// The guide that a command line asks for: `crewtap help TOPIC`.
pub(super) fn asked(words: &[OsString]) -> Option<&'static str> {
    let words: Vec<&str> = words.iter().skip(1).filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["help", topic] => GUIDES.into_iter().find(|(name, _)| name == topic).map(|(_, text)| text),
        _ => None,
    }
}

/// Prints a guide.
///
/// # Errors
/// When it cannot be written.
pub(super) fn print(text: &str) -> io::Result<()> {
    // The fences are for who reads the file, and for the tests.
    let shown = text.lines().filter(|line| !line.starts_with("```"));
    let mut out = io::stdout().lock();
    shown.into_iter().try_for_each(|line| writeln!(out, "{line}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crewtap_core::mask::set::Masks;
    use crewtap_core::policy::catalog::Catalog;
    use crewtap_core::policy::rules::{Known, Rules};

    use super::*;
    use crate::config::Config;

    /// What stands between fences of a kind.
    fn blocks(text: &str, kind: &str) -> Vec<(usize, String)> {
        let mut blocks = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            match &mut open {
                Some(_) if line == "```" => blocks.extend(open.take()),
                Some((_, block)) => block.extend([line, "\n"]),
                None if line.strip_prefix("```") == Some(kind) => open = Some((number + 2, String::new())),
                None => {}
            }
        }
        assert!(open.is_none(), "a fence without an end");
        blocks
    }

    /// What is indented and begins as a policy does.
    fn indented(text: &str) -> Vec<(usize, String)> {
        let begins = |line: &str| {
            ["    @id", "    @approval", "    permit", "    forbid"].iter().any(|word| line.starts_with(word))
        };
        let lines: Vec<&str> = text.lines().collect();
        let starts =
            (0..lines.len()).filter(|at| begins(lines[*at]) && (*at == 0 || !lines[at - 1].starts_with("    ")));
        starts
            .map(|at| {
                let block = lines[at..].iter().take_while(|line| line.starts_with("    "));
                (at + 1, block.flat_map(|line| [*line, "\n"]).collect())
            })
            .collect()
    }

    #[test]
    fn every_target_in_a_guide_is_right() {
        let (_, targets) = GUIDES.into_iter().find(|(name, _)| *name == "targets").unwrap();
        let blocks = blocks(targets, "toml");
        assert!(!blocks.is_empty());
        for (line, block) in blocks {
            let parsed = Catalog::parse(&block, Path::new("/etc/crewtap"));
            assert!(parsed.is_ok_and(|catalog| !catalog.entries().is_empty()), "targets.md, from line {line}");
        }
    }

    #[test]
    fn every_provider_in_a_guide_and_in_the_sample_is_right() {
        let (_, identity) = GUIDES.into_iter().find(|(name, _)| *name == "identity").unwrap();
        let blocks = blocks(identity, "toml");
        assert!(blocks.len() >= 4);
        for (line, block) in blocks {
            let parsed = Config::parse(&block, Path::new("/etc/crewtap/crewtap.toml"));
            let config = parsed.unwrap_or_else(|error| panic!("identity.md, from line {line}: {error}"));
            assert_eq!(config.oidc.len(), 1);
        }
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crewtap.toml");
        let sample = std::fs::read_to_string(sample).unwrap();
        let begin = sample.find("# [oidc.corp]").unwrap();
        let lines = sample[begin..].lines().filter_map(|line| line.strip_prefix("# "));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_key = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(plain));
        let lines = lines.filter(|line| line.starts_with('[') || is_key(line));
        let keys: String = lines.flat_map(|line| [line, "\n"]).collect();
        let config = Config::parse(&keys, Path::new("/etc/crewtap/crewtap.toml"))
            .unwrap_or_else(|error| panic!("{error}\n{keys}"));
        let corp = &config.oidc[0];
        assert!(corp.workload.is_some() && corp.members.len() == 1 && corp.max_age.is_some());
    }

    #[test]
    fn every_mask_in_a_guide_is_right() {
        let (_, masks) = GUIDES.into_iter().find(|(name, _)| *name == "masks").unwrap();
        let blocks = blocks(masks, "toml");
        assert!(blocks.len() >= 4);
        for (line, block) in blocks {
            let parsed = Masks::parse(&block).unwrap_or_else(|fault| panic!("masks.md, from line {line}: {fault}"));
            assert_eq!(parsed.check_catalog(&Catalog::default()), Ok(()), "masks.md, from line {line}");
            assert_ne!(parsed, Masks::default());
        }
    }

    #[test]
    fn every_policy_in_a_guide_is_right() {
        for (name, text) in GUIDES {
            for (line, block) in blocks(text, "cedar").into_iter().chain(indented(text)) {
                let parsed = Rules::parse(&[(format!("{name}.md, from line {line}"), block)]);
                let rules = parsed.unwrap_or_else(|faults| panic!("{faults:#?}"));
                assert!(!rules.is_empty());
                assert_eq!(rules.warnings(&Known::default()), Vec::new());
            }
        }
        let (_, policy) = GUIDES.into_iter().find(|(name, _)| *name == "policy").unwrap();
        assert!(blocks(policy, "cedar").len() >= 7);
        assert!(GUIDES.iter().any(|(name, text)| *name == "approvals" && !indented(text).is_empty()));
    }

    #[test]
    fn guides_fit_a_terminal_and_are_found_by_their_names() {
        for (name, text) in GUIDES {
            assert!(text.lines().all(|line| line.chars().count() <= 128), "{name}");
            let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(asked(&words(&["crewtap", "help", name])), Some(text));
            assert_eq!(asked(&words(&["crewtap", name])), None);
            assert_eq!(asked(&words(&["crewtap", "help", name, "check"])), None);
        }
        assert_eq!(asked(&["crewtap", "help", "nothing"].map(OsString::from)), None);
    }
}
