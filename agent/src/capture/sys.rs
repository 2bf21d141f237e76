//! The one file of this crate with `unsafe`: bpf(2) on maps, socket options that no library offers, and the reading of
//! ABI values from bytes, and signal dispositions (the standard library changes SIGPIPE before `main`, and `run` must hand
//! the command exactly what it was given). Everything it exports is safe to call; it never decides anything.
#![allow(unsafe_code)]

use aya::Pod;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::{
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// `SO_NETNS_COOKIE` (Linux 5.14).
const SO_NETNS_COOKIE: libc::c_int = 71;
/// `TCP_SAVE_SYN`.
const TCP_SAVE_SYN: libc::c_int = 27;
/// `TCP_SAVED_SYN`.
const TCP_SAVED_SYN: libc::c_int = 28;
/// Room for a SYN's headers: IPv6 with extension headers, and 60 bytes of TCP.
const SYN_LEN: usize = 256;

/// Commands of bpf(2) on map elements.
#[derive(Clone, Copy)]
enum Command {
    Lookup = 1,
    Update = 2,
    Delete = 3,
    NextKey = 4,
    LookupAndDelete = 21,
}

/// The part of `union bpf_attr` that these commands read.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    /// The value, or for `NextKey` the next key.
    value: u64,
    flags: u64,
}

/// A kernel map with keys `K` and values `V`, usable from several threads at once: the kernel does the locking.
pub(super) struct Table<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Takes a map whose key and value sizes are those of `K` and `V`, and nothing else.
    pub(super) fn new(map: &aya::maps::MapData) -> io::Result<Self> {
        let shape = map.info().map_err(io::Error::other)?;
        if shape.key_size() as usize != size_of::<K>() || shape.value_size() as usize != size_of::<V>() {
            return Err(io::Error::other("a kernel map has another shape than this agent's; rebuild the eBPF object"));
        }
        Ok(Self { fd: map.fd().as_fd().try_clone_to_owned()?, types: PhantomData })
    }

    fn call<T>(&self, command: Command, key: Option<&K>, value: *mut T, flags: u64) -> io::Result<()> {
        let mut attributes = ElementAttributes {
            map: self.fd.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: key.map_or(0, |key| (&raw const *key) as u64),
            value: value as u64,
            flags,
        };
        // SAFETY: the kernel reads `size_of::<K>()` bytes at the key and reads or writes the map's value size (for
        // NextKey its key size) at the value; `new` has checked both against the types that the callers below pass.
        let done = unsafe {
            libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut attributes, size_of::<ElementAttributes>())
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn read(&self, command: Command, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        match self.call(command, Some(key), value.as_mut_ptr(), 0) {
            // SAFETY: the kernel has written the whole value, and `V: Pod` takes any bytes.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The value at `key`.
    pub(super) fn get(&self, key: &K) -> io::Result<Option<V>> {
        self.read(Command::Lookup, key)
    }

    /// The value at `key`, which is gone afterwards: of several callers one gets it.
    pub(super) fn take(&self, key: &K) -> io::Result<Option<V>> {
        match self.read(Command::LookupAndDelete, key) {
            // Hashes learned this in 5.14; before, whoever deletes it has it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | 524)) => {
                let value = self.get(key)?;
                Ok(if self.remove(key)? { value } else { None })
            }
            taken => taken,
        }
    }

    /// Writes the value at `key`.
    pub(super) fn set(&self, key: &K, mut value: V) -> io::Result<()> {
        self.call(Command::Update, Some(key), &raw mut value, 0)
    }

    /// Removes `key`; false: it was not there.
    pub(super) fn remove(&self, key: &K) -> io::Result<bool> {
        match self.call(Command::Delete, Some(key), std::ptr::null_mut::<V>(), 0) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All keys at about this moment, `limit` at most (a walk restarts where its key was removed meanwhile).
    pub(super) fn keys(&self, limit: usize) -> io::Result<Vec<K>> {
        let mut keys: Vec<K> = Vec::new();
        while keys.len() < limit {
            let mut next = MaybeUninit::<K>::uninit();
            match self.call(Command::NextKey, keys.last(), next.as_mut_ptr(), 0) {
                // SAFETY: the kernel has written a whole key, and `K: Pod` takes any bytes.
                Ok(()) => keys.push(unsafe { next.assume_init() }),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(keys)
    }
}

/// Reads a `T` from the start of `bytes`; None: they are too few.
pub(super) fn read_pod<T: Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, the read does not ask for alignment, and `T: Pod` takes any bytes.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn get_option(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, into: &mut [u8]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(into.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `len` bytes into `into` and says how many.
    let done =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, into.as_mut_ptr().cast(), &raw mut len) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(len as usize) }
}

/// The cookie of the network namespace in which `socket` was made; None: the kernel is older than 5.14.
pub(super) fn netns_cookie(socket: &impl AsFd) -> io::Result<Option<u64>> {
    let mut cookie = [0; 8];
    match get_option(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie) {
        Ok(_) => Ok(Some(u64::from_ne_bytes(cookie))),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a listening socket keep the SYN of each connection.
pub(super) fn save_syn(listener: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one int.
    let done = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVE_SYN,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The network and TCP headers of an accepted connection's SYN. The kernel gives them once.
pub(super) fn saved_syn(connection: &impl AsFd) -> io::Result<Vec<u8>> {
    let mut headers = vec![0; SYN_LEN];
    let len = get_option(connection, libc::IPPROTO_TCP, TCP_SAVED_SYN, &mut headers)?;
    headers.truncate(len);
    Ok(headers)
}

/// What a process does with a signal, as far as it survives `execve`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The kernel's default action.
    Default,
    /// Nothing.
    Ignore,
}

static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

extern "C" fn look_at_sigpipe() {
    // SAFETY: an all-zero sigaction is a valid value of this plain C structure; sigaction(2) with a null
    // new action only writes into it. Nothing of the Rust runtime, which does not run yet, is used.
    let ignored = unsafe {
        let mut found: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut found) == 0 && found.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
}

// SAFETY: `.init_array` holds pointers to functions that the C runtime calls before `main`; extra arguments
// that it passes are ignored by the C calling convention.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look_at_sigpipe;

/// Whether the process was started with SIGPIPE ignored (systemd units are); the Rust runtime ignores it
/// in any case, so only a look before `main` can tell.
#[must_use]
pub fn sigpipe_was_ignored() -> bool {
    SIGPIPE_IGNORED.load(Ordering::Relaxed)
}

/// Sets what this process does with a signal.
///
/// # Errors
/// When the kernel does not allow it (SIGKILL, SIGSTOP).
pub fn set_disposition(which: Signal, disposition: Disposition) -> nix::Result<()> {
    let action = match disposition {
        Disposition::Default => SigHandler::SigDfl,
        Disposition::Ignore => SigHandler::SigIgn,
    };
    // SAFETY: neither SIG_DFL nor SIG_IGN runs code of ours in a signal context.
    unsafe { signal(which, action) }.map(|_| ())
}

/// Sends a signal by number, real-time signals included (which the safe crates cannot name).
///
/// # Errors
/// When there is no such process or signal.
pub fn kill(pid: nix::unistd::Pid, number: i32) -> nix::Result<()> {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    nix::errno::Errno::result(unsafe { libc::kill(pid.as_raw(), number) }).map(|_| ())
}

/// A value that owns a descriptor.
///
/// # Safety
/// `as_raw_fd` always tells the same descriptor, which stays open and the same as long as the value lives.
pub unsafe trait OwnsDescriptor: AsRawFd {}
// SAFETY: the ring buffer's map is opened once and closed when the value is dropped.
unsafe impl OwnsDescriptor for super::kernel::Events {}
// SAFETY: the socket is bound once and closed when the value is dropped.
unsafe impl OwnsDescriptor for super::listen::DnsSocket {}

/// A descriptor that is owned by its value, watched for input.
///
/// # Errors
/// Outside of a runtime, or when the kernel refuses.
pub fn watched<T: OwnsDescriptor>(owner: T, interest: tokio::io::Interest) -> io::Result<tokio::io::unix::AsyncFd<T>> {
    // SAFETY: a type that implements `OwnsDescriptor` keeps the one descriptor that it tells open until it is dropped.
    unsafe { tokio::io::unix::AsyncFd::register_with_interest(owner, interest) }.map_err(io::Error::from)
}

/// Descriptors that this process was started with, beyond the standard three: they are for the command, and
/// whoever reads from or writes to their other ends must not find crewtap there.
#[derive(Debug)]
pub struct Inherited(Vec<i32>);

impl Inherited {
    /// To be called before anything is opened.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn look() -> std::io::Result<Self> {
        let entries: Vec<_> = std::fs::read_dir("/proc/self/fd")?.collect::<Result<_, _>>()?;
        let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // The directory just read is closed by now; what is close-on-exec belongs to this process.
        Ok(Self(numbers.filter(|number| *number > 2 && is_for_children(*number)).collect()))
    }

    /// Closes them; children that are there keep them.
    pub fn close(self) {
        for number in self.0 {
            // SAFETY: it was open before `main`, so no owner of it exists in this process, and `self` is used
            // up, so that it is closed once.
            unsafe { libc::close(number) };
        }
    }
}

fn is_for_children(number: i32) -> bool {
    // SAFETY: F_GETFD takes no argument and only reads the flags of the descriptor.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Puts a seccomp filter over this thread and all that comes from it; `no_new_privs` is not set, so that setuid programs
/// go on working, which the kernel allows to those who have `CAP_SYS_ADMIN`.
///
/// # Errors
/// When the kernel refuses it, or has no seccomp.
pub fn filter_calls(filter: &[super::filter::Instruction]) -> io::Result<()> {
    let filter: Vec<libc::sock_filter> =
        filter.iter().map(|(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k }).collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        // The kernel only reads it.
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which lives until the call has returned, and checks them.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a command run in a session of its own, which can be ended as a whole, without a terminal.
pub fn in_own_session(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
}

/// Keeps memory out of swap, as long as this process lives or frees it to the kernel.
///
/// # Errors
/// When the kernel allows no more of it (`RLIMIT_MEMLOCK` without `CAP_IPC_LOCK`).
pub fn keep_in_memory(bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the range is one live slice; mlock(2) only pins its pages, and neither reads nor writes them.
    let done = unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
