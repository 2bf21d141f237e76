//! The names that `/etc/hosts` has for an address: whoever connects by one of them has asked no name server. Never
//! resolves a name.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

/// Bytes of the file that are read.
const BYTES_MAX: u64 = 1024 * 1024;

/// In the order of the file (hosts(5)); none where it cannot be read.
pub(super) fn of(path: &Path, address: IpAddr) -> Vec<String> {
    let mut text = String::new();
    let Ok(file) = File::open(path) else { return Vec::new() };
    if file.take(BYTES_MAX).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    let mut names = Vec::new();
    for line in text.lines() {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let mut words = line.split_ascii_whitespace();
        let is_it =
            words.next().and_then(|word| word.parse::<IpAddr>().ok()).is_some_and(|ip| ip.to_canonical() == address);
        if is_it {
            names.extend(words.map(str::to_ascii_lowercase));
        }
    }
    names
}
