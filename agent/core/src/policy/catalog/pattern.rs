//! Patterns of host names and networks of addresses, as a catalog writes them. Never resolves a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::tls::host_name;

/// A host name, or every name below a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostPattern {
    /// This name.
    Exactly(String),
    /// `*.` and a domain: every name below it, however deep, and not the domain itself.
    Below(String),
}

impl HostPattern {
    /// Reads a host name, or `*.` and a domain.
    ///
    /// # Errors
    /// When it is neither; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            let hint = if text.parse::<IpAddr>().is_ok() { "; an address belongs into cidr" } else { "" };
            format!("\"{text}\" is neither a host name nor `*.` and the domain above it{hint}")
        };
        let (below, name) = match text.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, text),
        };
        let name = host_name(name.as_bytes()).ok_or_else(wrong)?;
        Ok(if below { Self::Below(name) } else { Self::Exactly(name) })
    }

    /// Whether a host name (lower case, without a trailing dot) is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exactly(name) => name == host,
            Self::Below(domain) => host
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
        }
    }

    /// Whether every host that `other` means is meant, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exactly(name)) => self.matches(name),
            (Self::Exactly(_), Self::Below(_)) => false,
            (Self::Below(ours), Self::Below(theirs)) => ours == theirs || self.matches(theirs),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// A network, as an address and the number of bits that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `ADDRESS/BITS`, or one address.
    ///
    /// # Errors
    /// When it is neither, or bits below the mask are set; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no network: write ADDRESS/BITS, 10.1.0.0/16 or fd00::/8 for instance");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        if address != address.to_canonical() {
            return Err(format!("\"{text}\": write {} as IPv4", address.to_canonical()));
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &str| bits.bytes().all(|byte| byte.is_ascii_digit()).then(|| bits.parse::<u8>().ok())?;
        let bits = match bits {
            Some(bits) => digits(bits).filter(|bits| *bits <= most).ok_or_else(wrong)?,
            None => most,
        };
        let network = Self { address, bits };
        if masked(address, bits) == address {
            return Ok(network);
        }
        Err(format!("\"{text}\" has bits behind its mask: did you mean {}/{bits}?", masked(address, bits)))
    }

    /// Whether an address (IPv4 not mapped) lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }

    /// Its address, where it has only one.
    #[must_use]
    pub fn single(&self) -> Option<IpAddr> {
        let all = if self.address.is_ipv4() { 32 } else { 128 };
        (self.bits == all).then_some(self.address)
    }

    /// Whether every address of `other` lies in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}
