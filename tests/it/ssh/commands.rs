//! Commands and shells, from the client's request to the record.

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::cache_dir;

use super::ground::{ADDRESS, Ground, PORT, new_key};

/// Of a test range; passes the check of cards.
const CARD: &str = "4012888888881881";

fn python() -> String {
    cache_dir().join("clients/.venv/bin/python").display().to_string()
}

#[test]
fn a_command_is_on_record_with_what_it_said_and_how_it_ended() {
    let mut ground = Ground::new();
    ground.known_server();
    let shown = text(&ground.run("echo typed | ssh t 'cat; echo hello; echo oops >&2; exit 3'; echo rc=$?"));
    assert!(shown.contains("typed\nhello\n") && shown.contains("oops") && shown.contains("rc=3"), "{shown}");
    let exchanges = ground.exchanges();
    let [login, exec] = &exchanges[..] else { panic!("{exchanges:?}") };
    assert_eq!((login["verb"].as_str(), login["outcome"].as_str()), (Some("LOGIN"), Some("success")));
    assert_eq!(login["facts"]["host_key_trust"], "known_hosts", "{login}");
    assert_eq!(login["facts"]["method"], "publickey");
    assert_eq!(exec["verb"], "EXEC");
    assert_eq!(exec["subject"], "cat; echo hello; echo oops >&2; exit 3");
    assert_eq!((exec["outcome"].as_str(), exec["code"].as_str()), (Some("failure"), Some("3")));
    let shown = ground.shown(exec);
    for said in ["typed", "hello", "oops"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let found = ground.host.json(&["search", "verb:EXEC", "oops"]);
    assert!(found.iter().any(|row| row["n"] == 2 && row["verb"] == "EXEC"), "{found:?}");
    ground.host.verify();
}

#[test]
fn a_host_key_that_has_changed_ends_the_connection_before_anything_is_said() {
    let mut ground = Ground::new();
    ground.known_server();
    let other = ground.host.path("other");
    new_key(&other, "ed25519");
    ground.serve(&[other], &[]);
    let shown = text(&ground.run("ssh -o StrictHostKeyChecking=no t true; echo rc=$?"));
    assert!(shown.contains("rc=255") && shown.contains("is refused: it is known by another one"), "{shown}");
    let notes = ground.notes();
    assert!(notes.contains("hostkey_changed"), "{notes}");
    assert!(ground.exchanges().is_empty(), "nothing was said to it");
}

#[test]
fn a_host_that_nobody_vouches_for_is_the_clients_to_decide() {
    let mut ground = Ground::new();
    ground.known_server();
    std::fs::write(ground.own(), "").unwrap();
    let shown = text(&ground.run("ssh -o StrictHostKeyChecking=yes t true; ssh -o StrictHostKeyChecking=no t echo in"));
    assert!(
        shown.contains("Host key verification failed") && shown.ends_with("in\n") || shown.contains("\nin\n"),
        "{shown}"
    );
    assert!(ground.notes().contains("hostkey_unverified"));
}

#[test]
fn a_key_that_the_target_does_not_take_lets_nobody_in() {
    let mut ground = Ground::new();
    ground.known_server();
    std::fs::write(ground.host.path("authorized"), "").unwrap();
    let shown = text(&ground.run("ssh t echo in; echo rc=$?"));
    assert!(shown.contains("Permission denied") && shown.contains("rc=255"), "{shown}");
    let exchanges = ground.exchanges();
    assert_eq!((exchanges.len(), exchanges[0]["outcome"].as_str()), (1, Some("failure")), "{exchanges:?}");
    // A key that nobody but the client has: its connection passes unopened the next time.
    let locked = ground.host.path("root/.ssh/locked");
    std::fs::write(ground.host.path("authorized"), new_key(&locked, "ed25519")).unwrap();
    let agent = "eval $(ssh-agent) >/dev/null; ssh-add -q ~/.ssh/locked; mkdir ~/away; mv ~/.ssh/locked ~/.ssh/id_ed25519 ~/away/; \
                 ssh -o IdentityAgent=$SSH_AUTH_SOCK t echo through the agent; kill $SSH_AGENT_PID";
    let shown = text(&ground.run(agent));
    assert!(shown.contains("through the agent"), "{shown}");
    let notes = ground.notes();
    assert!(notes.contains("through the process's agent") && notes.contains("ssh_login_attempt"), "{notes}");
}

#[test]
fn a_key_that_only_the_program_can_open_passes_unopened_the_second_time_and_never_in_enforce() {
    let mut ground = Ground::new();
    ground.known_server();
    let key = ground.host.path("root/.ssh/id_ed25519");
    let script = "ssh-keygen -q -p -P '' -N secret -f ~/.ssh/id_ed25519; printf '#!/bin/sh\necho secret\n' >~/ask; chmod 755 ~/ask; \
                  export SSH_ASKPASS=$HOME/ask SSH_ASKPASS_REQUIRE=force; \
                  for n in one two; do ssh -o BatchMode=no -o NumberOfPasswordPrompts=1 t echo in $n; echo rc=$?; done";
    let shown = text(&ground.run(script));
    assert!(key.exists() && shown.contains("rc=255") && shown.contains("in two\nrc=0"), "{shown}");
    let notes = ground.notes();
    assert!(
        notes.contains("ssh_key_unusable") && notes.contains("it is encrypted") && notes.contains("ssh_unopened"),
        "{notes}"
    );
    let mut ground = Ground::new();
    ground.known_server();
    ground.policy("@id(\"all\") permit (principal, action, resource);");
    ground.configure("policy = 'policy'\n");
    let shown = text(&ground.run(script));
    assert!(!shown.contains("in two") && shown.contains("the connection is refused"), "{shown}");
}

#[test]
fn libraries_log_in_and_run_a_hundred_commands_at_once() {
    let mut ground = Ground::new();
    ground.known_server();
    let program = format!(
        "import asyncio, asyncssh, paramiko\n\
         client = paramiko.SSHClient(); client.load_system_host_keys()\n\
         client.connect('{ADDRESS}', {PORT}, 'root')\n\
         _, out, err = client.exec_command('echo p; echo e >&2; exit 7')\n\
         print(out.read(), err.read(), out.channel.recv_exit_status())\n\
         client.close()\n\
         async def main():\n\
         \x20   async with asyncssh.connect('{ADDRESS}', {PORT}, username='root') as c:\n\
         \x20       done = await asyncio.gather(*(c.run(f'echo {{n}}; exit {{n % 100}}') for n in range(100)))\n\
         \x20       print(sum(d.exit_status == n % 100 and d.stdout == f'{{n}}\\n' for n, d in enumerate(done)))\n\
         \x20       p = await c.create_process('stty size; read x; stty size', term_type='xterm', term_size=(80, 24))\n\
         \x20       print('size', (await p.stdout.readline()).strip())\n\
         \x20       p.change_terminal_size(132, 43); p.stdin.write('x\\n')\n\
         \x20       rest = await p.stdout.read()\n\
         \x20       print('size', rest.split()[-2:])\n\
         asyncio.run(main())\n"
    );
    let file = ground.host.path("clients.py");
    std::fs::write(&file, program).unwrap();
    let shown = succeeded(&ground.run(&format!("{} {}", python(), file.display())));
    assert!(shown.contains("b'p\\n' b'e\\n' 7\n100\nsize 24 80\nsize ['43', '132']\n"), "{shown}");
    let exchanges = ground.exchanges();
    assert_eq!(exchanges.iter().filter(|row| row["verb"] == "EXEC").count(), 102);
    let resized = ground.events("resized");
    assert!(resized.len() == 1 && resized[0].contains("132"), "a replay knows the size: {resized:?}");
    ground.host.verify();
}

#[test]
fn both_directions_at_once_are_whole_and_do_not_wait_for_each_other() {
    let mut ground = Ground::new();
    ground.known_server();
    let big = ground.host.path("root/big");
    let bytes: Vec<u8> = (0..60_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    std::fs::write(&big, bytes).unwrap();
    let script =
        "cd ~; ssh t cat <big >back && cmp big back && ssh t 'cat; cat' <big | cmp - big && echo whole; rm back";
    let shown = succeeded(&ground.run(script));
    assert!(shown.contains("whole"), "{shown}");
    ground.host.verify();
}

#[test]
fn cards_are_masked_in_commands_output_input_terminals_and_file_names() {
    let mut ground = Ground::new();
    ground.known_server();
    let (one, two) = CARD.split_at(7);
    let script = format!(
        "a={one}; b={two}; ssh t \"echo said $a$b; cat; echo err $a$b >&2\" <<EOF\ntyped $a$b\nEOF\n\
         cd ~; echo $a$b >card; printf \"put card {place}/$a$b.txt\\nrm {place}/$a$b.txt\\n\" | sftp -q -b - t; \
         ssh -tt t \"echo term $a$b\" </dev/null",
        place = ground.host.path("root").display()
    );
    let shown = text(&ground.run(&script));
    assert!(
        shown.contains(&format!("said {CARD}")) && shown.contains(&format!("term {CARD}")),
        "clients see it: {shown}"
    );
    assert!(!ground.holds(CARD), "it is somewhere in the store");
    assert!(ground.holds("said ****"), "the rest is on record");
    assert!(ground.events("masked").len() > 5);
}

#[test]
fn credentials_in_commands_and_variables_are_not_recorded_and_policies_still_see_them() {
    const CANARY: &str = "hunter2canary";
    let mut ground = Ground::new();
    ground.known_server();
    ground.policy(
        "@id(\"all\") permit (principal, action, resource);\n\
         @id(\"seen\") forbid (principal, action == Action::\"exec\", resource)\n\
         when { context.command like \"*seen*hunter2*\" };\n",
    );
    ground.configure("mode = 'shadow'\npolicy = 'policy'\n");
    let script = format!(
        "export DB_PASSWORD={CANARY}; ssh -o SendEnv=DB_PASSWORD t 'PGPASSWORD={CANARY} true; echo plain'; \
         ssh t 'true --password {CANARY} && echo second'; ssh t 'true seen --token={CANARY}'; ssh t 'mysql -pseen{CANARY}; true'"
    );
    let shown = text(&ground.run(&script));
    assert!(shown.contains("plain") && shown.contains("second"), "{shown}");
    assert!(!ground.holds(CANARY), "it is somewhere in the store");
    let notes = ground.notes();
    assert!(notes.contains("the client sets DB_PASSWORD=[redacted:"), "{notes}");
    let commands: Vec<_> = ground.exchanges().into_iter().filter(|row| row["verb"] == "EXEC").collect();
    let subjects: Vec<&str> = commands.iter().map(|row| row["subject"].as_str().unwrap()).collect();
    assert!(subjects[0].starts_with("PGPASSWORD=[redacted:") && subjects[0].ends_with("; echo plain"), "{subjects:?}");
    for (row, is_seen) in commands.iter().zip([false, false, true, true]) {
        let facts = row["facts"]["command"].as_str().unwrap();
        assert!(facts.contains("[redacted:"), "{row}");
        let decided = ground.shown(row);
        assert_eq!(decided.contains("decision   deny"), is_seen, "policies see what is in clear: {decided}");
    }
    ground.host.verify();
}
