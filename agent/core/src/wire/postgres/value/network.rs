//! Network and hardware addresses.
//!
//! Owns their binary forms. Never resolves anything.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::cursor::Cursor;

/// inet and cidr: family, bits, whether it is a cidr, length, address. The bits are shown where they are not all.
pub fn address(bytes: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(bytes);
    let (family, bits, is_network, len) = (cursor.u8()?, cursor.u8()?, cursor.u8()? != 0, cursor.u8()?);
    let (address, all) = match (family, len) {
        (2, 4) => (Ipv4Addr::from(cursor.array::<4>()?).to_string(), 32),
        (3, 16) => (Ipv6Addr::from(cursor.array::<16>()?).to_string(), 128),
        _ => return None,
    };
    let shown = if is_network || bits != all { format!("{address}/{bits}") } else { address };
    (cursor.is_empty() && bits <= all).then_some(shown)
}

/// macaddr and macaddr8.
pub fn hardware(bytes: &[u8]) -> Option<String> {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    matches!(parts.len(), 6 | 8).then(|| parts.join(":"))
}
