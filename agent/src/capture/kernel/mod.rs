//! The kernel programs, loaded: runs are told to them, origins and events come from them.
//!
//! Everything is attached once, to a cgroup of this agent's own; each run is a child of it. Each load makes a new
//! parent and a new directory of pins ("generation"). What a dead agent left behind stays attached and refuses
//! connects as long as a process is left in it; [`Kernel::sweep`] removes it when it is empty. So there is no moment
//! in which a captured process could connect around an agent, neither at a crash nor at the next start.
//!
//! It never mounts over anything, and never decides by policy.

mod attach;
mod event;
mod foreign;
mod generation;
mod origin;
mod tracepoint;

pub use event::{BypassKind, Events, KernelEvent, Moment};
pub use generation::Stale;
pub use origin::{Family, Origin, Transport};

use super::{
    cgroup::{Cgroup, CgroupError, CgroupId},
    listen::ListenerPorts,
    netns::{Reach, to_words},
    sys::Table,
};
use crate::clock;
use attach::Loaded;
use crewtap_ebpf::{
    ABI_VERSION, Global, HAS_ROUTE4, HAS_ROUTE6, LocalAddress, MODE_ENFORCE, MODE_RECORD, Origin as RawOrigin,
    RunSettings,
};
pub use crewtap_ebpf::{ConnectionKey, Counters, DatagramKey};
use generation::Generation;
use std::{
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Origins that nobody accepted for so long belong to no connection any more, in nanoseconds.
const ORIGIN_LIFE_NS: u64 = 120_000_000_000;
/// A datagram is at the relay's socket as soon as it is sent; one that waited there for so long, in nanoseconds, was
/// given up by the client, which asks again.
const DATAGRAM_LIFE_NS: u64 = 5_000_000_000;
/// More keys than the map has entries, so that a walk which restarts still ends.
const ORIGIN_WALK: usize = 2 * 65_536;

/// Why the kernel side could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A cgroup could not be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The object could not be loaded.
    #[error("the kernel refused the eBPF programs (crewtap needs root and Linux 5.10 or newer): {0}")]
    Load(#[from] aya::EbpfError),
    /// A program could not be loaded or attached.
    #[error("the kernel refused the eBPF program {program}: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why, with the verifier's words where it has some.
        reason: String,
    },
    /// The object does not fit this agent.
    #[error("the eBPF object has no {0}; rebuild it with: cargo xtask ebpf")]
    Object(&'static str),
    /// The tracepoint is missing, or has lost a field.
    #[error("the kernel's tracepoint {name} cannot be used: {reason}")]
    Tracepoint {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// The agent is in a container's pid namespace: the kernel would speak of pids that it does not know.
    #[error("crewtap must run in the host's own pid namespace, not inside a container")]
    Namespaced,
    /// The kernel refused something else.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl KernelError {
    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// What happens to ways around the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass and are reported.
    Record,
    /// They are refused and reported.
    Enforce,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// A short name of the store, the same at each start: `[a-z0-9]`, 16 at most.
    pub store: String,
    /// Where bpffs is, or is to be mounted.
    pub bpffs: PathBuf,
    /// Watch every socket(2) of the machine for odd families (packet, vsock, …) in runs. Measured on Linux 6.18: each
    /// system call of every process on the machine takes about 50 ns longer (getppid: 190-250 to 230-310 ns), so it
    /// is on unless a host cannot spare that.
    pub watch_families: bool,
}

impl KernelOptions {
    /// The usual options for a store.
    #[must_use]
    pub fn new(store: &str) -> Self {
        Self { store: store.to_owned(), bpffs: PathBuf::from("/sys/fs/bpf"), watch_families: true }
    }
}

/// What holds for one run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Its mode.
    pub mode: Mode,
    /// The listeners in its network namespace.
    pub ports: ListenerPorts,
    /// Whether IPv4 leads anywhere from there.
    pub route4: bool,
    /// Whether IPv6 leads anywhere from there.
    pub route6: bool,
}

impl From<&RunOptions> for RunSettings {
    fn from(options: &RunOptions) -> Self {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        Self {
            netns_cookie: options.ports.netns_cookie,
            mode: match options.mode {
                Mode::Record => MODE_RECORD,
                Mode::Enforce => MODE_ENFORCE,
            },
            flags: flag(options.route4, HAS_ROUTE4) | flag(options.route6, HAS_ROUTE6),
            tcp4_port: options.ports.tcp4,
            dns4_port: options.ports.dns4,
            tcp6_ports: options.ports.tcp6,
            dns6_ports: options.ports.dns6,
            padding: 0,
        }
    }
}

impl RunOptions {
    /// Options for a run in a namespace with these listeners and this reach.
    #[must_use]
    pub fn new(mode: Mode, ports: ListenerPorts, reach: &Reach) -> Self {
        Self { mode, ports, route4: reach.route4, route6: reach.route6 }
    }
}

/// The loaded kernel side. Usable from several threads at once. Dropping it without [`Kernel::unload`] leaves programs
/// attached and pins in place, as a crash does: what is captured stays captured, and refused once the heartbeat is
/// stale.
pub struct Kernel {
    generation: Generation,
    parent: Cgroup,
    global: Table<u32, Global>,
    heartbeat: Table<u32, u64>,
    runs: Table<u64, RunSettings>,
    counters: Table<u64, Counters>,
    local_addresses: Table<LocalAddress, u8>,
    origins: Table<ConnectionKey, RawOrigin>,
    datagrams: Table<DatagramKey, RawOrigin>,
    programs_of: Table<u32, u64>,
    events: Mutex<Option<Events>>,
    /// Keeps what could not be pinned.
    programs: Mutex<Option<aya::Ebpf>>,
}

impl Kernel {
    /// Loads the programs, attaches them to a new parent cgroup and pins them. Mounts bpffs and tracefs at their usual
    /// places where they are missing. There must be one agent per store (the store's lock sees to it).
    ///
    /// # Errors
    /// When a cgroup cannot be made or the kernel refuses a program.
    pub fn load(options: &KernelOptions) -> Result<Self, KernelError> {
        let generation = Generation::create(options)?;
        let parent = generation.cgroup().clone();
        let loaded = Loaded::load(options.watch_families)?;
        let kernel = Self {
            global: loaded.table(attach::GLOBAL_MAP)?,
            heartbeat: loaded.table(attach::HEARTBEAT_MAP)?,
            runs: loaded.table("RUNS")?,
            counters: loaded.table("COUNTERS")?,
            local_addresses: loaded.table("LOCAL_ADDRESSES")?,
            origins: loaded.table("ORIGINS")?,
            datagrams: loaded.table("DATAGRAMS")?,
            programs_of: loaded.table("PROGRAMS")?,
            events: Mutex::new(None),
            programs: Mutex::new(None),
            parent,
            generation,
        };
        kernel.beat()?;
        kernel.adopt()?;
        loaded.pin_signs_of_life(kernel.generation.pins())?;
        let (events, ebpf) = loaded.attach(&kernel.parent, kernel.generation.pins(), options.watch_families)?;
        *kernel.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
        *kernel.programs.lock().unwrap_or_else(PoisonError::into_inner) = Some(ebpf);
        Ok(kernel)
    }

    /// Makes the calling process the agent whose end refuses all captured connects. After a fork the child calls it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn adopt(&self) -> Result<(), KernelError> {
        let global = Global {
            agent_tgid: std::process::id(),
            alive: 1,
            cgroup_level: self.parent.level() + 1,
            abi: ABI_VERSION,
        };
        self.global.set(&0, global).map_err(KernelError::io("write the agent's facts"))
    }

    /// Refuses all captured connects from now on. To be called before the listeners are closed: afterwards their ports
    /// are anybody's (law 3).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn retire(&self) -> Result<(), KernelError> {
        let global = Global { agent_tgid: 0, alive: 0, cgroup_level: self.parent.level() + 1, abi: ABI_VERSION };
        self.global.set(&0, global).map_err(KernelError::io("retire the agent"))
    }

    /// The cgroup below which runs are made.
    #[must_use]
    pub fn parent(&self) -> &Cgroup {
        &self.parent
    }

    /// Says that the agent works. To be called at least every second: after 5 s without, connects are refused.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn beat(&self) -> Result<(), KernelError> {
        self.heartbeat.set(&0, clock::mono_ns()).map_err(KernelError::io("write the heartbeat"))
    }

    /// Makes the cgroup `name` for a run and tells the programs about it. Processes may be put in afterwards.
    ///
    /// # Errors
    /// When the cgroup cannot be made or there are 1024 runs already.
    pub fn add_run(&self, name: &str, options: &RunOptions) -> Result<Cgroup, KernelError> {
        let cgroup = self.parent.create_child(name)?;
        let id = cgroup.id().0;
        let zero = super::sys::read_pod::<Counters>(&[0; size_of::<Counters>()]);
        let zero = zero.ok_or(KernelError::Object("counters"))?;
        self.counters.set(&id, zero).map_err(KernelError::io("make the run's counters"))?;
        self.update_run(cgroup.id(), options)?;
        Ok(cgroup)
    }

    /// Changes what holds for a run.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn update_run(&self, run: CgroupId, options: &RunOptions) -> Result<(), KernelError> {
        self.runs.set(&run.0, options.into()).map_err(KernelError::io("tell the kernel about the run"))
    }

    /// Takes a run out of the programs (from now on its processes make no sockets and no connects), removes its
    /// cgroup, and returns its last counters.
    ///
    /// # Errors
    /// When a process is left in its cgroup.
    pub fn remove_run(&self, run: &Cgroup) -> Result<Option<Counters>, KernelError> {
        let id = run.id().0;
        self.runs.remove(&id).map_err(KernelError::io("forget the run"))?;
        run.remove()?;
        self.set_local_addresses(run.id(), &[])?;
        self.counters.take(&id).map_err(KernelError::io("read the run's counters"))
    }

    /// What the kernel counted in a run; None: it knows no such run.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self, run: CgroupId) -> Result<Option<Counters>, KernelError> {
        self.counters.get(&run.0).map_err(KernelError::io("read the run's counters"))
    }

    /// Sets the addresses to which a run's sockets may be bound: those of its network namespace. Loopback and
    /// unbound are always allowed.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no room.
    pub fn set_local_addresses(&self, run: CgroupId, addresses: &[IpAddr]) -> Result<(), KernelError> {
        let wanted: Vec<LocalAddress> =
            addresses.iter().map(|address| LocalAddress { run: run.0, address: to_words(*address) }).collect();
        let refused = KernelError::io("write the run's local addresses");
        let write = || -> io::Result<()> {
            for old in self.local_addresses.keys(2 * 4096)? {
                if old.run == run.0 && !wanted.contains(&old) {
                    self.local_addresses.remove(&old)?;
                }
            }
            wanted.iter().try_for_each(|address| self.local_addresses.set(address, 1))
        };
        write().map_err(refused)
    }

    /// The origin of an accepted connection, which is gone from the kernel afterwards. None: it has none, and must be
    /// refused (law 2).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_origin(&self, key: &ConnectionKey) -> Result<Option<Origin>, KernelError> {
        let taken = self.origins.take(key).map_err(KernelError::io("look up the origin"))?;
        Ok(taken.as_ref().map(Origin::from))
    }

    /// The origin of a datagram at the DNS relay, which is gone from the kernel afterwards: whoever binds the port of a
    /// socket that is closed does not speak in its name. None: it has none, and must be dropped (law 2).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_udp_origin(&self, key: &DatagramKey) -> Result<Option<Origin>, KernelError> {
        let taken = self.datagrams.take(key).map_err(KernelError::io("look up the origin"))?;
        // What a datagram left that never arrived must not wait for a stranger's.
        let now = clock::mono_ns();
        let fresh = taken.filter(|origin| now.saturating_sub(origin.at_ns) <= DATAGRAM_LIFE_NS);
        Ok(fresh.as_ref().map(Origin::from))
    }

    /// When a process of a run began the program that it runs now, as [`Origin::program_ns`]; None: it has ended, is in
    /// no run, or found no room.
    #[must_use]
    pub fn program_of(&self, pid: u32) -> Option<u64> {
        self.programs_of.get(&pid).ok().flatten()
    }

    /// Removes origins that nobody accepted within 120 s and returns them, and removes what dead agents left behind
    /// and nobody is in any more. To be called about every 10 s.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&self) -> Result<Vec<Origin>, KernelError> {
        let now = clock::mono_ns();
        let mut removed = Vec::new();
        let refused = || KernelError::io("sweep the origins");
        for key in self.origins.keys(ORIGIN_WALK).map_err(refused())? {
            let origin = self.origins.get(&key).map_err(refused())?;
            if origin.is_some_and(|origin| now.saturating_sub(origin.at_ns) > ORIGIN_LIFE_NS)
                && let Some(old) = self.origins.take(&key).map_err(refused())?
            {
                removed.push(Origin::from(&old));
            }
        }
        self.generation.remove_empty_stale()?;
        Ok(removed)
    }

    /// What dead agents of this store left behind: their runs' cgroups, in which processes may be left.
    ///
    /// # Errors
    /// When the pins cannot be listed.
    pub fn stale(&self) -> Result<Vec<Stale>, KernelError> {
        self.generation.stale()
    }

    /// The events, for one reader: the second call returns None.
    #[must_use]
    pub fn events(&self) -> Option<Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Detaches everything and removes the pins and the parent cgroup.
    ///
    /// # Errors
    /// When a run's cgroup is left; everything stays attached then.
    pub fn unload(&self) -> Result<(), KernelError> {
        self.parent.remove()?;
        self.generation.remove_pins()
    }
}

#[cfg(test)]
mod tests;
