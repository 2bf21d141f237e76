#![allow(clippy::unwrap_used)]

use super::{NetworkNamespace, from_words, has_ipv4_route, has_ipv6_route, ipv4_addresses, ipv6_addresses, to_words};
use nix::unistd::gettid;
use std::{env, io, net::IpAddr, path::PathBuf, process::Command};

const HEAD: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

#[test]
fn ipv4_routes() {
    assert!(!has_ipv4_route(HEAD));
    assert!(has_ipv4_route(&format!("{HEAD}eth0\t00000000\t010012C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")));
    assert!(!has_ipv4_route(&format!("{HEAD}*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n")), "rejecting");
    assert!(!has_ipv4_route(&format!("{HEAD}lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n")));
}

#[test]
fn ipv6_routes() {
    let zero = "00000000000000000000000000000000";
    let route = |to: &str, flags: &str, device: &str| {
        format!("{to} 40 {zero} 00 {zero} 00000100 00000001 00000000 {flags} {device}\n")
    };
    assert!(has_ipv6_route(&route("20010db8000000000000000000000000", "00000001", "eth0")));
    assert!(!has_ipv6_route(&route("fe800000000000000000000000000000", "00000001", "eth0")));
    assert!(!has_ipv6_route(&route("ff000000000000000000000000000000", "00000001", "eth0")));
    assert!(!has_ipv6_route(&route(zero, "00200200", "lo")));
}

#[test]
fn own_addresses() {
    let trie = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 198.18.0.0
        /24 link UNICAST
Local:
  +-- 127.0.0.0/8 2 0 2
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 127.255.255.255
        /32 link BROADCAST
     |-- 198.18.0.2
        /32 host LOCAL
";
    let expected: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "198.18.0.2".parse().unwrap()];
    assert_eq!(ipv4_addresses(trie), expected);
    let table =
        "20010db8001800000000000000000002 02 40 00 82     out0\n00000000000000000000000000000001 01 80 10 80 lo\n";
    let expected: Vec<IpAddr> = vec!["2001:db8:18::2".parse().unwrap(), "::1".parse().unwrap()];
    assert_eq!(ipv6_addresses(table), expected);
}

#[test]
fn words_and_addresses() {
    for address in ["203.0.113.9", "2001:db8::5", "::1", "127.0.0.1"] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(from_words(to_words(address)), address);
    }
    let mapped = to_words("203.0.113.9".parse().unwrap());
    assert_eq!(mapped, to_words("::ffff:203.0.113.9".parse().unwrap()));
    assert_eq!(mapped[3].to_ne_bytes(), [203, 0, 113, 9]);
}

#[test]
fn the_callers_own_namespace_needs_no_thread() {
    let here = NetworkNamespace::current().unwrap();
    assert_eq!(here.enter(gettid).unwrap(), gettid());
}

/// The next test's process: a user without threads to spare enters its own namespace, and another one.
#[test]
fn without_threads_to_spare() {
    let Ok(other) = env::var("CREWTAP_TEST_NAMESPACE") else { return };
    let other = NetworkNamespace::open(&PathBuf::from(other)).unwrap();
    let here = NetworkNamespace::current().unwrap();
    let id = nix::unistd::Uid::from_raw(60_987);
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NPROC, 1, 1).unwrap();
    nix::unistd::setresuid(id, id, id).unwrap();
    let refused = other.enter(gettid).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "{refused}");
    assert_eq!(here.enter(gettid).unwrap(), gettid());
}

#[test]
fn a_thread_that_cannot_be_made_is_an_error() {
    let name = format!("ct{}threads", std::process::id());
    assert!(Command::new("ip").args(["netns", "add", &name]).status().unwrap().success());
    let test = "capture::netns::tests::without_threads_to_spare";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("CREWTAP_TEST_NAMESPACE", format!("/run/netns/{name}"))
        .output()
        .unwrap();
    assert!(Command::new("ip").args(["netns", "del", &name]).status().unwrap().success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
