//! The maps. Sizes are limits on memory; each says what happens when it is full.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    btf_maps::{Array, HashMap, LruHashMap, RingBuf},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use core::ffi::c_void;
use crewtap_ebpf::{
    BypassKey, ConnectionKey, Counters, DatagramKey, Global, LocalAddress, Origin, PeerKey, RelayKey, RunSettings,
    SocketState,
};

/// The agent's facts.
#[btf_map]
pub static GLOBAL: Array<Global, 1> = Array::new();

/// When the agent last said that it works.
#[btf_map]
pub static HEARTBEAT: Array<u64, 1> = Array::new();

/// Runs by cgroup id. The agent is told when it is full, at `add_run`.
#[btf_map]
pub static RUNS: HashMap<u64, RunSettings, 1024> = HashMap::new();

/// Counters by run; an entry is made with the run.
#[btf_map]
pub static COUNTERS: HashMap<u64, Counters, 1024> = HashMap::new();

/// Addresses that sockets of a run may be bound to. Full: the agent is told; such sockets are refused.
#[btf_map]
pub static LOCAL_ADDRESSES: HashMap<LocalAddress, u8, 4096> = HashMap::new();

/// Origins of established connections that the proxy has not accepted yet. Full: counted, and the proxy refuses.
#[btf_map]
pub static ORIGINS: HashMap<ConnectionKey, Origin, 65536, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Original peers of relayed datagrams. The oldest goes: its answer shows the relay's address and is not matched.
#[btf_map]
pub static RELAYED: LruHashMap<RelayKey, Origin, 16384> = LruHashMap::new();

/// Origins of datagrams for the relay, which takes each once. The oldest goes: the relay drops such a datagram, and the client asks again.
#[btf_map]
pub static DATAGRAMS: LruHashMap<DatagramKey, Origin, 16384> = LruHashMap::new();

/// Peers of MPTCP connections. The oldest goes: getpeername then shows the relay's address.
#[btf_map]
pub static PEERS: LruHashMap<PeerKey, Origin, 4096> = LruHashMap::new();

/// Bypasses already reported. The oldest goes, and is reported again.
#[btf_map]
pub static REPORTED: LruHashMap<BypassKey, u8, 8192> = LruHashMap::new();

/// Tasks of runs, by thread id. Full: leaving the cgroup is seen later, or not at all.
#[btf_map]
pub static TASKS: HashMap<u32, u64, 32768> = HashMap::new();

/// When each process of a run began the program that it runs (exec, else fork, else coming into the run), by the id of
/// its leader; the threads that are no leaders are in it, too, because a fork does not tell them apart. Full: the facts of
/// a process that is not in it are not proven, and left out.
#[btf_map]
pub static PROGRAMS: HashMap<u32, u64, 32768> = HashMap::new();

/// Events for the agent. Full: counted per run.
#[btf_map]
pub static EVENTS: RingBuf<u64, 0x20_0000> = RingBuf::new();

/// The definition of a socket storage whose values children of a listener inherit (BPF_F_CLONE), which aya-ebpf's own
/// type does not offer; and which is reached from every kind of program, not only from sock_addr.
#[repr(C)]
pub struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: placeholders that the loader replaces; nothing reads through them.
unsafe impl Sync for SocketStorage {}

/// State that lives and dies with its socket: no capacity, no leak.
#[btf_map]
pub static SOCKETS: SocketStorage = SocketStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

impl SocketStorage {
    /// The state of `socket` (a `bpf_sock`, or the context of sock_create).
    ///
    /// # Safety
    /// `socket` is a socket that the verifier knows.
    #[inline(always)]
    pub unsafe fn get<T>(&self, socket: *mut T) -> Option<&'static mut SocketState> {
        let map: *mut c_void = (&raw const *self).cast_mut().cast();
        // SAFETY: by contract; the value lives as long as its socket, which outlives the program's run.
        unsafe { bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0).cast::<SocketState>().as_mut() }
    }

    /// The state of `socket`, made from `initial` where there is none. None: no memory.
    ///
    /// # Safety
    /// As for [`Self::get`].
    #[inline(always)]
    pub unsafe fn get_or_insert<T>(
        &self,
        socket: *mut T,
        initial: &mut SocketState,
    ) -> Option<&'static mut SocketState> {
        let map: *mut c_void = (&raw const *self).cast_mut().cast();
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: by contract.
        unsafe {
            bpf_sk_storage_get(map, socket.cast(), (&raw mut *initial).cast(), flags).cast::<SocketState>().as_mut()
        }
    }
}
