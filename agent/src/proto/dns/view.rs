//! From DNS messages to the words of the record.

use std::net::{IpAddr, SocketAddr};

use crewtap_core::bodies::Dns;

pub(super) fn question(message: &[u8], transport: &str, resolver: SocketAddr, pid: u32) -> Option<Dns> {
    let id = u16::from_be_bytes(message.get(..2)?.try_into().ok()?);
    Some(Dns { id, transport: transport.into(), resolver, pid, name: "?".into(), record: "?".into(), answered: false, code: None, answers: vec![] })
}

pub(super) fn timeout(message: &[u8], transport: &str, resolver: SocketAddr, pid: u32) -> Option<Dns> {
    question(message, transport, resolver, pid)
}

pub(super) fn refusal(message: &[u8]) -> Vec<u8> {
    message.to_vec()
}

pub(super) fn answer(message: &[u8], transport: &str, resolver: SocketAddr, pid: u32) -> (Option<Dns>, Vec<(IpAddr, String)>) {
    (question(message, transport, resolver, pid), vec![])
}
