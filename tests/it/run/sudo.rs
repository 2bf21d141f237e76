//! Through real sudo, as a real user: a private mount namespace has a user and a sudoers file of its own, so
//! that nothing on the host is changed.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::bare::{Store, has, is_root};
use super::pty::Terminal;

const USER: &str = "crewtap-test";

/// Run as root in a fresh mount namespace: `$1` a directory to work in, `$2` lines for sudoers, the rest a
/// command that the user runs.
const AS_USER: &str = r#"
set -e
dir=$1 lines=$2; shift 2
mkdir "$dir/sudoers.d"
cp /etc/passwd /etc/group /etc/shadow "$dir"
echo 'crewtap-test:x:43210:43210::/home/crewtap-test:/bin/bash' >>"$dir/passwd"
echo 'crewtap-test:x:43210:' >>"$dir/group"
echo 'crewtap-extra:x:43211:crewtap-test' >>"$dir/group"
echo 'crewtap-test:*:19000:0:99999:7:::' >>"$dir/shadow"
printf '%s\n' 'crewtap-test ALL=(ALL) NOPASSWD: ALL' 'Defaults env_reset' \
    'Defaults secure_path=/usr/sbin:/usr/bin:/sbin:/bin' "$lines" >"$dir/sudoers.d/crewtap-test"
chmod 440 "$dir/sudoers.d/crewtap-test"
for file in passwd group shadow sudoers.d; do mount --bind "$dir/$file" "/etc/$file"; done
cd "$dir/project"
exec setpriv --reuid 43210 --regid 43210 --groups 43210,43211 \
    env -i HOME=/home/crewtap-test USER=crewtap-test LOGNAME=crewtap-test TERM=dumb "$@"
"#;

struct Place {
    store: Store,
    dir: tempfile::TempDir,
}

impl Place {
    /// A project with a virtual environment in which there is a program `mycrew`.
    fn new(mycrew: &str) -> Self {
        assert!(is_root(), "these tests need root");
        assert!(has("sudo"), "sudo is not installed");
        let dir = tempfile::tempdir().unwrap();
        open(&dir.path().to_path_buf(), 0o755);
        let bin = dir.path().join("project/.venv/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("mycrew"), format!("#!/bin/sh\n{mycrew}\n")).unwrap();
        for path in ["project", "project/.venv", "project/.venv/bin", "project/.venv/bin/mycrew"] {
            open(&dir.path().join(path), 0o755);
        }
        Self { store: Store::new(), dir }
    }

    fn run(&self) -> String {
        self.store.crewtap("run")
    }

    fn words(&self, sudoers: &str, command: &[&str]) -> Vec<String> {
        let venv = self.dir.path().join("project/.venv");
        let fixed = [
            "unshare".to_owned(),
            "--mount".into(),
            "--propagation=private".into(),
            "bash".into(),
            "-c".into(),
            AS_USER.into(),
            "setup".into(),
            self.dir.path().display().to_string(),
            sudoers.into(),
            format!("VIRTUAL_ENV={}", venv.display()),
            format!("PATH={}/bin:/usr/bin:/bin", venv.display()),
            "OPENAI_API_KEY=sk-from-the-shell".into(),
        ];
        fixed.into_iter().chain(command.iter().map(|word| (*word).to_owned())).collect()
    }

    fn user_runs(&self, sudoers: &str, script: &str) -> Output {
        let words = self.words(sudoers, &["bash", "-c", script]);
        Command::new(&words[0]).args(&words[1..]).output().unwrap()
    }
}

fn open(path: &PathBuf, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn text(output: &Output) -> (String, String) {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (lossy(&output.stdout), lossy(&output.stderr))
}

const SHOW: &str = "id -un; id -G; echo $VIRTUAL_ENV $OPENAI_API_KEY $HOME; echo $PATH; pwd; umask; \
    ulimit -n; nice; env | grep -c ^SUDO_; echo \"$@\"";

#[test]
fn the_command_is_what_it_would_have_been_without_sudo() {
    for sudoers in ["Defaults use_pty", "Defaults !use_pty"] {
        let place = Place::new(SHOW);
        let settings = "umask 007; ulimit -n 321; renice -n 4 $$ >/dev/null";
        let script = format!("{settings}; mycrew 'a b' c; echo ---; sudo {} -q -- mycrew 'a b' c; true", place.run());
        let (out, err) = text(&place.user_runs(sudoers, &script));
        let (plain, captured) = out.split_once("---\n").unwrap_or_else(|| panic!("{out}{err}"));
        assert_eq!(captured, plain, "{err}");
        assert!(plain.starts_with(&format!("{USER}\n43210 43211\n")), "{plain}");
        let start = &place.store.requests()[0];
        assert_eq!(start["start"]["uid"], 43210);
        assert_eq!(start["identity"]["name"], USER);
        assert_eq!(start["identity"]["basis"]["sudo_user"], USER);
    }
}

#[test]
fn the_limit_of_core_files_is_the_users_where_root_may_raise_it() {
    let place = Place::new("ulimit -c");
    let script = format!("ulimit -c 9; sudo {} -q -- mycrew; true", place.run());
    let (out, err) = text(&place.user_runs("", &script));
    let may = rustix::thread::capability_is_in_bounding_set(rustix::thread::CapabilitySet::SYS_RESOURCE).unwrap();
    assert_eq!(out, if may { "18\n" } else { "0\n" }, "{err}");
}

#[test]
fn what_is_given_to_sudo_and_what_it_runs_in_between_changes_nothing_else() {
    let place = Place::new("echo $OPENAI_API_KEY/$EXTRA/$(id -un)");
    let run = place.run();
    let script = format!(
        "sudo EXTRA=x OPENAI_API_KEY=sk-other {run} -q -- mycrew; sudo sh -c '{run} -q -- mycrew; true'; \
         sudo {run} -q --user root -- mycrew; sudo -u nobody {run} -q -- mycrew; {run} -q -- mycrew; echo $?"
    );
    let (out, err) = text(&place.user_runs("", &script));
    let (user, key) = (USER, "sk-from-the-shell");
    assert_eq!(out, format!("sk-other/x/{user}\n{key}//{user}\n{key}//root\n125\n"), "{err}");
    assert!(err.contains("capturing needs root; the command still runs as you: sudo crewtap run -- mycrew"));
}

#[test]
fn a_forged_sudo_uid_is_not_believed() {
    let place = Place::new("id -un");
    let script = format!("sudo env SUDO_UID=0 {} -q -- mycrew; echo $?", place.run());
    let (out, err) = text(&place.user_runs("", &script));
    assert_eq!(out, "125\n");
    assert!(err.contains("SUDO_UID says 0, but sudo was started by uid 43210"), "{err}");
}

#[test]
fn the_users_loader_variables_do_not_reach_any_program_of_root() {
    let place = Place::new("env | grep ^LD_");
    let trap = place.dir.path().join("project/trap.so");
    let code = "#include <stdio.h>\n#include <unistd.h>\n__attribute__((constructor)) static void f(void){ \
        if (geteuid() == 0) { FILE *o = fopen(TRAP, \"w\"); if (o) fclose(o); } }";
    let source = place.dir.path().join("trap.c");
    std::fs::write(&source, code).unwrap();
    let sprung = place.dir.path().join("sprung");
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&trap)
        .arg(format!("-DTRAP=\"{}\"", sprung.display()))
        .arg(&source)
        .status()
        .unwrap();
    assert!(built.success());
    let script = format!("export LD_PRELOAD={}; sudo {} -q -- mycrew", trap.display(), place.run());
    let (out, err) = text(&place.user_runs("", &script));
    assert_eq!(out, format!("LD_PRELOAD={}\n", trap.display()), "{err}");
    assert!(!sprung.exists());
}

/// A terminal on which the user has an interactive shell.
fn terminal(place: &Place, sudoers: &str) -> Terminal {
    let words = place.words(sudoers, &["PS1=<>", "bash", "--norc", "--noprofile", "-i"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut terminal = Terminal::start(&words, |_| {});
    terminal.expect("<>");
    terminal
}

#[test]
fn the_terminal_works_through_sudo() {
    for sudoers in ["Defaults use_pty", "Defaults !use_pty"] {
        let place = Place::new("echo u\"\"p; read line; echo \"g\"ot-$line; exit 6");
        let mut terminal = terminal(&place, sudoers);
        let run = place.run();
        terminal.line(&format!("sudo {run} -q -- mycrew"));
        terminal.expect("up\r\n");
        terminal.keys("\x03");
        terminal.expect("<>");
        terminal.line("echo 's'tatus=$?.");
        terminal.expect("status=130.");

        terminal.line(&format!("sudo {run} -q -- mycrew"));
        terminal.expect("up\r\n");
        terminal.keys("\x1a");
        terminal.expect("Stopped");
        terminal.expect("<>");
        terminal.line("fg");
        terminal.line("hello");
        terminal.expect("got-hello");
        terminal.expect("<>");
        terminal.line("echo 's'tatus=$?.");
        terminal.expect("status=6.");
        terminal.line(&format!("sudo {run} -q -- sh -c 'kill -TERM $$'; echo 's'tatus=$?."));
        terminal.expect("status=143.");
    }
}

#[test]
fn who_types_in_a_root_shell_of_sudo_is_root_there() {
    let place = Place::new("true");
    let mut terminal = terminal(&place, "Defaults use_pty");
    terminal.line("sudo env PS1='[ro''ot]' bash --norc --noprofile -i");
    terminal.expect("[root]");
    terminal.line(&format!("export MINE=yes; {} -q -- sh -c 'echo \"w\"ho=$(id -un)/$MINE.'", place.run()));
    terminal.expect("who=root/yes.");
    terminal.line("exit");
    terminal.expect("<>");
    // It is still on record who became root.
    assert_eq!(place.store.requests()[0]["identity"]["basis"]["sudo_user"], USER);
}
