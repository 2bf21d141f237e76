//! Whom a request names, against whom its connection leads to.
//!
//! Never takes a name for more than what proves it.

use std::net::IpAddr;

use crewtap_core::action::{Action, Fact};
use crewtap_core::target::{Name, Proof, Target};
use crewtap_core::wire::certificate::{self, SubjectName};
use crewtap_core::wire::http::RequestHead;
use crewtap_core::wire::http::target::name_of;

use crate::proto::Opened;

/// What stands for a host that cannot be read.
const UNPARSED: &str = "UNPARSED";

/// The names of one connection.
pub(super) struct Hosts {
    name: Option<Name>,
    address: IpAddr,
    /// Those that the target has proven by its certificate, beside the one that it was asked for.
    covered: Vec<SubjectName>,
}

impl Hosts {
    pub(super) fn new(target: &Target, tls: Option<&Opened>) -> Self {
        let certificate = tls.filter(|tls| tls.proven).and_then(|tls| tls.certificate.as_deref());
        let covered = certificate.and_then(certificate::read).map(|certificate| certificate.names).unwrap_or_default();
        Self { name: target.name.clone(), address: target.address.ip().to_canonical(), covered }
    }

    /// Has an action judged by the host that its request names; that host, where the target has proven by its certificate to
    /// be others and not this one.
    pub(super) fn judge_by(&self, head: &RequestHead<'_>, action: &mut Action) -> Option<String> {
        let host = head.host()?;
        let host = name_of(host.as_bytes()).unwrap_or_else(|| UNPARSED.to_owned());
        let is_named = self.name.as_ref().is_some_and(|name| name.host == host);
        let is_address = self.name.is_none() && host.parse() == Ok(self.address);
        if is_named || is_address {
            return None;
        }
        let proven = self.name.as_ref().is_some_and(|name| name.proof == Proof::Certificate);
        let is_covered = proven && self.covers(&host);
        let proof = if is_covered { Proof::Certificate } else { Proof::Claimed };
        action.facts.insert("host".into(), Fact::Text(host.clone()));
        action.facts.insert("proof".into(), Fact::Text(proof.as_str().into()));
        (proven && !is_covered).then_some(host)
    }

    /// RFC 9525 section 6.3: a wildcard stands for one whole label, the first.
    fn covers(&self, host: &str) -> bool {
        let behind = host.split_once('.').map(|(_, domain)| domain);
        self.covered.iter().any(|name| match name {
            SubjectName::Dns(name) => match name.strip_prefix("*.") {
                Some(domain) => behind.is_some_and(|behind| behind.eq_ignore_ascii_case(domain)),
                None => name.eq_ignore_ascii_case(host),
            },
            SubjectName::Address(address) => host.parse() == Ok(*address),
        })
    }

    /// What the connection leads to, for its client.
    pub(super) fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), |name| name.host.clone())
    }
}

#[cfg(test)]
mod tests {
    use crewtap_core::action::{Facts, Verb};

    use super::*;

    fn hosts(names: &[&str], name: Option<(&str, Proof)>) -> Hosts {
        let covered = names.iter().map(|name| match name.parse() {
            Ok(address) => SubjectName::Address(address),
            Err(_) => SubjectName::Dns((*name).to_owned()),
        });
        let name = name.map(|(host, proof)| Name { host: host.into(), proof });
        Hosts { name, address: "10.0.0.5".parse().unwrap(), covered: covered.collect() }
    }

    /// The host and the proof that are judged, where they are not the connection's; and the host that is refused.
    fn judged(hosts: &Hosts, host: &str) -> (Option<String>, Option<String>) {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let head = RequestHead::parse(bytes.as_bytes()).unwrap();
        let mut action = Action { verb: Verb::HttpRequest, subject: String::new(), facts: Facts::new() };
        let refused = hosts.judge_by(&head, &mut action);
        let text = |name: &str| match action.facts.get(name) {
            Some(Fact::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let told = action.facts.contains_key("host").then(|| format!("{} {}", text("host"), text("proof")));
        (told, refused)
    }

    #[test]
    fn what_a_certificate_covers_is_proven_and_nothing_else_is_led_to_another_host() {
        let hosts = hosts(&["a.test", "*.b.test", "10.0.0.5"], Some(("a.test", Proof::Certificate)));
        for host in ["a.test", "A.TEST", "a.test.", "a.test:443"] {
            assert_eq!(judged(&hosts, host), (None, None), "{host}");
        }
        assert_eq!(judged(&hosts, "x.b.test"), (Some("x.b.test certificate".into()), None));
        assert_eq!(judged(&hosts, "10.0.0.5"), (Some("10.0.0.5 certificate".into()), None));
        for host in ["b.test", "x.y.b.test", "evil.test", "10.0.0.6"] {
            assert_eq!(judged(&hosts, host), (Some(format!("{host} claimed")), Some(host.into())), "{host}");
        }
        assert_eq!(judged(&hosts, "a~b"), (Some("UNPARSED claimed".into()), Some("UNPARSED".into())));
    }

    #[test]
    fn where_nothing_is_proven_a_named_host_is_a_claim() {
        let dns = hosts(&[], Some(("a.test", Proof::Dns)));
        assert_eq!(judged(&dns, "evil.test"), (Some("evil.test claimed".into()), None));
        let bare = hosts(&[], None);
        assert_eq!(judged(&bare, "10.0.0.5"), (None, None));
        assert_eq!(judged(&bare, "a.test"), (Some("a.test claimed".into()), None));
    }
}
