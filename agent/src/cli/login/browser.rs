//! Opening the browser of whoever logs in, where they have a screen.
//!
//! Never as root: the program runs as the user who called sudo, with nothing of this process's environment but where their screen
//! is. Its command line names an address of loopback and no more.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User};

/// What opens a page in the browser that a user prefers; not looked for where the environment says.
const PROGRAM: &str = "/usr/bin/xdg-open";

/// Which screen it is; the one or the other must be there.
const SCREENS: [&str; 2] = ["WAYLAND_DISPLAY", "DISPLAY"];

/// What else of the environment leads to it.
const LEADS: [&str; 3] = ["XAUTHORITY", "XDG_CURRENT_DESKTOP", "LANG"];

/// Asks a user's browser to open an address; whether anybody was asked.
pub(super) fn open(uid: Option<u32>, address: &str) -> bool {
    let user = uid.filter(|uid| *uid != 0).and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
    let command = user.and_then(|user| prepared(&user, address, Path::new(PROGRAM), |name| std::env::var_os(name)));
    command.is_some_and(|mut command| command.spawn().is_ok())
}

/// None where there is no screen, no program, or nobody but root.
fn prepared(
    user: &User,
    address: &str,
    program: &Path,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<Command> {
    let has_screen = SCREENS.iter().any(|name| variable(name).is_some_and(|value| !value.is_empty()));
    if user.uid.is_root() || !has_screen || !program.exists() {
        return None;
    }
    let mut command = Command::new(program);
    // Given up with the user: the groups of this process, too.
    command.arg(address).uid(user.uid.as_raw()).gid(user.gid.as_raw()).process_group(0).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &user.dir).env("USER", &user.name);
    let runtime = format!("/run/user/{}", user.uid);
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={runtime}/bus")).env("XDG_RUNTIME_DIR", runtime);
    for name in SCREENS.iter().chain(&LEADS) {
        if let Some(value) = variable(name) {
            command.env(name, value);
        }
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn nobody() -> User {
        User::from_uid(Uid::from_raw(65534)).unwrap().unwrap()
    }

    fn screen(name: &str) -> Option<OsString> {
        (name == "DISPLAY").then(|| ":0".into())
    }

    #[test]
    fn a_browser_is_opened_for_a_user_with_a_screen_and_for_nobody_else() {
        let program = Path::new("/bin/sh");
        assert!(prepared(&nobody(), "http://127.0.0.1:1/start", program, screen).is_some());
        assert!(prepared(&nobody(), "http://127.0.0.1:1/start", program, |_| None).is_none(), "no screen");
        assert!(prepared(&nobody(), "http://127.0.0.1:1/start", program, |_| Some("".into())).is_none(), "no screen");
        assert!(prepared(&nobody(), "http://127.0.0.1:1/start", Path::new("/no/program"), screen).is_none());
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        assert!(prepared(&root, "http://127.0.0.1:1/start", program, screen).is_none(), "never as root");
        assert!(!open(Some(0), "http://127.0.0.1:1/start") && !open(None, "http://127.0.0.1:1/start"));
    }

    #[test]
    fn it_runs_as_the_user_with_nothing_of_ours() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let (program, told) = (dir.path().join("open"), dir.path().join("told"));
        let script = format!("#!/bin/sh\n{{ id -u; id -G; echo \"$@\"; env; }} >'{}'\n", told.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let variable = |name: &str| match name {
            "DISPLAY" | "SECRET" => Some(OsString::from(":0")),
            _ => None,
        };
        let user = nobody();
        let mut command = prepared(&user, "http://127.0.0.1:1/start", &program, variable).unwrap();
        assert!(command.status().unwrap().success());
        let said = std::fs::read_to_string(&told).unwrap();
        let mut lines = said.lines();
        assert_eq!(lines.next(), Some("65534"), "{said}");
        assert_eq!(lines.next(), Some(user.gid.to_string().as_str()), "no group of root's: {said}");
        assert_eq!(lines.next(), Some("http://127.0.0.1:1/start"));
        assert!(said.contains("DISPLAY=:0") && !said.contains("SECRET") && !said.contains("CARGO"), "{said}");
    }
}
