//! What the command finds itself to be: its directory, mask, priorities, limits, groups and signals.

use std::process::{Command, Stdio};

use super::bare::{CREWTAP, Store};

/// The same script with and without crewtap must print the same.
fn same(prepare: &str, script: &str) {
    let store = Store::new();
    let output = |prefix: &str| {
        let whole = format!("{prepare}; exec {prefix} sh -c '{script}' name");
        let done = Command::new("bash").args(["-c", &whole]).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{whole}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let plain = output("");
    assert!(!plain.is_empty());
    assert_eq!(output(&format!("{CREWTAP} --data-dir {} run -q --", store.path().display())), plain);
}

#[test]
fn directory_mask_priority_and_limits() {
    same("cd /usr/share; umask 035", "pwd; umask");
    same("ulimit -n 300; ulimit -c 7; ulimit -s 4096", "ulimit -a");
    same("echo 123 > /proc/self/oom_score_adj", "cat /proc/self/oom_score_adj");
    same("renice -n 7 $$ >/dev/null", "nice");
}

#[test]
fn environment_and_arguments() {
    same("export A=b HOME=/x CREWTAP_LOG=trace; unset LANG", "env | grep -v ^_= | sort; echo \"$0\"");
    same("export PATH=/nowhere:$PATH:", "echo \"$PATH\"");
}

#[test]
fn signal_dispositions_and_mask() {
    let script = "grep -E \"^Sig(Blk|Ign)\" /proc/self/status";
    same("true", script);
    same("trap '' PIPE HUP USR1", script);
    same("trap '' CHLD", script);
}

#[test]
fn capabilities_and_session() {
    same("true", "grep -E \"^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)\" /proc/self/status");
    same("true", "cut -d\" \" -f6-8 /proc/self/stat | wc -w");
}

#[test]
fn another_user_gets_what_a_login_would_change_and_nothing_else() {
    let store = Store::new();
    let script = "id -un; id -Gn; echo $HOME $USER $LOGNAME $KEEP";
    let done = Command::new(CREWTAP)
        .arg("--data-dir")
        .arg(store.path())
        .args(["run", "-q", "--user", "daemon", "--", "sh", "-c", script])
        .env("KEEP", "kept")
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "daemon\ndaemon\n/usr/sbin daemon daemon kept\n");
    let hidden = tempfile::tempdir().unwrap();
    std::fs::set_permissions(hidden.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let refused = Command::new(CREWTAP)
        .arg("--data-dir")
        .arg(store.path())
        .args(["run", "-q", "--user", "daemon", "--", "true"])
        .current_dir(hidden.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("daemon may not enter the working directory"));
}
