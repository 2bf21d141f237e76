//! Credentials of the catalog: the crew gets in without any, and nobody but the target's server ever has them.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::postgres::{Certificates, DATABASE, PASSWORD, Postgres, Release, user};

use super::captured::kept;
use crate::rows::Rows;

const NAME: &str = "pg.target.test";

struct Ground {
    host: Host,
    server: Postgres,
    root: PathBuf,
}

impl Ground {
    fn new(release: Release) -> Self {
        let host = Host::new();
        let certificates = Certificates::new(&host.path("certificates"));
        let server = Postgres::on(&host).release(release).tls(&certificates.leaf(NAME, "sha256")).start();
        let ground = Self { root: certificates.root(), host, server };
        ground.keep(PASSWORD);
        ground
    }

    /// Writes the secret.
    fn keep(&self, secret: &str) {
        std::fs::write(self.secret(), secret).unwrap();
        std::fs::set_permissions(self.secret(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn secret(&self) -> PathBuf {
        self.host.path("secret")
    }

    /// The catalog's only entry: its match, who logs in, and more.
    fn catalog(&self, selector: &str, user: &str, more: &str) {
        let text = format!(
            "[target.shop-db]\nmatch = {{ {selector} }}\nprotocol = 'postgres'\n\
             credential = {{ user = '{user}', secret = 'file:secret' }}\n{more}\n"
        );
        std::fs::write(self.host.path("targets.toml"), text).unwrap();
        std::fs::write(self.host.path("crewtap.toml"), "targets = 'targets.toml'\n").unwrap();
    }

    fn authority(&self) -> String {
        format!("tls = {{ ca = '{}' }}", self.root.display())
    }

    /// A captured psql of a user whom the server does not know, without a password.
    fn psql(&self, more: &str) -> Output {
        self.captured(&[
            "psql",
            "-X",
            "-A",
            "-t",
            "-c",
            "SELECT current_user, name FROM customers WHERE id = 1",
            &Self::place(more),
        ])
    }

    fn place(more: &str) -> String {
        format!("host={NAME} hostaddr=127.0.0.1 port=5432 dbname={DATABASE} user=crew {more}")
    }

    fn captured(&self, words: &[&str]) -> Output {
        let config = self.host.path("crewtap.toml").display().to_string();
        let mut run: Command = self.host.crewtap(&["--config", &config, "run", "-q", "--"]);
        run.args(words).env_remove("PGPASSWORD").env("HOME", "/nonexistent").output().unwrap()
    }

    fn notes(&self) -> Vec<String> {
        let rows = Rows::of_last_run(&self.host);
        rows.table("notes").iter().map(|note| note["code"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_crew_without_a_password_gets_in_and_never_sees_one() {
    for release in Release::ALL {
        let ground = Ground::new(release);
        for (user, sslmode) in [
            (user::SCRAM, "disable"),
            (user::SCRAM, "require"),
            (user::MD5, "disable"),
            (user::CLEAR, "require"),
            (user::SECURED, "require"),
        ] {
            let more = if sslmode == "require" { ground.authority() } else { String::new() };
            ground.catalog("cidr = ['127.0.0.1']", user, &more);
            let output = ground.psql(&format!("sslmode={sslmode}"));
            assert_eq!(succeeded(&output), format!("{user}|Ada Lovelace\n"), "{release:?} {sslmode}");
            assert!(ground.notes().contains(&"injected".to_owned()), "{:?}", ground.notes());
            assert_eq!(kept(&ground.host, PASSWORD), "", "{release:?} {user} {sslmode}");
            // What was searched does hold what it should.
            assert_ne!(kept(&ground.host, "shop-db"), "");
        }
    }
}

#[test]
fn a_name_selects_a_credential_where_the_server_proves_it() {
    let ground = Ground::new(Release::Debian);
    let selector = format!("host = ['{NAME}']");
    ground.catalog(&selector, user::SCRAM, &ground.authority());
    assert_eq!(succeeded(&ground.psql("sslmode=require")), format!("{}|Ada Lovelace\n", user::SCRAM));
}

#[test]
fn a_server_that_nobody_vouches_for_gets_no_credential_by_its_name() {
    let ground = Ground::new(Release::Debian);
    let selector = format!("host = ['{NAME}']");
    ground.catalog(&selector, user::SCRAM, "");
    let refused = ground.psql("sslmode=require");
    assert!(!refused.status.success(), "{}", text(&refused));
    let said = text(&refused);
    assert!(said.contains("crewtap: the target has not proven that it is the one"), "{said}");
    assert!(!said.contains(&ground.secret().display().to_string()), "the client is told where the secret is: {said}");
    assert!(ground.notes().contains(&"credential_withheld".to_owned()), "{:?}", ground.notes());
}

#[test]
fn an_entry_that_names_an_authority_gives_nothing_to_a_connection_in_clear() {
    let ground = Ground::new(Release::Debian);
    ground.catalog("cidr = ['127.0.0.1']", user::SCRAM, &ground.authority());
    let refused = ground.psql("sslmode=disable");
    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(ground.notes().contains(&"credential_withheld".to_owned()), "{:?}", ground.notes());
    assert!(ground.server.statements().is_empty());
}

#[test]
fn a_rotated_secret_counts_from_the_next_session_on() {
    let ground = Ground::new(Release::Debian);
    ground.keep("of yesterday");
    ground.catalog("cidr = ['127.0.0.1']", user::SCRAM, "");
    let script = "psql -X -c 'SELECT 1' \"$1\" 2>&1; umask 077; printf '%s\\n' \"$3\" >\"$2\"; psql -X -A -t -c 'SELECT 2' \"$1\"";
    let secret = ground.secret().display().to_string();
    // One run, hence one agent. The root of this run knows the password: it is its administrator.
    let output = ground.captured(&["sh", "-c", script, "sh", &Ground::place("sslmode=disable"), &secret, PASSWORD]);
    let said = succeeded(&output);
    assert!(said.contains("password authentication failed for user \"scram\"") && said.ends_with("2\n"), "{said}");
}

#[test]
fn a_secret_that_others_can_read_is_not_used() {
    let ground = Ground::new(Release::Debian);
    ground.catalog("cidr = ['127.0.0.1']", user::SCRAM, "");
    std::fs::set_permissions(ground.secret(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = ground.psql("sslmode=disable");
    assert!(text(&refused).contains("the credential of the target cannot be had"), "{}", text(&refused));
    assert!(ground.notes().contains(&"credential_unavailable".to_owned()), "{:?}", ground.notes());
}

#[test]
fn the_catalogs_database_is_the_one_that_is_opened() {
    let ground = Ground::new(Release::Debian);
    ground.catalog("cidr = ['127.0.0.1']", user::SCRAM, "map = { database = 'postgres' }");
    let place = Ground::place("sslmode=disable");
    let output = ground.captured(&["psql", "-X", "-A", "-t", "-c", "SELECT current_database()", &place]);
    assert_eq!(succeeded(&output), "postgres\n");
}
