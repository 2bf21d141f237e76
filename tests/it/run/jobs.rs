//! Job control: what a shell tells of `crewtap run CMD` must be what it tells of CMD.

use std::os::fd::AsRawFd;
use std::process::Command;

use super::bare::{CREWTAP, Store, has, is_root};
use super::pty::{SIZE, Terminal};

const SHELLS: [&[&str]; 3] =
    [&["bash", "--norc", "--noprofile", "-i"], &["dash", "-i"], &["zsh", "-f", "-i", "-o", "nozle"]];

const PROMPT: &str = "<>";

/// Runs a test in every shell, with `$R` standing for `crewtap run -q --`.
fn in_shells(test: impl Fn(&mut Terminal, &Store)) {
    assert!(is_root(), "these tests need root");
    for shell in SHELLS {
        assert!(has(shell[0]), "{} is not installed", shell[0]);
        let store = Store::new();
        let run = store.crewtap("run -q --");
        let mut terminal = Terminal::start(shell, |shell| {
            // Not a shell function or alias: what a user types is expanded like this.
            shell.env("R", run.clone());
        });
        // A prompt that only the shell itself can print.
        terminal.line("PS1='<''>'; export PS1");
        terminal.expect(PROMPT);
        if shell[0] == "zsh" {
            terminal.line("setopt sh_word_split");
        }
        test(&mut terminal, &store);
    }
}

/// Types a command and returns its status, as the shell has it.
fn status(terminal: &mut Terminal, command: &str) -> String {
    // The quotes keep the echo of the typed line apart from what the command prints.
    terminal.line(&format!("{command}; echo 's'tatus=$?."));
    take_status(terminal)
}

fn take_status(terminal: &mut Terminal) -> String {
    terminal.expect("status=");
    terminal.expect(".")
}

/// A command line that ends, with `seen`, when the shell itself has seen a job stop.
fn until_stopped(store: &Store) -> String {
    // Not through a pipe: `jobs` in a subshell has no jobs everywhere.
    let list = store.path().with_file_name("jobs").display().to_string();
    format!("until jobs >{list}; grep -Ei 'stopped|suspended' {list}; do :; done; echo 's'een")
}

#[test]
fn exit_statuses_are_the_commands_own() {
    in_shells(|terminal, _| {
        for (command, expected) in [
            ("true", "0"),
            ("sh -c 'exit 3'", "3"),
            ("sh -c 'exit 125'", "125"),
            ("/etc/passwd", "126"),
            ("/etc", "126"),
            ("no-such-command", "127"),
            ("./no/such/file", "127"),
            ("sh -c 'kill -TERM $$'", "143"),
            ("sh -c 'kill -KILL $$'", "137"),
            ("sh -c 'kill -SEGV $$'", "139"),
            ("sh -c 'kill -PIPE $$'", "141"),
        ] {
            assert_eq!(status(terminal, &format!("$R {command}")), expected, "{command}");
        }
    });
}

#[test]
fn control_c_reaches_the_command_once_and_the_shell_sees_how_it_ended() {
    in_shells(|terminal, _| {
        terminal.line("$R sh -c 'echo u\"\"p; exec sleep 100'");
        terminal.expect("up\r\n");
        terminal.keys("\x03");
        // What is typed before the prompt may be flushed with the interrupt.
        terminal.expect(PROMPT);
        // bash and zsh drop the rest of a line whose command died of SIGINT, as they do without crewtap.
        terminal.line("echo 's'tatus=$?.");
        assert_eq!(take_status(terminal), "130");

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), COUNT).unwrap();
        terminal.line(&format!("$R python3 {}; echo 's'tatus=$?.", file.path().display()));
        terminal.expect("up\r\n");
        terminal.keys("\x03");
        assert_eq!(take_status(terminal), "41");
    });
}

/// Its status tells how often it got the signal, counted until a second after the first time.
const COUNT: &str = "import signal, sys\nn = 0\ndef count(*_):\n  global n\n  n += 1\n  signal.alarm(1)\n\
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(s, count)\n\
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(40 + n))\n\
    print('u' + 'p', flush=True)\nwhile True: signal.pause()\n";

#[test]
fn a_signal_for_the_whole_group_reaches_the_command_once() {
    in_shells(|terminal, store| {
        let file = store.path().with_file_name("count.py").display().to_string();
        std::fs::write(&file, COUNT).unwrap();
        for signal in ["INT", "TERM", "HUP"] {
            terminal.line(&format!("$R python3 {file} &"));
            terminal.expect("up\r\n");
            // The job is a process group; its leader is the wrapper.
            terminal.line(&format!("kill -{signal} %1; wait %1; echo 's'tatus=$?."));
            assert_eq!(take_status(terminal), "41", "{signal} to the group");
            terminal.line(&format!("$R python3 {file} &"));
            terminal.expect("up\r\n");
            terminal.line(&format!("kill -{signal} $!; wait $!; echo 's'tatus=$?."));
            assert_eq!(take_status(terminal), "41", "{signal} to the wrapper");
        }
    });
}

#[test]
fn control_backslash_and_quit() {
    in_shells(|terminal, _| {
        terminal.line("ulimit -c 0");
        terminal.line("$R sh -c 'echo u\"\"p; exec sleep 100'");
        terminal.expect("up\r\n");
        terminal.keys("\x1c");
        terminal.expect(PROMPT);
        terminal.line("echo 's'tatus=$?.");
        assert_eq!(take_status(terminal), "131");
    });
}

#[test]
fn control_z_fg_and_bg() {
    in_shells(|terminal, store| {
        terminal.line("$R sh -c 'echo u\"\"p; read line; echo \"g\"ot-$line; exit 6'");
        terminal.expect("up\r\n");
        terminal.keys("\x1a");
        terminal.expect(PROMPT);
        terminal.line("echo 's'tatus=$?.");
        assert_eq!(take_status(terminal), "148");
        // In the background it wants to read, and is stopped for it: the shell must see that, too.
        terminal.line(&format!("bg; {}", until_stopped(store)));
        terminal.expect("seen\r\n");
        terminal.line("fg; echo 's'tatus=$?.");
        terminal.line("hello");
        terminal.expect("got-hello");
        assert_eq!(take_status(terminal), "6");
    });
}

#[test]
fn a_background_reader_is_stopped_and_goes_on_in_the_foreground() {
    in_shells(|terminal, store| {
        terminal.line("$R sh -c 'echo u\"\"p; read line; echo \"g\"ot-$line; exit 6' &");
        terminal.expect("up\r\n");
        terminal.line(&until_stopped(store));
        terminal.expect("seen\r\n");
        terminal.line("fg");
        terminal.line("hello");
        terminal.expect("got-hello");
        terminal.line("echo 's'tatus=$?.");
        assert_eq!(take_status(terminal), "6");
    });
}

#[test]
fn a_signal_to_the_wrapper_is_passed_on() {
    in_shells(|terminal, _| {
        terminal.line("$R sh -c 'trap \"echo c\"\"aught; exit 9\" TERM; echo u\"\"p; while :; do sleep 0.05; done' &");
        terminal.expect("up\r\n");
        terminal.line("kill $!; wait $!; echo 's'tatus=$?.");
        terminal.expect("caught\r\n");
        assert_eq!(take_status(terminal), "9");
        for signal in ["HUP", "USR1", "USR2", "ALRM", "INT", "QUIT", "WINCH", "RTMIN+3"] {
            let name = if signal == "RTMIN+3" { "37" } else { signal };
            terminal
                .line(&format!("$R bash -c 'trap \"exit 9\" {signal}; echo u\"\"p; while :; do sleep 0.05; done' &"));
            terminal.expect("up\r\n");
            terminal.line(&format!("kill -{name} $!; wait $!; echo 's'tatus=$?."));
            assert_eq!(take_status(terminal), "9", "{signal}");
        }
    });
}

#[test]
fn pipelines_and_standard_streams_are_the_shells() {
    in_shells(|terminal, _| {
        terminal.line("echo data | $R cat | tr a-z A-Z");
        terminal.expect("DATA\r\n");
        terminal.line("yes | $R head -1; $R yes | head -1 >/dev/null; echo 's'tatus=$?.");
        terminal.expect("y\r\n");
        assert_eq!(take_status(terminal), "0");
        terminal.line("$R sh -c 'echo out; echo err >&2' >/dev/null 2>/dev/null; $R sh -c 'echo \"t\"hree >&3' 3>&1");
        terminal.expect("three\r\n");
        assert_eq!(status(terminal, "$R sh -c '[ -t 0 ] && [ -t 1 ] && [ -t 2 ]'"), "0");
        terminal.line("a=$(sh -c 'ls /proc/self/fd'); b=$($R sh -c 'ls /proc/self/fd')");
        assert_eq!(status(terminal, "[ \"$a\" = \"$b\" ]"), "0");
    });
}

#[test]
fn the_window_size_and_its_changes_are_seen() {
    in_shells(|terminal, _| {
        terminal.line("$R sh -c 'echo size=$(stty size).'");
        terminal.expect("size=31 97.");
        terminal.line("$R bash -c 'trap \"echo r\"\"esized=\\$(stty size).; exit 4\" WINCH; echo u\"\"p; while :; do sleep 0.05; done'");
        terminal.expect("up\r\n");
        let fd = format!("/proc/{}/fd/{}", std::process::id(), terminal.master().as_raw_fd());
        assert!(std::path::Path::new(&fd).exists());
        resize(terminal, 40, 100);
        terminal.expect("resized=40 100.");
        assert_eq!(SIZE.ws_row, 31);
    });
}

fn resize(terminal: &Terminal, rows: u16, columns: u16) {
    // stty on the master sets the size of the pair.
    let stdin = terminal.master().try_clone().unwrap();
    let size = [("rows", rows), ("cols", columns)].map(|(what, size)| [what.to_owned(), size.to_string()]);
    let done = Command::new("stty").args(size.concat()).stdin(stdin).status().unwrap();
    assert!(done.success());
}

#[test]
fn an_interactive_shell_inside_has_its_own_jobs() {
    in_shells(|terminal, _| {
        terminal.line("$R bash --norc --noprofile -i; echo 's'tatus=$?.");
        terminal.line("sh -c 'echo u\"\"p; exec sleep 100'");
        terminal.expect("up\r\n");
        terminal.keys("\x03");
        terminal.expect(PROMPT);
        terminal.line("sh -c 'echo a\"\"gain; exec sleep 100'");
        terminal.expect("again\r\n");
        terminal.keys("\x1a");
        terminal.expect(PROMPT);
        // bash does not exit while it believes that it has a stopped job.
        terminal.line("kill -KILL %1; while jobs %1 >/dev/null 2>&1; do :; done; echo k'i'lled");
        terminal.expect("killed\r\n");
        terminal.line("exit 5");
        assert_eq!(take_status(terminal), "5");
        assert_eq!(status(terminal, "true"), "0");
    });
}

#[test]
fn a_daemon_outlives_the_command_and_the_user_is_told() {
    in_shells(|terminal, store| {
        let pidfile = store.path().with_file_name("daemon");
        let run = store.crewtap("run --");
        let daemon = format!("setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >{}", pidfile.display());
        terminal.line(&format!("{run} sh -c '{daemon}'; echo 's'tatus=$?."));
        terminal.expect("1 process outlives the command and stays captured");
        assert_eq!(take_status(terminal), "0");
        let pid = std::fs::read_to_string(&pidfile).unwrap();
        let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
        assert!(cgroup.contains("/crewtap-bare/"), "{cgroup}");
        assert_eq!(status(terminal, &format!("kill {}", pid.trim())), "0");
    });
}

#[test]
fn a_command_goes_on_when_the_wrapper_is_killed() {
    in_shells(|terminal, store| {
        let go = store.path().with_file_name("go").display().to_string();
        terminal.line(&format!("$R sh -c 'echo u\"\"p; until [ -e {go} ]; do sleep 0.05; done; echo w\"\"ent-on' &"));
        terminal.expect("up\r\n");
        terminal.line("kill -KILL $!; wait $!; echo 's'tatus=$?.");
        assert_eq!(take_status(terminal), "137");
        // The agent has noticed that nobody will tell how the command ends.
        terminal
            .line(&format!("until grep -q unreported {}/requests; do :; done; echo 'n'oticed", store.path().display()));
        terminal.expect("noticed\r\n");
        terminal.line(&format!("touch {go}"));
        terminal.expect("went-on\r\n");
    });
}

#[test]
fn nohup_and_setsid_work() {
    in_shells(|terminal, _| {
        assert_eq!(status(terminal, "nohup $R sh -c 'kill -HUP $$; exit 8' </dev/null >/dev/null 2>&1"), "8");
        assert_eq!(status(terminal, "setsid --wait $R sh -c 'exit 8'"), "8");
        assert_eq!(status(terminal, "trap '' PIPE; $R sh -c 'kill -PIPE $$; exit 8'; sh -c 'exit 8'"), "8");
    });
}

#[test]
fn a_stopped_command_in_an_orphaned_group_can_be_continued() {
    let store = Store::new();
    let script = "(until grep -q T /proc/$$/wchan 2>/dev/null || [ \"$(cut -d' ' -f3 /proc/$$/stat)\" = T ]; do :; done; kill -CONT $$) & kill -STOP $$; wait; exit 12";
    let ended = Command::new("setsid")
        .args(["--wait", CREWTAP, "--data-dir", store.path().to_str().unwrap(), "run", "-q", "--"])
        .args(["sh", "-c", script])
        .status()
        .unwrap();
    assert_eq!(ended.code(), Some(12));
}
