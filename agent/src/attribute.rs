//! From what the kernel side says of a connection to the words of the record.
//!
//! Never adds anything: who stands behind the process is the run's identity.

use std::net::{IpAddr, SocketAddr};

use crewtap_core::origin::Origin;

use crate::capture::kernel::{self, Family};

/// The origin as it goes on record; an IPv4-mapped destination keeps its spelling.
#[must_use]
pub fn origin(raw: &kernel::Origin) -> Origin {
    let destination = match (raw.family, raw.destination.ip()) {
        (Family::Mapped, IpAddr::V4(v4)) => SocketAddr::new(v4.to_ipv6_mapped().into(), raw.destination.port()),
        _ => raw.destination,
    };
    Origin {
        destination,
        bound: raw.source,
        cgroup: raw.run.0,
        pid: raw.tgid,
        tid: raw.tid,
        uid: raw.uid,
        gid: raw.gid,
        cookie: raw.cookie,
        mono_ns: raw.at_ns,
        program_ns: raw.program_ns,
        comm: raw.comm.clone(),
    }
}
