//! `cargo xtask test`: unit tests of all crates, then the integration tests as root. Builds once, with the profile that the
//! demo uses, and ends with one line that counts.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use crewtap_tests::world::cache_dir;

use crate::demo::setting;
use crate::setup;
use crate::shell::{clone_root, is_root};

/// What the user may choose.
#[derive(Args)]
pub struct Options {
    /// Run only the tests whose name contains this
    filter: Option<String>,
    /// More arguments for the test programs
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// One compiled test program.
struct TestProgram {
    name: String,
    path: PathBuf,
    directory: PathBuf,
}

/// What came out, over all programs.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
    /// What failing tests said, bounded: it is told again at the end, where a reader looks first.
    words: Vec<String>,
}

/// Lines of failing tests that are told again.
const WORDS_MAX: usize = 200;

/// Runs the tests.
///
/// # Errors
/// When the build fails or a test program cannot be started; failing tests are an exit status.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::run(&setup::Options::for_running())?;
    build_everything()?;
    let mut tally = Tally::default();
    for program in build_tests()? {
        println!("\n== {}", program.name);
        program.run(options, &mut tally)?;
    }
    println!();
    tally.words.iter().for_each(|line| println!("{line}"));
    for skipped in &tally.skipped {
        println!("skipped: {skipped}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped.len());
    let skips_fail = std::env::var_os("CI").is_some_and(|value| value == "true") && !tally.skipped.is_empty();
    if skips_fail {
        eprintln!("test: CI allows no skipped test");
    }
    let found_nothing = tally.passed == 0 && tally.failed == 0;
    Ok(if tally.failed > 0 || skips_fail || found_nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Builds the product, as tests and demo use it, and says where it is.
///
/// # Errors
/// When it does not compile.
pub fn build_crewtap() -> Result<PathBuf> {
    let status = cargo().args(["build", "-p", "crewtap"]).status().context("cannot start cargo")?;
    ensure!(status.success(), "crewtap does not compile");
    Ok(built_crewtap())
}

/// Builds the product and the tests in one go: apart, their dependencies would be built twice, because tests want other features
/// of some.
fn build_everything() -> Result<()> {
    let status = cargo().args(["build", "--workspace", "--bins", "--tests"]).status().context("cannot start cargo")?;
    ensure!(status.success(), "it does not compile");
    Ok(())
}

/// Where [`build_crewtap`] puts it: beside this program.
pub fn built_crewtap() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.with_file_name("crewtap")
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(clone_root());
    command
}

/// Compiles the test programs of the workspace and lists them, the fast ones first.
fn build_tests() -> Result<Vec<TestProgram>> {
    let mut compile = cargo();
    compile.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut child = compile.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut programs = Vec::new();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        programs.extend(test_program(&line?));
    }
    ensure!(child.wait()?.success(), "the tests do not compile");
    programs.sort_by_key(|program| (program.name == "it", program.name.clone()));
    Ok(programs)
}

/// The test program that a line of cargo's messages tells of, if it does.
fn test_program(line: &str) -> Option<TestProgram> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_test = message.get("profile")?.get("test")?.as_bool()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    let manifest = PathBuf::from(message.get("manifest_path")?.as_str()?);
    let target = message.get("target")?;
    let kind = target.get("kind")?.get(0)?.as_str()?;
    let name = target.get("name")?.as_str()?;
    let name = if kind == "bin" { format!("{name} (program)") } else { name.to_owned() };
    is_test.then(|| TestProgram { name, path, directory: manifest.parent().map(PathBuf::from).unwrap_or_default() })
}

impl TestProgram {
    /// Runs it and shows what it prints, counting on the way.
    fn run(&self, options: &Options, tally: &mut Tally) -> Result<()> {
        let mut command = self.command();
        command.current_dir(&self.directory).args(&options.filter).args(&options.arguments);
        // Tests say `skip: why` when something is missing; without this the test framework keeps it to itself.
        command.arg("--show-output");
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", self.name))?;
        let (mut finished, mut skipped, mut failing) = (false, 0, false);
        for line in BufReader::new(child.stdout.take().context("a test has no output")?).lines() {
            let line = line?;
            println!("{line}");
            failing = line == "failures:" || (failing && line != "successes:");
            if failing && tally.words.len() < WORDS_MAX {
                tally.words.push(line.clone());
            }
            if let Some(why) = line.trim_start().strip_prefix("skip:") {
                tally.skipped.push(format!("{}: {}", self.name, why.trim()));
                skipped += 1;
            }
            if let Some((passed, failed, ignored)) = counts(&line) {
                finished = true;
                // A test that skips ends well: it is counted once, and not as passed.
                tally.passed += passed.saturating_sub(skipped);
                tally.failed += failed;
                tally.skipped.extend((0..ignored).map(|_| format!("{}: an ignored test", self.name)));
            }
        }
        let status = child.wait()?;
        if !finished {
            // It died before it could count: at least one test failed.
            eprintln!("test: {} ended without a result ({status})", self.name);
            tally.failed += 1;
        }
        Ok(())
    }

    /// Integration tests make namespaces, cgroups and kernel programs: as root, through sudo for everybody else.
    fn command(&self) -> Command {
        if self.name != "it" || is_root() {
            let mut command = Command::new(&self.path);
            command.env("CREWTAP_PROGRAM", built_crewtap());
            return command;
        }
        let mut command = Command::new("sudo");
        command.args(["-E", "env"]).arg(setting("CREWTAP_CACHE", &cache_dir()));
        command.arg(setting("CREWTAP_PROGRAM", &built_crewtap()));
        command.arg(&self.path);
        command
    }
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; ...`
fn counts(line: &str) -> Option<(u64, u64, u64)> {
    let (_, counted) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = counted.split(';').find(|part| part.trim().ends_with(word))?;
        part.split_whitespace().next()?.parse().ok()
    };
    Some((number("passed")?, number("failed")?, number("ignored")?))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn counts_the_result_line_of_a_test_program() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.1s";
        assert_eq!(counts(line), Some((12, 3, 1)));
        assert_eq!(counts("test a::b ... ok"), None);
    }
}
