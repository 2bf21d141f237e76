//! Names that a run looked up, by the address they were answered with.
//!
//! A name from here is proof `dns`, no more: it says what the run was told, not who answers there.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crewtap_core::limits;

/// Bounded; the oldest look-up is forgotten first.
#[derive(Default, Debug)]
pub struct Names {
    by_address: HashMap<IpAddr, String>,
    order: VecDeque<IpAddr>,
}

impl Names {
    /// Remembers that `host` was answered with `address`; the latest answer wins.
    pub fn learn(&mut self, address: IpAddr, host: &str) {
        let address = address.to_canonical();
        if self.by_address.insert(address, host.to_owned()).is_none() {
            self.order.push_back(address);
        }
        while self.order.len() > limits::NAMES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_address.remove(&oldest);
            }
        }
    }

    /// The name that was answered with this address.
    #[must_use]
    pub fn get(&self, address: IpAddr) -> Option<&str> {
        self.by_address.get(&address.to_canonical()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_answer_wins_and_mapped_addresses_are_the_same() {
        let mut names = Names::default();
        names.learn("10.0.0.1".parse().unwrap(), "old.internal");
        names.learn("::ffff:10.0.0.1".parse().unwrap(), "new.internal");
        assert_eq!(names.get("10.0.0.1".parse().unwrap()), Some("new.internal"));
        assert_eq!(names.order.len(), 1);
    }

    #[test]
    fn names_are_bounded_and_the_oldest_goes() {
        let mut names = Names::default();
        for number in 0..=u32::try_from(limits::NAMES_MAX).unwrap() {
            names.learn(IpAddr::V4(number.into()), "x");
        }
        assert_eq!(names.by_address.len(), limits::NAMES_MAX);
        assert_eq!(names.get(IpAddr::V4(0.into())), None);
    }
}
