//! Who is remembered for not taking crewtap's certificates, and for not going on behind one.
//!
//! Never judges a certificate and never decides whether a connection is opened.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crewtap_core::run::Process;

use crate::session::Session;
use crate::tls::learned::Learned;
use crate::tls::server::Rejection;

/// Executables whose script says more than they do; their names begin so.
const INTERPRETERS: [&str; 7] = ["python", "pypy", "node", "ruby", "perl", "deno", "bun"];

/// What is to be learned of a client that takes our leaf and then finds that it cannot go on.
#[derive(Debug)]
pub struct Lesson {
    learned: Arc<Learned>,
    program: String,
    name: String,
}

impl Lesson {
    /// Of a program, and of one target of that name: another protocol on another port of it is another thing.
    pub(super) fn new(learned: &Arc<Learned>, program: &str, subject: &str, target: SocketAddr) -> Self {
        // Taking the leaf unlearns a rejection of it, not this.
        Self { learned: learned.clone(), program: program.into(), name: format!("{subject} at {target} log-in") }
    }

    /// It went away from a log-in that works only through us; whether its next connection passes unopened.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.learned.record(&self.program, &self.name, &Rejection::ClosedAfterHandshake)
    }

    /// It logged in.
    pub fn accepted(&self) {
        self.learned.accepted(&self.program, &self.name);
    }

    pub(super) fn is_learned(&self) -> bool {
        self.learned.is_learned(&self.program, &self.name)
    }
}

/// Who learns of a rejection: the program in this run. Another run's may trust what this one does not.
pub(super) fn learner(session: &Session) -> String {
    format!("{} {}", session.run().id, program(session.process()))
}

/// What runs, as far as it tells whose roots are used: the executable, and for an interpreter also its environment and the
/// script or module.
fn program(process: &Process) -> String {
    let exe = process.exe.rsplit('/').next().unwrap_or_default();
    if !INTERPRETERS.iter().any(|interpreter| exe.starts_with(interpreter)) {
        return process.exe.clone();
    }
    let mut words = process.argv.iter();
    // A virtual environment's interpreter is a link: what it was called by tells which.
    let interpreter = words.next().filter(|word| word.starts_with('/')).unwrap_or(&process.exe);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" => return format!("{interpreter} -m {}", words.next().map_or("", String::as_str)),
            "-c" | "-e" | "-p" | "-" => break,
            "-W" | "-X" | "-r" | "--require" | "--import" => drop(words.next()),
            option if option.starts_with('-') => {}
            script => return Path::new(&process.cwd).join(script).display().to_string(),
        }
    }
    interpreter.clone()
}

#[cfg(test)]
mod tests {
    use super::{Process, program};

    #[test]
    fn a_program_is_its_script_where_it_has_one() {
        let of = |exe: &str, argv: &[&str]| {
            let argv = argv.iter().map(|&word| word.to_owned()).collect();
            program(&Process { exe: exe.into(), argv, cwd: "/srv/crew".into(), ..Process::default() })
        };
        let python = |argv: &[&str]| of("/usr/bin/python3.11", argv);
        assert_eq!(of("/usr/bin/curl", &["curl", "/x"]), "/usr/bin/curl");
        assert_eq!(python(&["python", "-u", "main.py", "-m", "x"]), "/srv/crew/main.py");
        assert_eq!(python(&["/v/bin/python", "-X", "dev", "/v/bin/run_crew"]), "/v/bin/run_crew");
        assert_eq!(python(&["/v/bin/python", "-m", "pip", "install"]), "/v/bin/python -m pip");
        assert_eq!(python(&["/v/bin/python", "-c", "import x", "y"]), "/v/bin/python");
        assert_eq!(python(&["python3", "-c", "import x"]), "/usr/bin/python3.11");
        assert_eq!(python(&[]), "/usr/bin/python3.11");
        assert_eq!(of("/usr/bin/node", &["node", "-r", "./a.js", "b.js"]), "/srv/crew/b.js");
    }
}
