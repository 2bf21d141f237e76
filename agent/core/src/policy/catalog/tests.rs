use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use proptest::prelude::*;

use super::{Catalog, Channel, Withheld};
use crate::run::Mode;
use crate::target::{Name, Proof, Target};

fn parse(text: &str) -> Result<Catalog, String> {
    Catalog::parse(text, Path::new("/etc/crewtap")).map_err(|malformed| malformed.to_string())
}

fn target(name: &str, selector: &str, more: &str) -> String {
    format!("[target.{name}]\nmatch = {{ {selector} }}\nprotocol = 'postgres'\n{more}\n")
}

fn name(host: &str, proof: Proof) -> Name {
    Name { host: host.into(), proof }
}

/// Which entry is found, and whether its credential may be used before the dial.
fn found(catalog: &Catalog, address: &str, name: Option<&Name>) -> Option<(String, bool)> {
    let found = catalog.find(address.parse().unwrap(), name, "postgres")?;
    Some((found.entry.name.clone(), found.may_lease().is_ok()))
}

#[test]
fn faults_name_the_line_and_what_to_do() {
    let cases = [
        ("[targets.a]\n", "1: unknown key `targets`: did you mean `target`?"),
        ("\n[target.a]\nprotocl = 'postgres'\n", "3: unknown key `protocl`: did you mean `protocol`?"),
        ("[target.a]\nmatch = { hosts = ['a.b'] }\n", "2: unknown key `hosts`: did you mean `host`?"),
        ("[target.a]\nmatch = { cidr = ['10.1.0.5/16'] }", "did you mean 10.1.0.0/16?"),
        ("[target.a]\nmatch = { cidr = ['10.1.0.0/33'] }", "is no network"),
        ("[target.a]\nmatch = { cidr = ['10.1.0.0/+8'] }", "is no network"),
        ("[target.a]\nmatch = { cidr = ['::ffff:10.1.0.1'] }", "write 10.1.0.1 as IPv4"),
        ("[target.a]\nmatch = { cidr = [] }", "2: `cidr` is empty"),
        ("[target.a]\nmatch = { host = ['*'] }", "2: `host`: \"*\" is neither a host name"),
        ("[target.a]\nmatch = { host = ['a*.b'] }", "is neither a host name"),
        ("[target.a]\nmatch = { host = ['10.0.0.1'] }", "an address belongs into cidr"),
        ("[target.a]\nmatch = { port = [0] }", "2: `port` must be a list of port numbers"),
        ("[target.a]\nmatch = { port = [65536] }", "2: `port` must be a list of port numbers"),
        ("[target.a]\nmatch = { port = 5432 }", "2: `port` must be a list of port numbers, not of type integer"),
        ("[target.a]\nmatch = { port = [5432] }\nprotocol = 'postgres'", "1: [target.a] matches nothing"),
        ("[target.a]\nmatch = { host = ['a.b'] }", "1: [target.a] has no `protocol`"),
        ("[target.a]\nprotocol = 'mysql'", "2: `protocol` cannot be \"mysql\": it is one of \"postgres\""),
        ("[target.'a b']\n", "1: [target.NAME]: \"a b\" is no name"),
        ("[target.a]\ncredential = { secret = 'env:A' }", "2: `credential` has no `user`"),
        ("[target.a]\ncredential = { user = 'a', secret = 'cmd:x' }", "cmd: needs the whole path of a program"),
        ("[target.a]\ncredential = { user = 'a', secret = 'cmd:/x \"a b\"' }", "cmd: knows no quotes"),
        ("[target.a]\ncredential = { user = 'a', secret = 'systemd:a/b' }", "say where the secret is"),
        ("[target.a]\ncredential = { user = 'a', secret = 'vault:x' }", "vault: is followed by http(s)://"),
        ("[target.a]\ncredential = { user = 'a', secret = 'vault:http://v/a#b' }", "`vault:` needs a `token`"),
        (
            "[target.a]\ncredential = { user = 'a', secret = 'env:A', token = 'env:B' }",
            "belong to a secret of `vault:`",
        ),
        ("[target.a]\ncredential = { user = 'a', header = 'b' }", "are for protocol \"http\""),
        ("[target.a]\nprotocol = 'http'\ncredential = { header = 'b' }", "3: `credential` has no `secret`"),
        ("[target.a]\nprotocol = 'http'\ncredential = { secret = 'env:A' }", "needs one of `user`, `header`"),
        ("[target.a]\nprotocol = 'http'\ncredential = { header = 'Host', secret = 'env:A' }", "cannot be \"Host\""),
        (
            "[target.a]\nprotocol = 'http'\ncredential = { header = 'a b', secret = 'env:A' }",
            "no name of a header field",
        ),
        ("[target.a]\nprotocol = 'http'\ncredential = { user = 'a:b', secret = 'env:A' }", "can have no colon"),
        ("[target.a]\nprotocol = 'http'\ncredential = { query = 'a&b', secret = 'env:A' }", "`query` is a name"),
        ("[target.a]\nprotocol = 'http'\ncredential = { placeholder = 'a', secret = 'env:A' }", "at least 4 letters"),
        ("[target.a]\ntls = { cert = 'a.pem' }", "2: `tls` needs both `cert` and `key`"),
        ("[target.a]\ntls = { pins = ['5B:1E'] }", "is no SHA-256 of a certificate"),
        ("[target.a]\nmap = { user = 'a' }", "the user to log in as stands in `credential`"),
        ("[target.a]\nmap = {}", "2: `map` is empty"),
        ("[target.a]\nmode = 'record'\n[target.a]\n", "3: "),
    ];
    for (text, wanted) in cases {
        let said = parse(text).unwrap_err();
        assert!(said.contains(wanted), "{text}\n{said}\n{wanted}");
    }
}

#[test]
fn a_secret_written_in_place_of_its_source_is_not_repeated() {
    let said = parse("[target.a]\ncredential = { user = 'a', secret = 'hunter2' }").unwrap_err();
    assert!(said.contains("never write the secret here") && !said.contains("hunter2"), "{said}");
}

#[test]
fn credentials_of_other_protocols_are_refused_and_not_ignored() {
    let text =
        "[target.a]\nmatch = { host = ['a.b'] }\nprotocol = 'postgres'\ncredential = { user = 'a', key = 'file:k' }";
    assert!(parse(text).unwrap_err().contains("are for protocol \"ssh\""));
    let text = "[target.a]\nmatch = { host = ['a.b'] }\nprotocol = 'http'\nmap = { database = 'a' }";
    assert!(parse(text).unwrap_err().contains("`map` is for protocol"));
}

#[test]
fn secrets_of_http_have_a_place_each() {
    let http = |credential: &str| {
        let text = format!("[target.a]\nmatch = {{ host = ['a.b'] }}\nprotocol = 'http'\ncredential = {credential}\n");
        parse(&text).map(|catalog| catalog.entries()[0].injections.clone())
    };
    let told = |credential: &str| -> Vec<String> {
        http(credential).unwrap().iter().map(|one| format!("{}: {}", one.form, one.secret)).collect()
    };
    let bearer = "{ header = 'authorization', scheme = 'bearer', secret = 'file:k' }";
    assert_eq!(told(bearer), ["header authorization (bearer): file:/etc/crewtap/k"]);
    assert_eq!(told("{ user = 'u', secret = 'systemd:k' }"), ["u (basic): systemd:k"]);
    let several = "[{ query = 'key', secret = 'env:K' }, { placeholder = 'crewtap', secret = ['cmd:/bin/x', 'a b'] }]";
    assert_eq!(told(several), ["query key: env:K", "placeholder crewtap: cmd:/bin/x"]);
    let vault =
        "{ header = 'x-api-key', secret = 'vault:https://v:8200/v1/secret/data/a#key', token = 'env:T', ca = 'v.pem' }";
    assert_eq!(told(vault), ["header x-api-key: vault:https://v:8200/v1/secret/data/a#key"]);
    let twice = format!("[{bearer}, {{ user = 'u', secret = 'env:K' }}]");
    assert!(http(&twice).unwrap_err().contains("same place"));
    let text = format!("[target.a]\nmatch = {{ host = ['a.b'] }}\nprotocol = 'http'\ncredential = {vault}\n");
    assert_eq!(parse(&text).unwrap().variables().collect::<Vec<_>>(), ["T"]);
}

#[test]
fn each_key_of_a_match_narrows_it() {
    let all =
        target("all", "host = ['db.corp', '*.pool.corp'], cidr = ['10.1.0.0/16', 'fd00::/8'], port = [5432, 6432]", "");
    let catalog = parse(&all).unwrap();
    let (dns, pooled) = (name("db.corp", Proof::Dns), name("a.b.pool.corp", Proof::Claimed));
    let hit = Some(("all".to_owned(), true));
    assert_eq!(found(&catalog, "10.1.2.3:5432", Some(&dns)), hit);
    assert_eq!(found(&catalog, "10.1.2.3:6432", Some(&pooled)), hit);
    assert_eq!(found(&catalog, "[fd00::1]:5432", Some(&dns)), hit);
    assert_eq!(found(&catalog, "[::ffff:10.1.2.3]:5432", Some(&dns)), hit);
    assert_eq!(found(&catalog, "10.2.0.1:5432", Some(&dns)), None, "another network");
    assert_eq!(found(&catalog, "10.1.2.3:5433", Some(&dns)), None, "another port");
    assert_eq!(found(&catalog, "10.1.2.3:5432", None), None, "no name");
    assert_eq!(found(&catalog, "10.1.2.3:5432", Some(&name("pool.corp", Proof::Dns))), None, "the domain itself");
    assert_eq!(found(&catalog, "10.1.2.3:5432", Some(&name("xdb.corp", Proof::Dns))), None, "another name");
    assert!(catalog.find("10.1.2.3:5432".parse().unwrap(), Some(&dns), "http").is_none(), "another protocol");
    let unported = parse(&target("a", "cidr = ['10.0.0.1']", "")).unwrap();
    assert!(found(&unported, "10.0.0.1:5432", None).is_some() && found(&unported, "10.0.0.1:5433", None).is_none());
}

#[test]
fn a_name_that_nobody_has_proven_selects_no_credential() {
    let catalog = parse(&target("db", "host = ['db.corp']", "credential = { user = 'crew' }")).unwrap();
    for (proof, may) in [
        (Proof::Claimed, false),
        (Proof::Dns, false),
        (Proof::Config, false),
        (Proof::Certificate, true),
        (Proof::Hostkey, true),
    ] {
        let name = name("db.corp", proof);
        assert_eq!(found(&catalog, "192.0.2.1:5432", Some(&name)), Some(("db".to_owned(), may)), "{proof:?}");
    }
    let claimed = name("db.corp", Proof::Claimed);
    let found = catalog.find("192.0.2.1:5432".parse().unwrap(), Some(&claimed), "postgres").unwrap();
    assert!(matches!(found.may_lease(), Err(Withheld::Unproven { .. })));
    assert!(found.may_lease_on(Channel::Clear).is_err());
    let stranger = Channel::Tls { certificate: b"stranger", verified: false, authority: None };
    assert!(found.may_lease_on(stranger).is_err());
}

#[test]
fn of_several_the_first_that_is_proven_wins_then_the_first() {
    let text = target("lenient", "host = ['*.corp']", "mode = 'record'")
        + &target("strict", "cidr = ['10.0.0.0/8']", "mode = 'enforce'")
        + &target("narrow", "host = ['db.corp']", "");
    // The first has all names of the third: which can then never win.
    let said = parse(&text).unwrap_err();
    assert!(said.contains("9: [target.narrow] can never be found: [target.lenient] before it"), "{said}");
    let text = target("lenient", "host = ['*.corp']", "") + &target("strict", "cidr = ['10.0.0.0/8']", "");
    let catalog = parse(&text).unwrap();
    let (claimed, proven) = (name("a.corp", Proof::Claimed), name("a.corp", Proof::Certificate));
    let found = |address, name| found(&catalog, address, name).unwrap().0;
    assert_eq!(found("10.0.0.1:5432", Some(&claimed)), "strict", "a claim must not hide what the address proves");
    assert_eq!(found("10.0.0.1:5432", Some(&proven)), "lenient");
    assert_eq!(found("192.0.2.1:5432", Some(&claimed)), "lenient");
}

#[test]
fn an_entry_that_can_never_be_found_is_refused_and_others_are_not() {
    let pairs = [
        ("host = ['a.b']", "host = ['a.b']", true),
        ("host = ['*.b']", "host = ['*.a.b']", true),
        ("host = ['*.a.b']", "host = ['*.b']", false),
        ("cidr = ['10.0.0.0/8']", "cidr = ['10.1.0.0/16']", true),
        ("cidr = ['10.1.0.0/16']", "cidr = ['10.0.0.0/8']", false),
        ("cidr = ['10.0.0.0/8']", "cidr = ['10.1.0.0/16'], host = ['a.b']", true),
        ("cidr = ['10.0.0.0/8'], host = ['a.b']", "cidr = ['10.1.0.0/16']", false),
        ("host = ['a.b']", "host = ['a.b'], cidr = ['10.0.0.0/8']", false),
        ("host = ['a.b']", "host = ['a.b'], port = [6432]", false),
        ("host = ['a.b'], port = [5432, 6432]", "host = ['a.b'], port = [6432]", true),
    ];
    for (first, second, hidden) in pairs {
        let parsed = parse(&(target("x", first, "") + &target("y", second, "")));
        assert_eq!(parsed.is_err(), hidden, "{first} / {second}");
    }
}

#[test]
fn what_an_entry_demands_of_tls_must_be_proven() {
    let pin = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; // of "hello"
    let catalog = |selector: &str, tls: &str| parse(&target("db", selector, &format!("tls = {{ {tls} }}"))).unwrap();
    let pinned = format!("pins = ['{pin}']");
    let both = format!("ca = 'ca.pem', {pinned}");
    let (network, host) = ("cidr = ['10.0.0.0/8']", "host = ['db.corp']");
    // The match, what is demanded; allowed in clear, verified, pinned, and with neither.
    let cases = [
        (network, "", [true, true, true, true]),
        (network, "ca = 'ca.pem'", [false, true, false, false]),
        (network, pinned.as_str(), [false, false, true, false]),
        (network, both.as_str(), [false, true, true, false]),
        (host, pinned.as_str(), [false, false, true, false]),
        (host, "", [false, false, false, false]),
    ];
    let claimed = name("db.corp", Proof::Claimed);
    for (selector, tls, wanted) in cases {
        let catalog = catalog(selector, tls);
        let found = catalog.find("10.0.0.1:5432".parse().unwrap(), Some(&claimed), "postgres").unwrap();
        let authority = found.entry.tls.ca.as_deref();
        let channels = [
            Channel::Clear,
            Channel::Tls { certificate: b"other", verified: true, authority },
            Channel::Tls { certificate: b"hello", verified: false, authority },
            Channel::Tls { certificate: b"other", verified: false, authority },
        ];
        assert_eq!(channels.map(|channel| found.may_lease_on(channel).is_ok()), wanted, "{selector} {tls}");
    }
}

#[test]
fn an_authority_vouches_for_the_entry_that_names_it_alone() {
    let text = target("a", "host = ['db.corp']", "tls = { ca = 'a.pem' }") + &target("b", "host = ['*.corp']", "");
    let catalog = parse(&text).unwrap();
    let (of_a, of_c) = (Path::new("/etc/crewtap/a.pem"), Path::new("/etc/crewtap/c.pem"));
    // The name that is proven, and by whom; whether its entry's credential follows.
    let cases = [
        ("db.corp", Some(of_a), true),
        ("db.corp", Some(of_c), false),
        ("db.corp", None, false),
        ("x.corp", None, true),
        ("x.corp", Some(of_a), false),
    ];
    for (host, authority, may) in cases {
        let name = name(host, Proof::Certificate);
        let found = catalog.find("10.0.0.1:5432".parse().unwrap(), Some(&name), "postgres").unwrap();
        let channel = Channel::Tls { certificate: b"it", verified: true, authority };
        assert_eq!(found.may_lease_on(channel).is_ok(), may, "{host} {authority:?}");
        // A proof that came from elsewhere is no proof for a connection in clear.
        assert!(found.may_lease_on(Channel::Clear).is_err());
    }
}

#[test]
fn a_secret_goes_in_clear_only_to_a_target_that_has_proven_itself() {
    let certificate = b"hello";
    let pins = "tls = { pins = ['2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'] }";
    let ca = "tls = { ca = 'a.pem' }";
    let (named, address) = ("host = ['*.corp']", "cidr = ['10.0.0.0/8']");
    let of_a = Some(Path::new("/etc/crewtap/a.pem"));
    // What the entry says, whether and by whom the certificate is verified for the name x.corp, and whether it is enough.
    let cases = [
        (named, "", true, None, true),
        (named, "", false, None, false),
        (address, "", true, None, false),
        (address, ca, true, of_a, true),
        (address, ca, true, None, false),
        (named, ca, false, of_a, false),
        (address, pins, false, None, true),
    ];
    for (selector, tls, verified, authority, enough) in cases {
        let catalog = parse(&target("a", selector, tls)).unwrap();
        let name = name("x.corp", Proof::Certificate);
        let found = catalog.find("10.0.0.1:5432".parse().unwrap(), Some(&name), "postgres").unwrap();
        let channel = Channel::Tls { certificate, verified, authority };
        assert_eq!(found.has_proven_itself(channel), enough, "{selector} {tls} {verified}");
        assert!(!found.has_proven_itself(Channel::Clear));
    }
}

proptest! {
    /// Whatever is written and whatever is claimed: without a proof, only an address that the entry names allows a lease.
    #[test]
    fn no_claim_ever_selects_a_credential(
        entries in proptest::collection::vec((0usize..4, 0usize..4), 1..5),
        address in 0u32..8,
        host in 0usize..4,
        proof in prop_oneof![Just(Proof::Claimed), Just(Proof::Dns)],
    ) {
        let hosts = ["", "host = ['a.corp']", "host = ['*.corp']", "host = ['b.a.corp', 'a.corp']"];
        let networks = ["", "cidr = ['10.0.0.0/30']", "cidr = ['10.0.0.4/31']", "cidr = ['10.0.0.0/8']"];
        let text: String = entries
            .iter()
            .enumerate()
            .map(|(at, (host, network))| {
                let parts = [hosts[*host], networks[*network]];
                let given: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                target(&format!("t{at}"), &given.join(", "), "credential = { user = 'u' }")
            })
            .collect();
        let Ok(catalog) = parse(&text) else { return Ok(()) };
        let name = name(["a.corp", "b.a.corp", "c.corp", "corp"][host], proof);
        let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + address));
        if let Some(found) = catalog.find(SocketAddr::new(ip, 5432), Some(&name), "postgres") {
            let named = found.entry.networks.iter().any(|network| network.contains(ip));
            prop_assert_eq!(found.may_lease().is_ok(), named);
            prop_assert_eq!(found.may_lease_on(Channel::Clear).is_ok(), named);
            prop_assert_eq!(found.may_lease_on(Channel::Tls { certificate: b"x", verified: false, authority: None }).is_ok(), named);
        }
    }

    /// No text makes the parser panic, and what it takes it takes again.
    #[test]
    fn any_text_is_parsed_or_refused(text in "(\\[target\\.[a-z]\\]\n|match = \\{ (host|cidr) = \\['[a-z0-9.*:/]{0,12}'\\] \\}\n|protocol = 'postgres'\n|[ -~]{0,20}\n){0,6}") {
        let first = parse(&text);
        prop_assert_eq!(parse(&text), first);
    }
}

/// A captured process chooses the name server that it asks: what was only looked up makes things stricter, never looser, and
/// counts for nothing once the target could have proven it.
#[test]
fn a_name_that_was_only_looked_up_makes_a_mode_stricter_never_looser() {
    let of = |mode: &str| parse(&target("db", "host = ['db.corp']", &format!("mode = '{mode}'"))).unwrap();
    let mode = |catalog: &Catalog, proof, opened, run| {
        let target = Target { address: "192.0.2.1:5432".parse().unwrap(), name: Some(name("db.corp", proof)) };
        catalog.resource(&target, "postgres", opened).map(|found| found.mode(run))
    };
    let (record, enforce) = (of("record"), of("enforce"));
    assert_eq!(mode(&record, Proof::Dns, false, Mode::Enforce), Some(Mode::Enforce));
    assert_eq!(mode(&enforce, Proof::Dns, false, Mode::Record), Some(Mode::Enforce));
    assert_eq!(mode(&record, Proof::Certificate, true, Mode::Enforce), Some(Mode::Record));
    assert_eq!(mode(&record, Proof::Dns, true, Mode::Enforce), None, "its certificate proved nothing");
    assert_eq!(mode(&record, Proof::Claimed, false, Mode::Enforce), None);
}

mod ssh;
