use std::path::Path;

use crewtap_core::policy::catalog::Catalog;

use super::suggest::{Seen, text};

fn seen(destination: &str, protocol: &str, host: Option<(&str, &str)>) -> Seen {
    Seen {
        destination: Some(destination.parse().unwrap()),
        protocol: Some(protocol.into()),
        host: host.map(|(host, _)| host.into()),
        proof: host.map(|(_, proof)| proof.into()),
        exchanges: 2,
        ..Seen::default()
    }
}

/// The text with its entries in force.
fn in_force(text: &str) -> String {
    let line = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_suggested_is_a_catalog_once_it_is_in_force() {
    let mut pinned = seen("10.1.0.9:443", "http", Some(("own.corp", "claimed")));
    pinned.tls = Some("unverified".into());
    pinned.certificate = Some("ab".repeat(32));
    let sessions = [
        seen("10.1.0.5:5432", "postgres", None),
        seen("10.1.0.5:6432", "postgres", None),
        seen("10.1.0.6:443", "http", Some(("api.openai.com", "certificate"))),
        seen("10.1.0.7:443", "http", Some(("api.openai.com", "claimed"))),
        seen("10.1.0.6:5432", "postgres", Some(("api.openai.com", "dns"))),
        seen("[fd77::1]:80", "http", None),
        seen("10.1.0.8:6379", "redis", Some(("cache.corp", "dns"))),
        pinned,
    ];
    let said = text("01J", &sessions);
    assert_eq!(Catalog::parse(&said, Path::new("/")).unwrap(), Catalog::default(), "something is in force already");
    let catalog = Catalog::parse(&in_force(&said), Path::new("/")).unwrap_or_else(|error| panic!("{error}\n{said}"));
    let names: Vec<_> = catalog.entries().iter().map(|entry| (entry.name.as_str(), entry.protocol.as_str())).collect();
    let wanted = [
        ("10-1-0-5", "postgres"),
        ("api-openai-com", "http"),
        ("api-openai-com-postgres", "postgres"),
        ("fd77--1", "http"),
        ("own-corp", "http"),
    ];
    assert_eq!(names, wanted);
    assert_eq!(catalog.entries()[0].ports, [5432, 6432]);
    assert_eq!(catalog.entries()[4].tls.pins, [[0xab; 32]]);
    assert!(said.contains("the name is proven by its certificate; at 10.1.0.6, 10.1.0.7"), "{said}");
    assert!(said.contains("# No entry: redis to cache.corp:6379"), "{said}");
    assert_eq!(text("01J", &[]), "");
}
