//! Loading the object and attaching its programs. The object is compiled in; it is rebuilt by `cargo xtask ebpf`.

use super::{
    KernelError,
    event::Events,
    tracepoint::{Format, mount_tracefs},
};
use crate::capture::{cgroup::Cgroup, sys::Table};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Map, MapData, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, ProgramError, SockOps,
        TracePoint,
        links::{FdLink, LinkError},
    },
};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::{fs::File, path::Path};

/// The kernel programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../agent-ebpf/crewtap.bpf.o");

/// The `sock_addr` programs.
const SOCK_ADDR: [&str; 8] = [
    "crewtap_connect4",
    "crewtap_connect6",
    "crewtap_getpeername4",
    "crewtap_getpeername6",
    "crewtap_sendmsg4",
    "crewtap_sendmsg6",
    "crewtap_recvmsg4",
    "crewtap_recvmsg6",
];

/// The agent's facts, and its last word: maps by name, and files among the pins.
pub(super) const GLOBAL_MAP: &str = "GLOBAL";
pub(super) const HEARTBEAT_MAP: &str = "HEARTBEAT";

/// The tracepoint programs: program, category, name.
const TRACEPOINTS: [(&str, &str, &str); 4] = [
    ("crewtap_exec", "sched", "sched_process_exec"),
    ("crewtap_fork", "sched", "sched_process_fork"),
    ("crewtap_exit", "sched", "sched_process_exit"),
    ("crewtap_attach", "cgroup", "cgroup_attach_task"),
];

/// The tracepoint before a process gives up its program, which old kernels do not have (6.10). Without it the facts of a
/// process are taken for proven also where they were read while the kernel was exchanging its program.
const PREPARE_TRACEPOINT: (&str, &str, &str) = ("crewtap_prepare_exec", "sched", "sched_prepare_exec");

/// The tracepoint of socket(2), which is not free: it is attached on demand.
const SOCKET_TRACEPOINT: (&str, &str, &str) = ("crewtap_socket", "syscalls", "sys_enter_socket");

/// How often a program is loaded that was interrupted. libbpf gives up after five.
const LOAD_ATTEMPTS_MAX: u32 = 32;

/// Linux 5.18: `bpf_set_retval`.
const SET_RETVAL_SINCE: (u32, u32) = (5, 18);

/// Linux 5.15: links of tracepoints, which can be pinned. Before, the tracepoints end with the agent, and after its
/// death only the stale heartbeat refuses connects.
const PERF_LINK_SINCE: (u32, u32) = (5, 15);

/// The object, loaded but not attached.
pub(super) struct Loaded {
    ebpf: Ebpf,
    exit_tells_last: bool,
}

impl Loaded {
    /// Creates the maps and sets the constants; the programs are loaded when they are attached.
    pub(super) fn load(watch_families: bool) -> Result<Self, KernelError> {
        mount_tracefs()?;
        let exec = Format::read("sched", "sched_process_exec")?;
        let fork = Format::read("sched", "sched_process_fork")?;
        let exit = Format::read("sched", "sched_process_exit")?;
        let moved = Format::read("cgroup", "cgroup_attach_task")?;
        let socket_family =
            if watch_families { Format::read("syscalls", "sys_enter_socket")?.offset("family")? } else { 0 };
        let group_dead = exit.find("group_dead").unwrap_or(0);
        let constants = [
            ("HAS_SET_RETVAL", u32::from(kernel_version()? >= SET_RETVAL_SINCE)),
            ("EXEC_FILENAME", exec.offset("filename")?),
            ("EXEC_OLD_PID", exec.offset("old_pid")?),
            ("FORK_CHILD_PID", fork.offset("child_pid")?),
            ("EXIT_GROUP_DEAD", group_dead),
            ("ATTACH_ROOT", moved.offset("dst_root")?),
            ("ATTACH_ID", moved.offset("dst_id")?),
            ("ATTACH_PID", moved.offset("pid")?),
            ("SOCKET_FAMILY", socket_family),
        ];
        let _undisturbed = Undisturbed::begin()?;
        let mut loader = EbpfLoader::new();
        for (name, value) in &constants {
            loader.override_global(name, value, true);
        }
        Ok(Self { ebpf: loader.load(OBJECT)?, exit_tells_last: group_dead != 0 })
    }

    /// Pins what tells whether this agent lives, for agents of other stores.
    pub(super) fn pin_signs_of_life(&self, pins: &Path) -> Result<(), KernelError> {
        for name in [GLOBAL_MAP, HEARTBEAT_MAP] {
            let Some(Map::Array(data)) = self.ebpf.map(name) else { return Err(KernelError::Object(name)) };
            data.pin(pins.join(name)).map_err(|error| KernelError::Io {
                action: "pin a map",
                source: std::io::Error::other(with_causes(&error)),
            })?;
        }
        Ok(())
    }

    /// A map, by name.
    pub(super) fn table<K: Pod, V: Pod>(&self, name: &'static str) -> Result<Table<K, V>, KernelError> {
        let Some(Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data)) = self.ebpf.map(name) else {
            return Err(KernelError::Object(name));
        };
        Table::new(data).map_err(KernelError::io("open a kernel map"))
    }

    /// Attaches everything: the cgroup programs to `cgroup`, and each link pinned in `pins`, so that it outlives us.
    /// What cannot be pinned lives as long as the object, which is returned.
    pub(super) fn attach(
        mut self,
        cgroup: &Cgroup,
        pins: &Path,
        watch_families: bool,
    ) -> Result<(Events, Ebpf), KernelError> {
        let _undisturbed = Undisturbed::begin()?;
        let directory = File::open(cgroup.path()).map_err(KernelError::io("open the cgroup"))?;
        // First what sees the agent die and tasks leave, then what redirects.
        for (program, category, name) in TRACEPOINTS {
            self.attach_tracepoint(program, category, name, pins)?;
        }
        let (program, category, name) = PREPARE_TRACEPOINT;
        if Format::read(category, name).is_ok() {
            self.attach_tracepoint(program, category, name, pins)?;
        }
        if watch_families {
            let (program, category, name) = SOCKET_TRACEPOINT;
            self.attach_tracepoint(program, category, name, pins)?;
        }
        // Links always allow others beside them; the kernel takes no flag that says so.
        let mode = CgroupAttachMode::Single;
        self.attach_one::<CgroupSkb>("crewtap_egress", pins, |program| {
            load(|| program.load())?;
            let id = program.attach(&directory, CgroupSkbAttachType::Egress, mode)?;
            to_fd_link(program.take_link(id)?)
        })?;
        self.attach_one::<SockOps>("crewtap_established", pins, |program| {
            load(|| program.load())?;
            let id = program.attach(&directory, mode)?;
            to_fd_link(program.take_link(id)?)
        })?;
        for name in SOCK_ADDR {
            self.attach_one::<CgroupSockAddr>(name, pins, |program| {
                load(|| program.load())?;
                let id = program.attach(&directory, mode)?;
                to_fd_link(program.take_link(id)?)
            })?;
        }
        self.attach_one::<CgroupSock>("crewtap_create", pins, |program| {
            load(|| program.load())?;
            let id = program.attach(&directory, mode)?;
            to_fd_link(program.take_link(id)?)
        })?;
        let ring: RingBuf<MapData> = match self.ebpf.take_map("EVENTS") {
            Some(map) => RingBuf::try_from(map).map_err(|_| KernelError::Object("EVENTS"))?,
            None => return Err(KernelError::Object("EVENTS")),
        };
        Ok((Events::new(ring, self.exit_tells_last), self.ebpf))
    }

    fn attach_tracepoint(
        &mut self,
        program: &'static str,
        category: &'static str,
        name: &'static str,
        pins: &Path,
    ) -> Result<(), KernelError> {
        let pinnable = kernel_version()? >= PERF_LINK_SINCE;
        self.attach_one::<TracePoint>(program, pins, |program| {
            load(|| program.load())?;
            let id = program.attach(category, name)?;
            if pinnable { to_fd_link(program.take_link(id)?) } else { Ok(None) }
        })
    }

    fn attach_one<P>(
        &mut self,
        name: &'static str,
        pins: &Path,
        attach: impl FnOnce(&mut P) -> Result<Option<FdLink>, ProgramError>,
    ) -> Result<(), KernelError>
    where
        for<'a> &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let failed = |source: ProgramError| KernelError::Program { program: name, reason: with_causes(&source) };
        let program = self.ebpf.program_mut(name).ok_or(KernelError::Object(name))?;
        let program: &mut P = program.try_into().map_err(failed)?;
        let Some(link) = attach(program).map_err(failed)? else { return Ok(()) };
        link.pin(pins.join(name)).map_err(|error| KernelError::Io {
            action: "pin a program",
            source: std::io::Error::other(with_causes(&error)),
        })?;
        Ok(())
    }
}

/// No signal is delivered to this thread while it lives: one that is pending interrupts the verifier, and makes the loader
/// take a kernel's feature for missing.
struct Undisturbed(SigSet);

impl Undisturbed {
    fn begin() -> Result<Self, KernelError> {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let failed = |errno: nix::Error| KernelError::Io { action: "block signals", source: errno.into() };
        before.map(Self).map_err(failed)
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Err(error) = self.0.thread_set_mask() {
            tracing::error!(%error, "signals stay blocked");
        }
    }
}

/// Loads a program, again when it was interrupted: the verifier gives up with EAGAIN when something is pending for its thread,
/// be it a signal or work that another thread has left with it.
fn load(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..LOAD_ATTEMPTS_MAX {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        std::thread::yield_now();
    }
    load()
}

/// An error and what caused it, in one line: aya keeps the kernel's answer in the causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn to_fd_link<L: TryInto<FdLink, Error = LinkError>>(link: L) -> Result<Option<FdLink>, ProgramError> {
    link.try_into().map(Some).map_err(|error| ProgramError::IOError(std::io::Error::other(error)))
}

/// The running kernel's version.
fn kernel_version() -> Result<(u32, u32), KernelError> {
    let names = nix::sys::utsname::uname();
    let names =
        names.map_err(|errno| KernelError::Io { action: "ask for the kernel's version", source: errno.into() })?;
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}
