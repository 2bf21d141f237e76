//! The servers that these tests stand on: both releases serve every way of logging in, and tell what they were asked.
//! Without crewtap.

use std::path::Path;
use std::process::Command;

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::postgres::{ANSWER, Certificates, DATABASE, DRIVERS, PASSWORD, Postgres, Release, user};
use crewtap_tests::world::postgres_18;

fn psql(host: &Host, server: &Postgres, user: &str, more: &str) -> Command {
    let mut psql = host.command("psql");
    let place = format!("host=127.0.0.1 port={} dbname={DATABASE} user={user} {more}", server.port());
    psql.args(["-X", "-A", "-t", "-c", "SELECT name\nFROM customers WHERE id = 1", &place]);
    psql.env("PGPASSWORD", PASSWORD).env("HOME", "/nonexistent");
    psql
}

/// Debian's psql with the library of PostgreSQL 18.
fn newest(mut psql: Command) -> Command {
    psql.env("LD_LIBRARY_PATH", postgres_18().join("lib"));
    psql
}

fn log_in_everywhere(host: &Host, server: &Postgres, root: &Path, certified: &str) {
    let verified = format!("sslmode=verify-full sslrootcert={}", root.display());
    for user in [user::TRUSTED, user::CLEAR, user::MD5, user::SCRAM] {
        for tls in ["sslmode=disable", &verified] {
            let said = succeeded(&psql(host, server, user, tls).output().unwrap());
            assert_eq!(said, "Ada Lovelace\n", "{user} {tls}");
        }
    }
    assert_eq!(succeeded(&psql(host, server, user::SECURED, &verified).output().unwrap()), "Ada Lovelace\n");
    assert!(!psql(host, server, user::SECURED, "sslmode=disable").output().unwrap().status.success());
    let with_certificate = format!("{verified} {certified}");
    assert_eq!(succeeded(&psql(host, server, user::CERTIFIED, &with_certificate).output().unwrap()), "Ada Lovelace\n");
    let mut wrong = psql(host, server, user::MD5, "sslmode=disable");
    assert!(!wrong.env("PGPASSWORD", "wrong").output().unwrap().status.success(), "any password does");
}

#[test]
fn both_releases_serve_every_way_of_logging_in() {
    let host = Host::new();
    let certificates = Certificates::new(&host.path("certificates"));
    let shown = certificates.leaf("pg.target.test", "sha384");
    let client = certificates.client(user::CERTIFIED);
    let certified = format!("sslcert={} sslkey={}", client.chain.display(), client.key.display());
    for (release, port) in Release::ALL.into_iter().zip([5432, 5433]) {
        let wanted = Postgres::on(&host).release(release).port(port).tls(&shown);
        let server = wanted.client_authority(&certificates.root()).start();
        log_in_everywhere(&host, &server, &certificates.root(), &certified);
        let wanted = vec!["SELECT name\nFROM customers WHERE id = 1"; 10];
        assert_eq!(server.statements(), wanted, "{release:?}");
        assert_eq!(server.connections(), 12, "{release:?}");
        assert_eq!(server.query("SELECT count(*), sum(amount) FROM orders"), "4|6550.01");
        let version: u32 = server.query("SHOW server_version_num").parse().unwrap();
        assert_eq!(version >= 180_000, release == Release::Eighteen, "{release:?} is {version}");
    }
}

#[test]
fn eighteen_speaks_direct_tls_and_the_newest_protocol() {
    let host = Host::new();
    let certificates = Certificates::new(&host.path("certificates"));
    let shown = certificates.leaf("pg.target.test", "sha256");
    let server = Postgres::on(&host).release(Release::Eighteen).tls(&shown).start();
    let direct = "sslmode=require sslnegotiation=direct min_protocol_version=3.2 channel_binding=require";
    let output = newest(psql(&host, &server, user::SCRAM, direct)).output().unwrap();
    assert_eq!(succeeded(&output), "Ada Lovelace\n");
    drop(server);
    let old = Postgres::on(&host).tls(&shown).start();
    let refused = newest(psql(&host, &old, user::SCRAM, direct)).output().unwrap();
    assert!(!refused.status.success(), "PostgreSQL 15 took direct TLS: {}", text(&refused));
}

#[test]
fn every_driver_logs_in_directly() {
    let host = Host::new();
    let certificates = Certificates::new(&host.path("certificates"));
    let server = Postgres::on(&host).tls(&certificates.leaf("pg.target.test", "sha256")).start();
    let root = certificates.root();
    for driver in DRIVERS {
        for user in [user::MD5, user::SCRAM] {
            for sslmode in ["disable", "verify-full"] {
                let mut command = driver.direct(&host, &server, user, (sslmode, &root));
                let output = command.output().unwrap();
                assert_eq!(succeeded(&output), ANSWER, "{} {user} {sslmode}", driver.name);
            }
        }
    }
    assert_eq!(server.statements().iter().filter(|text| text.contains("FROM customers WHERE id")).count(), 20);
}

#[test]
fn a_server_ends_with_its_value() {
    let host = Host::new();
    let server = Postgres::on(&host).start();
    let (pid, home) = (server.pid(), server.home().to_owned());
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    assert!(!home.exists(), "{} is still there", home.display());
}
