//! A file of known hosts as captured programs are to see it: the same hosts, known by other keys. Never adds a host.

use std::collections::HashSet;

use super::line::{self, Parts};
use super::{Line, Marker};

/// `text` with every key that vouches for a host replaced by each of `keys` (`ALGORITHM BASE64`), also where an authority
/// vouches; hosts, order, comments and what cannot be read stay. `keeps_revoked`: lines of revoked keys stay; there are
/// clients that read no file in which one is. Without it, no marker is left.
#[must_use]
pub fn rewrite(text: &[u8], keys: &[String], keeps_revoked: bool) -> Vec<u8> {
    let mut rewritten = Vec::with_capacity(text.len() + text.len() / 2);
    let mut answered: HashSet<&str> = HashSet::new();
    for (at, text) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let bare = text.strip_suffix(b"\n").unwrap_or(text);
        let understood = Line::parse(at + 1, bare).and_then(|_| line::parts(bare));
        match understood {
            // What begins with a marker and is not understood would keep others from reading the file.
            None if bare.trim_ascii_start().starts_with(b"@") && !keeps_revoked => {}
            None | Some(Parts { marker: Marker::Revoked, .. }) if understood.is_none() || keeps_revoked => {
                rewritten.extend_from_slice(bare);
                rewritten.push(b'\n');
            }
            // The same host often has a line for each of its keys.
            Some(Parts { marker: Marker::None | Marker::Authority, hosts, .. }) if answered.insert(hosts) => {
                for key in keys {
                    rewritten.extend_from_slice(format!("{hosts} {key}\n").as_bytes());
                }
            }
            _ => {}
        }
    }
    rewritten
}
