//! Known hosts in a run: OpenSSH, paramiko and asyncssh find crewtap's keys where the user's and the host's files had others,
//! and nothing of it is left on the host.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::cache_dir;

use super::ground::{ADDRESS, Ground, PORT, new_key, ssh_keygen};
use crate::overlay::on_the_host;

/// Until what the agent does behind the end of a run is done.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_hosts_file_names_the_authority_where_there_was_none_and_all_else_in_its_directory_stays() {
    let ground = Ground::new();
    std::fs::write(ground.host.path("etc-ssh/secret"), "of root\n").unwrap();
    std::fs::set_permissions(ground.host.path("etc-ssh/secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("secret", ground.host.path("etc-ssh/link")).unwrap();
    std::fs::write(ground.host.path("etc-ssh/ssh_config.d/own.conf"), "# own\n").unwrap();
    let script = "cat /etc/ssh/ssh_known_hosts; stat -c '%n %U %a' /etc/ssh /etc/ssh/secret; cat /etc/ssh/link \
                  /etc/ssh/ssh_config.d/own.conf; echo more >>/etc/ssh/secret; ls /etc/ssh; touch /etc/ssh/new 2>&1";
    let shown = text(&ground.run(script));
    let (_, authority) = ground.ours();
    assert!(shown.contains(&format!("@cert-authority * {authority} crewtap\n")), "{shown}");
    for wanted in ["/etc/ssh root 755", "/etc/ssh/secret root 600", "of root\n# own\n", "Read-only file system"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(shown.contains("link\nsecret\nssh_config\nssh_config.d\nssh_known_hosts\n"), "{shown}");
    assert!(!ground.host.path("etc-ssh/ssh_known_hosts").exists(), "left on the host");
    let secret = std::fs::read_to_string(ground.host.path("etc-ssh/secret")).unwrap();
    assert_eq!(secret, "of root\nmore\n", "what was there is the original, not a copy");
    assert_eq!(on_the_host(), [""; 0]);
}

#[test]
fn clients_find_our_keys_where_the_users_file_had_others() {
    let ground = Ground::new();
    let real = new_key(&ground.host.path("real"), "ed25519");
    let rsa = new_key(&ground.host.path("rsa"), "rsa");
    let own = format!("[{ADDRESS}]:{PORT} {real}\n[{ADDRESS}]:{PORT} {rsa}\n@cert-authority *.corp.test {real}\n");
    std::fs::write(ground.own(), format!("hashed.test {real}\n")).unwrap();
    ssh_keygen(&["-q", "-H", "-f", ground.own().to_str().unwrap()]);
    let hashed = std::fs::read_to_string(ground.own()).unwrap();
    let original = format!("{hashed}{own}");
    std::fs::write(ground.own(), &original).unwrap();
    std::fs::write(ground.host.path("etc-ssh/ssh_known_hosts"), format!("@revoked * {rsa}\nglobal.test {real}\n"))
        .unwrap();

    let python = cache_dir().join("clients/.venv/bin/python");
    let program = format!(
        "import asyncssh, paramiko\nhosts = paramiko.hostkeys.HostKeys('/root/.ssh/known_hosts')\n\
         for name in ('hashed.test', '[{ADDRESS}]:{PORT}'):\n    found = hosts.lookup(name)\n    \
         print('paramiko', name, sorted({{f'{{key}} {{found[key].get_base64()}}' for key in found.keys()}}))\n\
         known = asyncssh.read_known_hosts('/root/.ssh/known_hosts')\n\
         for name, port in (('hashed.test', None), ('{ADDRESS}', {PORT}), ('x.corp.test', None)):\n    \
         found = known.match(name, name if name[0] == '1' else '', port)\n    \
         print('asyncssh', name, sorted({{key.export_public_key().decode().strip() for key in found[0]}}), len(found[1]), len(found[2]))\n"
    );
    let file = ground.host.path("clients.py");
    std::fs::write(&file, program).unwrap();
    let script = format!(
        "for host in hashed.test '[{ADDRESS}]:{PORT}'; do ssh-keygen -F \"$host\"; done; cat /etc/ssh/ssh_known_hosts; \
         {} {} && echo 'new.test {real}' >>/root/.ssh/known_hosts && grep -c new.test /root/.ssh/known_hosts",
        python.display(),
        file.display()
    );
    let shown = succeeded(&ground.run(&script));
    let (ours, authority) = ground.ours();
    // Theirs stand behind ours, for connections that pass unopened.
    let first = |host: &str| shown.lines().find(|line| line.starts_with(host)).unwrap_or_default().to_owned();
    assert!(
        first(&format!("[{ADDRESS}]:{PORT} ")).ends_with(&ours[0]) && first("global.test ").ends_with(&ours[0]),
        "{shown}"
    );
    let mut sorted = ours.clone();
    sorted.sort();
    let list = format!("[{}]", sorted.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", "));
    for name in ["hashed.test", &format!("[{ADDRESS}]:{PORT}")] {
        assert!(shown.contains(&format!("paramiko {name} {list}")), "{name} {list}\n{shown}");
    }
    for name in ["hashed.test", ADDRESS, "x.corp.test"] {
        let line = first(&format!("asyncssh {name} "));
        assert!(ours.iter().all(|key| line.contains(key.as_str())) && line.ends_with(" 0 0"), "{name} {list}\n{shown}");
    }
    assert_eq!(shown.matches(&format!("[{ADDRESS}]:{PORT} {}", ours[0])).count(), 1, "{shown}");
    assert!(shown.contains(&format!("global.test {}", ours[0])) && shown.contains("@revoked * "), "{shown}");
    assert!(shown.contains(&format!("@cert-authority * {authority}")) && shown.ends_with("\n1\n"), "{shown}");
    assert_eq!(std::fs::read_to_string(ground.own()).unwrap(), original, "the original was written to");
}

#[test]
fn a_command_of_another_user_finds_them_in_its_own_home_and_makes_nobody_elses_writable() {
    let ground = Ground::new();
    std::fs::set_permissions(ground.host.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = new_key(&ground.host.path("real"), "ed25519");
    let (home, foreign) = (ground.host.path("home"), ground.host.path("foreign"));
    for directory in [&home, &foreign] {
        std::fs::create_dir_all(directory.join(".ssh")).unwrap();
        std::fs::write(directory.join(".ssh/known_hosts"), format!("a.test {real}\n")).unwrap();
    }
    std::os::unix::fs::chown(home.join(".ssh/known_hosts"), Some(65_534), Some(65_534)).unwrap();
    let inner = ground.host.path("inner");
    let look = "ssh-keygen -F a.test -f $HOME/.ssh/known_hosts; echo b >>$HOME/.ssh/known_hosts || echo closed";
    std::fs::write(&inner, look).unwrap();
    // Root first, whose own that home is not: it must not keep the user from it.
    let script = format!(
        "HOME={home} setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'sh {inner}; HOME={foreign} sh {inner}'",
        home = home.display(),
        foreign = foreign.display(),
        inner = inner.display()
    );
    let output = ground.run(&script);
    let (ours, _) = ground.ours();
    let shown = text(&output);
    let (own, other) = (format!("a.test {}", ours[0]), format!("a.test {real}"));
    assert!(shown.find(&own).unwrap() < shown.find(&other).unwrap(), "{shown}");
    // Once where they are laid, behind ours, and once where they are as they were.
    assert_eq!((shown.matches(&own).count(), shown.matches(&other).count()), (1, 2), "{shown}");
    assert_eq!(shown.matches("\nclosed\n").count(), 1, "{shown}");
    for directory in [home, foreign] {
        let left = std::fs::read_to_string(directory.join(".ssh/known_hosts")).unwrap();
        assert_eq!(left, format!("a.test {real}\n"), "the original was written to");
    }
}

#[test]
fn openssh_takes_our_certificate_and_our_plain_keys_and_nothing_is_noted_for_good() {
    let mut ground = Ground::new();
    ground.known_server();
    let original = std::fs::read_to_string(ground.own()).unwrap();
    let named = ground.host.path("named");
    std::fs::write(&named, &original).unwrap();
    // Also who wants no certificate, and who reads other files.
    for more in [
        "",
        "-o HostKeyAlgorithms=ssh-ed25519",
        &format!("-o GlobalKnownHostsFile=none -o UserKnownHostsFile={}", named.display()),
    ] {
        let shown = text(&ground.run(&format!("ssh -o StrictHostKeyChecking=yes {more} t echo in")));
        assert!(shown.contains("\nin\n"), "{more}: {shown}");
    }
    assert_eq!(std::fs::read_to_string(ground.own()).unwrap(), original);

    // A host that nobody knows: refused by the strict, noted by the others, but not on the host.
    std::fs::remove_file(ground.own()).unwrap();
    let shown = text(&ground.run("ssh -o StrictHostKeyChecking=yes t echo in"));
    assert!(shown.contains("Host key verification failed"), "{shown}");
    let noted = "ssh -o StrictHostKeyChecking=accept-new t echo in; cat /root/.ssh/known_hosts";
    let shown = text(&ground.run(noted));
    assert!(shown.contains("\nin\n") && shown.contains(&format!("[{ADDRESS}]:{PORT} ssh-ed25519 ")), "{shown}");
    eventually("the key stays on the host", || !ground.own().exists());
    let shown = text(&ground.run("ssh -oGlobalKnownHostsFile=/etc/passwd -V; grep -c cert-authority /etc/passwd"));
    assert!(shown.contains("\n0\n"), "a line was added to a file that is none of known hosts: {shown}");
    assert_eq!(on_the_host(), [""; 0]);
}
