//! The programs that run in the kernel, as small as they can be: each finds the run, decides, and leaves the rest to
//! user space. This file owns the entry points; it never decides anything itself.
//!
//! Oldest kernel: 5.10. What is newer is behind a constant that user space sets before loading, so that the verifier
//! of an older kernel removes it unread.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(unsafe_code)]
#![allow(missing_docs)] // The entry points are made by macros; their names say what they are.
#![allow(clippy::inline_always)] // One program, one function: what 5.10 verifies best.

mod kernel;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, sock_ops, tracepoint},
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext, TracePointContext},
};
use kernel::{connect, create, datagram, egress, established, peer, tasks};

#[cgroup_sock_addr(connect4)]
pub fn crewtap_connect4(ctx: SockAddrContext) -> i32 {
    connect::connect4(ctx.sock_addr)
}

#[cgroup_sock_addr(connect6)]
pub fn crewtap_connect6(ctx: SockAddrContext) -> i32 {
    connect::connect6(ctx.sock_addr)
}

#[cgroup_sock_addr(getpeername4)]
pub fn crewtap_getpeername4(ctx: SockAddrContext) -> i32 {
    peer::getpeername4(ctx.sock_addr)
}

#[cgroup_sock_addr(getpeername6)]
pub fn crewtap_getpeername6(ctx: SockAddrContext) -> i32 {
    peer::getpeername6(ctx.sock_addr)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn crewtap_sendmsg4(ctx: SockAddrContext) -> i32 {
    datagram::sendmsg4(ctx.sock_addr)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn crewtap_sendmsg6(ctx: SockAddrContext) -> i32 {
    datagram::sendmsg6(ctx.sock_addr)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn crewtap_recvmsg4(ctx: SockAddrContext) -> i32 {
    peer::recvmsg4(ctx.sock_addr)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn crewtap_recvmsg6(ctx: SockAddrContext) -> i32 {
    peer::recvmsg6(ctx.sock_addr)
}

#[cgroup_sock(sock_create)]
pub fn crewtap_create(ctx: SockContext) -> i32 {
    create::sock_create(ctx.sock)
}

#[sock_ops]
pub fn crewtap_established(ctx: SockOpsContext) -> u32 {
    established::sock_ops(ctx.ops)
}

#[cgroup_skb(egress)]
pub fn crewtap_egress(ctx: SkBuffContext) -> i32 {
    egress::egress(ctx.skb.skb)
}

#[tracepoint]
pub fn crewtap_exec(ctx: TracePointContext) -> u32 {
    tasks::exec(&ctx)
}

#[tracepoint]
pub fn crewtap_prepare_exec(_: TracePointContext) -> u32 {
    tasks::prepare_exec()
}

#[tracepoint]
pub fn crewtap_fork(ctx: TracePointContext) -> u32 {
    tasks::fork(&ctx)
}

#[tracepoint]
pub fn crewtap_exit(ctx: TracePointContext) -> u32 {
    tasks::exit(&ctx)
}

#[tracepoint]
pub fn crewtap_attach(ctx: TracePointContext) -> u32 {
    tasks::attach(&ctx)
}

#[tracepoint]
pub fn crewtap_socket(ctx: TracePointContext) -> u32 {
    tasks::socket(&ctx)
}

/// Nothing here panics: the verifier would refuse the loop that this compiles to.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
