//! What a host's key is worth by several files of known hosts, as OpenSSH judges it. Never reads a line's text.

use super::{KnownHosts, Line, Marker, PORT, algorithm_of, written};

/// What a host has shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'k> {
    /// Its public key as it goes over the wire; of a certificate, the key that it certifies.
    pub key: &'k [u8],
    /// The key that has signed its certificate. Only where that certificate is valid for the host.
    pub authority: Option<&'k [u8]>,
}

/// Where something stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct At {
    /// Which of the files, from 0, as they were given.
    pub file: usize,
    /// The line, from 1.
    pub line: usize,
}

/// What that is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The host is known by this key.
    Known(At),
    /// The host has a certificate of an authority that is known for it.
    Authority(At),
    /// The key, or that of its authority, is revoked for the host.
    Revoked(At),
    /// The host is known by another key of this algorithm; all of them, in the order of the files.
    Changed(Vec<At>),
    /// The host is known by keys of other algorithms only: OpenSSH asks its user then, others refuse.
    OtherAlgorithm(Vec<At>),
    /// Nothing is known of the host.
    Unknown,
}

/// Judges what `host` has shown on a port by all of `files`, as if they were one.
#[must_use]
pub fn judge(files: &[&KnownHosts], host: &str, port: u16, shown: Shown<'_>) -> Verdict {
    About::collect(files, host, port).verdict(shown)
}

/// What keys a host is known by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// Algorithms of its keys, in the order of the files.
    pub algorithms: Vec<String>,
    /// Certificates of an authority are taken.
    pub by_authority: bool,
}

/// The keys that a host is known by, so that it can be asked for one of them; by the same lines as [`judge`].
#[must_use]
pub fn known(files: &[&KnownHosts], host: &str, port: u16) -> Known {
    let about = About::collect(files, host, port);
    let mut known = Known::default();
    for found in about.strict.iter().chain(&about.without_port) {
        match found.line.marker {
            Marker::None if known.algorithms.contains(&found.line.algorithm) => {}
            Marker::None => known.algorithms.push(found.line.algorithm.clone()),
            Marker::Authority => known.by_authority = true,
            Marker::Revoked => {}
        }
    }
    known
}

#[derive(Clone, Copy)]
struct Found<'f> {
    file: usize,
    line: &'f Line,
}

impl Found<'_> {
    const fn at(&self) -> At {
        At { file: self.file, line: self.line.number }
    }
}

/// The lines about one host.
struct About<'f> {
    strict: Vec<Found<'f>>,
    /// Of another port than 22, what is said of the name alone: it can vouch, but nothing has changed by it.
    without_port: Vec<Found<'f>>,
}

impl<'f> About<'f> {
    fn collect(files: &[&'f KnownHosts], host: &str, port: u16) -> Self {
        let of = |name: &str| {
            let lines = files.iter().enumerate();
            let lines = lines.flat_map(|(file, known)| known.lines().iter().map(move |line| Found { file, line }));
            lines.filter(|found| found.line.is_about(name)).collect::<Vec<_>>()
        };
        let strict = of(&written(host, port));
        let without_port = if port == PORT { Vec::new() } else { of(&written(host, PORT)) };
        Self { strict, without_port }
    }

    fn verdict(&self, shown: Shown<'_>) -> Verdict {
        let all = || self.strict.iter().chain(&self.without_port);
        let is_authority = |line: &Line| Some(line.key.as_slice()) == shown.authority;
        let is_revoked = |line: &Line| line.marker == Marker::Revoked && (line.key == shown.key || is_authority(line));
        if let Some(found) = all().find(|found| is_revoked(found.line)) {
            return Verdict::Revoked(found.at());
        }
        for found in all() {
            match found.line.marker {
                Marker::None if found.line.key == shown.key => return Verdict::Known(found.at()),
                Marker::Authority if is_authority(found.line) => return Verdict::Authority(found.at()),
                _ => {}
            }
        }
        let algorithm = algorithm_of(shown.key).unwrap_or_default();
        let plain = self.strict.iter().filter(|found| found.line.marker == Marker::None);
        let (same, others): (Vec<_>, Vec<_>) = plain.partition(|found| found.line.algorithm == algorithm);
        let places = |lines: Vec<&Found<'_>>| lines.into_iter().map(Found::at).collect();
        match (same.is_empty(), others.is_empty()) {
            (false, _) => Verdict::Changed(places(same)),
            (true, false) => Verdict::OtherAlgorithm(places(others)),
            (true, true) => Verdict::Unknown,
        }
    }
}
