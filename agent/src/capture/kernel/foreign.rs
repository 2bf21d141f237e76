//! What agents of other stores left behind: removed where it is proven that they are dead and that nobody is in it.
//!
//! The proof is threefold: a living agent holds the lock of its directory of pins; the map that its own end writes, or
//! its heartbeat, says that it is dead; and its cgroup can be removed, which the kernel allows only when it is empty.
//! Never touches what lacks one of them, such as what an agent of an earlier version left.

use super::attach::{GLOBAL_MAP, HEARTBEAT_MAP};
use super::generation::remove_pins;
use crate::capture::{
    cgroup::{Cgroup, mount_point},
    sys::Table,
};
use crate::clock;
use aya::maps::MapData;
use crewtap_ebpf::{Global, HEARTBEAT_STALE_NS};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// The lock of a directory in bpffs; it goes with the process.
pub(super) struct Held(#[allow(dead_code, reason = "closing it lets go")] File);

/// Waits for the turn of this process to make or remove generations.
pub(super) fn turn(all: &Path) -> io::Result<Held> {
    let directory = File::open(all)?;
    directory.lock()?;
    Ok(Held(directory))
}

/// Holds a generation's pins for a living agent; None: another process holds them.
pub(super) fn hold(pins: &Path) -> io::Result<Option<Held>> {
    let directory = File::open(pins)?;
    match directory.try_lock() {
        Ok(()) => Ok(Some(Held(directory))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes what dead agents of other stores than `own` left below `all`, the directory of every store's pins. To be called
/// in this process's [`turn`]. What cannot be looked at is left as it is.
pub(super) fn remove_dead(all: &Path, own: &Path) {
    let stores = directories(all).into_iter().filter(|store| store != own);
    for (store, pins) in stores.flat_map(|store| directories(&store).into_iter().map(move |pins| (store.clone(), pins)))
    {
        match remove_if_dead(&store, &pins) {
            Ok(true) => tracing::info!(pins = %pins.display(), "removed what a dead agent of another store had left"),
            Ok(false) => {}
            Err(error) => tracing::warn!(pins = %pins.display(), %error, "what another agent left was not removed"),
        }
        // With its last generation the store goes; others keep it.
        let _not_empty = fs::remove_dir(&store);
    }
}

fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_if_dead(store: &Path, pins: &Path) -> Result<bool, super::KernelError> {
    let refused = super::KernelError::io("look at what another agent left");
    // Held until the end: an agent of that store cannot take this directory for its own meanwhile.
    let Some(_held) = hold(pins).map_err(refused)? else { return Ok(false) };
    if !is_dead(pins) {
        return Ok(false);
    }
    let (Some(store), Some(number)) = (name(store), name(pins)) else { return Ok(false) };
    let path = mount_point()?.join(format!("crewtap-{store}.{number}"));
    if path.is_dir() && Cgroup::create_at_root(&format!("crewtap-{store}.{number}"))?.remove().is_err() {
        // A process is in it: the programs must stay and refuse.
        return Ok(false);
    }
    remove_pins(pins)?;
    Ok(true)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Whether the maps say that their agent is dead, or hung for so long that its programs refuse; false where they are missing.
fn is_dead(pins: &Path) -> bool {
    let ended = || read::<Global>(&pins.join(GLOBAL_MAP)).map(|global| global.alive != 1);
    let stale = || {
        let beat = read::<u64>(&pins.join(HEARTBEAT_MAP))?;
        Some(clock::mono_ns().saturating_sub(beat) > HEARTBEAT_STALE_NS)
    };
    ended().unwrap_or(false) || stale().unwrap_or(false)
}

fn read<T: aya::Pod>(pin: &Path) -> Option<T> {
    Table::<u32, T>::new(&MapData::from_pin(pin).ok()?).ok()?.get(&0).ok()?
}
