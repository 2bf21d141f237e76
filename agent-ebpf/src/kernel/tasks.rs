//! The process tree: what is executed, forked and ended inside runs, who leaves a run's cgroup, and the agent's own end.

use super::report::{Bypass, bypass, header, send};
use super::{
    Task, attach_id, attach_pid, attach_root, current_run, exec_filename, exec_old_pid, exit_group_dead,
    fork_child_pid, maps, now, settings_of, socket_family,
};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel_str},
    programs::TracePointContext,
};
use crewtap_ebpf::{
    BYPASS_FAMILY, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_MOVED, ExecEvent, ExitEvent, FILENAME_LEN, ForkEvent,
    MovedEvent,
};

/// Families whose sockets cannot carry data out past the programs, or that the programs see: unspecified, unix,
/// IPv4, IPv6, netlink, and the kernel's cryptography.
const ORDINARY_FAMILIES: [u64; 6] = [0, 1, 2, 10, 16, 38];

/// sched_process_exec.
#[inline(always)]
pub fn exec(ctx: &TracePointContext) -> u32 {
    let task = Task::current();
    let run = current_run();
    if settings_of(run).is_none() {
        note_outside(&task);
        return 0;
    }
    let _ = maps::TASKS.insert(&task.tid, &run, 0);
    let header = header(EVENT_EXEC, run, &task);
    // Before the program's first instruction: whatever it connects carries this time, and so does the event.
    let _ = maps::PROGRAMS.insert(&task.tgid, &header.at_ns, 0);
    let old_tid: u32 = read(ctx, exec_old_pid());
    if old_tid != task.tid {
        // The thread that executed has taken the leader's id.
        let _ = maps::TASKS.remove(&old_tid);
        let _ = maps::PROGRAMS.remove(&old_tid);
    }
    let Some(mut entry) = maps::EVENTS.reserve_untyped::<ExecEvent>(0) else {
        super::report::count!(run, events_lost);
        return 0;
    };
    let event = entry.as_mut_ptr();
    let location = read::<u32>(ctx, exec_filename()) as usize;
    // SAFETY: the entry has room for an ExecEvent; every field is written before it is submitted.
    unsafe {
        (&raw mut (*event).header).write(header);
        (&raw mut (*event).old_tid).write(old_tid);
        let name = &raw mut (*event).filename;
        name.write([0; FILENAME_LEN]);
        let from = ctx.as_ptr().add(location & 0xffff);
        let written = bpf_probe_read_kernel_str(name.cast(), FILENAME_LEN as u32, from);
        (&raw mut (*event).filename_len).write(if written > 0 { written as u32 - 1 } else { 0 });
    }
    entry.submit(0);
    0
}

/// sched_prepare_exec (Linux 6.10): the process still has the memory of the program of before, and from now on nobody can
/// tell which one /proc shows.
#[inline(always)]
pub fn prepare_exec() -> u32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if settings_of(current_run()).is_some() {
        let _ = maps::PROGRAMS.insert(&tgid, &now(), 0);
    }
    0
}

/// sched_process_fork: the current task is the parent.
#[inline(always)]
pub fn fork(ctx: &TracePointContext) -> u32 {
    let task = Task::current();
    let run = current_run();
    if settings_of(run).is_none() {
        note_outside(&task);
        return 0;
    }
    let child: u32 = read(ctx, fork_child_pid());
    let _ = maps::TASKS.insert(&child, &run, 0);
    let header = header(EVENT_FORK, run, &task);
    // The child does not run yet: whatever it connects carries this time.
    let _ = maps::PROGRAMS.insert(&child, &header.at_ns, 0);
    send(run, ForkEvent { header, child, padding: 0 });
    0
}

/// sched_process_exit. It runs before the task's files are closed: when the agent's leader ends, captured processes
/// are refused before anybody else can have the agent's ports (law 3).
#[inline(always)]
pub fn exit(ctx: &TracePointContext) -> u32 {
    let ids = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((ids >> 32) as u32, ids as u32);
    if let Some(global) = maps::GLOBAL.get_ptr_mut(0) {
        // SAFETY: the one entry of an array map; a word is written whole.
        unsafe {
            if tgid == tid && core::ptr::read_volatile(&raw const (*global).agent_tgid) == tgid {
                core::ptr::write_volatile(&raw mut (*global).alive, 0);
            }
        }
    }
    let run = current_run();
    if settings_of(run).is_some() {
        let task = Task::current();
        let last = if exit_group_dead() == 0 { 0 } else { u32::from(read::<u8>(ctx, exit_group_dead())) };
        send(run, ExitEvent { header: header(EVENT_EXIT, run, &task), last, padding: 0 });
    }
    let _ = maps::TASKS.remove(&tid);
    let _ = maps::PROGRAMS.remove(&tid);
    0
}

/// cgroup_attach_task: the current task is the one that moves another.
#[inline(always)]
pub fn attach(ctx: &TracePointContext) -> u32 {
    // The hierarchy of cgroup v2 is number 0.
    if read::<u32>(ctx, attach_root()) != 0 {
        return 0;
    }
    let pid: u32 = read(ctx, attach_pid());
    let cgroup: u64 = read(ctx, attach_id());
    // SAFETY: a number, copied at once.
    let left = unsafe { maps::TASKS.get(&pid) }.map_or(0, |run| *run);
    if left != 0 && left != cgroup {
        let mover = Task::current();
        let moved = Task { tgid: pid, tid: pid, uid: mover.uid, gid: mover.gid, comm: [0; 16] };
        send(left, MovedEvent { header: header(EVENT_MOVED, left, &moved), cgroup, by: mover.tgid, padding: 0 });
    }
    if settings_of(cgroup).is_some() {
        let _ = maps::TASKS.insert(&pid, &cgroup, 0);
        // What it executed outside went unseen.
        let _ = maps::PROGRAMS.insert(&pid, &now(), 0);
    }
    0
}

/// sys_enter_socket: families that the internet's programs never see.
#[inline(always)]
pub fn socket(ctx: &TracePointContext) -> u32 {
    let family: u64 = read(ctx, socket_family());
    let mut index = 0;
    while index < ORDINARY_FAMILIES.len() {
        if ORDINARY_FAMILIES[index] == family {
            return 0;
        }
        index += 1;
    }
    let run = current_run();
    let task = Task::current();
    if settings_of(run).is_none() {
        note_outside(&task);
        return 0;
    }
    let kind: u64 = read(ctx, socket_family() + 8);
    let protocol: u64 = read(ctx, socket_family() + 16);
    let seen = Bypass {
        kind: BYPASS_FAMILY,
        address: [0; 4],
        port: family as u16,
        family: family as u32,
        socket: (kind & 0xf) as u32 | (protocol as u32) << 16,
        refused: false,
    };
    bypass(run, &task, &seen);
    0
}

/// A task outside every run that was born in one: it left without cgroup_attach_task (CLONE_INTO_CGROUP). Said once.
#[inline(always)]
fn note_outside(task: &Task) {
    // SAFETY: a number, copied at once.
    let left = unsafe { maps::TASKS.get(&task.tid) }.map_or(0, |run| *run);
    if left != 0 {
        let _ = maps::TASKS.remove(&task.tid);
        send(left, MovedEvent { header: header(EVENT_MOVED, left, task), cgroup: 0, by: 0, padding: 0 });
    }
}

/// Reads a field of the tracepoint; zero where it cannot be read.
#[inline(always)]
fn read<T: Copy + Default>(ctx: &TracePointContext, offset: u32) -> T {
    // SAFETY: the offset comes from the kernel's own description of the tracepoint; the helper checks the address.
    unsafe { ctx.read_at(offset as usize) }.unwrap_or_default()
}
