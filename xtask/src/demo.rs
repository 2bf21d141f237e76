//! `cargo xtask demo`: a real CrewAI crew in an isolated network, run as a user would run it, and what crewtap recorded of
//! it. Nothing in the crew or in its environment is set for crewtap's sake, and nothing on the host outlives it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use crewtap_tests::world::{Interrupts, Secured, World, cache_dir, within_interruptible};

mod person;

use crate::shell::{clone_root, is_root};
use crate::{setup, test};

/// What the user may choose.
#[derive(Args)]
pub struct Options {
    /// Run the crew without crewtap
    #[arg(long)]
    bare: bool,
    /// Run COMMAND as root in the isolated world instead of the crew
    #[arg(long, conflicts_with = "bare")]
    world_only: bool,
    /// Keep the evidence and the servers' logs, and say where
    #[arg(long)]
    keep: bool,
    /// For --world-only: what to run (default: a shell)
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the demo; its exit status is 0 when the crew did its work and the evidence is whole.
///
/// # Errors
/// When setup, the build or the world fails.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::run(&setup::Options::for_running())?;
    let given = std::env::var_os("CREWTAP_PROGRAM").map(PathBuf::from);
    let program = match given {
        Some(given) => given,
        None if options.bare || options.world_only => test::built_crewtap(),
        None => {
            eprintln!("demo: building crewtap ...");
            test::build_crewtap()?
        }
    };
    if !is_root() {
        return through_sudo(&program);
    }
    let interrupts = Interrupts::block()?;
    eprintln!("demo: starting the isolated world (own network, names, CA, servers) ...");
    within_interruptible(Some(interrupts), |world| {
        if options.keep {
            world.keep_directory()?;
        }
        let outcome = if options.world_only {
            world_only(world, &options.command)
        } else if options.bare {
            bare(world)
        } else {
            captured(world, &program)
        };
        if options.keep {
            say_where(world, &program);
        }
        outcome
    })
}

/// The namespaces need root; setup and build do not, and are done by now.
fn through_sudo(program: &Path) -> Result<ExitCode> {
    let mut command = Command::new("sudo");
    command.arg("env").arg(setting("CREWTAP_CACHE", &cache_dir())).arg(setting("CREWTAP_PROGRAM", program));
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Ok(exit_code(command.status().context("cannot start sudo")?))
}

/// `NAME=PATH`, as `env` takes it.
pub fn setting(name: &str, path: &Path) -> OsString {
    let mut setting = OsString::from(format!("{name}="));
    setting.push(path);
    setting
}

fn world_only(world: &World, command: &[String]) -> Result<ExitCode> {
    let mut words = command.iter();
    let program = words.next().map_or("bash", String::as_str);
    eprintln!(
        "demo: servers: api.openai.com:443 telemetry.crewai.com:4319 api.internal:80,443 pg.internal:5432 ssh.internal:22"
    );
    eprintln!("demo: world {}; the crew's user is {}", world.directory().display(), world.crew().name);
    let mut inside = world.as_root(program);
    inside.args(words).env("CREWTAP_WORLD", world.directory()).env("CREWTAP_CREW_PROJECT", world.project());
    Ok(exit_code(world.run(&mut inside)?))
}

fn bare(world: &World) -> Result<ExitCode> {
    world.trust_company()?;
    eprintln!("demo: crewai run (without crewtap)");
    let status = world.run(world.as_crew("crewai").arg("run"))?;
    ensure!(status.success(), "the crew failed ({status})");
    check_work(world)?;
    report_connections(world)?;
    Ok(ExitCode::SUCCESS)
}

fn captured(world: &World, program: &Path) -> Result<ExitCode> {
    let evidence = world.directory().join("evidence");
    // As the README says it. Where the crew's user is root itself, there is no sudo to go through.
    let mut command = if world.crew().uid == 0 {
        world.as_crew(program)
    } else {
        let mut command = world.as_crew("sudo");
        command.arg(program);
        command
    };
    let secured = world.secure()?;
    let provider = person::log_in(world, program, &secured.config(), &evidence)?;
    command.args(["run", "--config"]).arg(secured.config()).arg("--data-dir").arg(&evidence);
    command.args(["--", "crewai", "run"]);
    eprintln!(
        "demo: database, model and warehouse take other credentials now: the crew's own are wrong, crewtap has the right ones"
    );
    eprintln!("demo: sudo crewtap run -- crewai run   (only crewtap's configuration names the company's CA)");
    let mut approver = world.spawn(
        world.as_root("python3").arg(clone_root().join("tests/demo/world/approver.py")).args(secured.approver()),
    )?;
    let status = world.run(&mut command);
    let approved = approver.try_wait()?.is_some_and(|status| status.success());
    if !approved {
        approver.kill()?;
        approver.wait()?;
    }
    drop(provider);
    let status = status?;
    ensure!(status.success(), "the crew failed under crewtap ({status})");
    ensure!(approved, "nobody was asked to approve the DELETE and the removal");
    check_work(world)?;
    // The command's end is not the run's: processes that outlive it, and the agent, may need a moment.
    ensure!(world.wait_until_quiet(30), "processes of the run are still there after 30 s");

    on_record(world, program, &secured)
}

/// What crewtap says of the run agrees with what the servers say, and holds no secret.
fn on_record(world: &World, program: &Path, secured: &Secured) -> Result<ExitCode> {
    let evidence = world.directory().join("evidence");
    let crewtap = |words: &[&str]| {
        let mut command = world.as_root(program);
        command.args(words).arg("--data-dir").arg(&evidence);
        command
    };
    let listed = world.run_for_output(&mut crewtap(&["runs", "--json"]))?;
    let run = first_run(&listed)?;
    person::is_on_record(&listed)?;
    for words in [&["runs"][..], &["timeline", &run], &["verify"]] {
        eprintln!("\ndemo: crewtap {}", words.join(" "));
        let status = world.run(&mut crewtap(words))?;
        ensure!(status.success(), "crewtap {} failed ({status})", words.join(" "));
    }
    report_connections(world)?;
    let show = |id: &str| world.run_for_output(&mut crewtap(&["show", id, "--all", "--json"]));
    let sessions = world.compare(&show(&run)?)?;
    eprintln!("demo: crewtap has recorded {sessions} sessions: the same ones");
    let exchanges = world.compare_exchanges(&run, show)?;
    let statements = world.compare_statements(&run, show)?;
    eprintln!("demo: and {exchanges} HTTP exchanges, as the servers' own logs have them, bodies equal both ways");
    commands_are_on_record(world, &run, show, |exchange| world.run_for_output(&mut crewtap(&["replay", exchange])))?;
    let rows: usize = statements.iter().map(|statement| statement.rows.len()).sum();
    let counted = statements.len();
    eprintln!(
        "demo: and {counted} SQL statements with their values, as the database's own log has them, and {rows} rows"
    );
    for directory in [evidence.as_path(), world.project(), &world.crew_home()] {
        secured.is_not_in(directory)?;
    }
    secured.cards_are_not_in(&evidence)?;
    let shown: Vec<&str> =
        statements.iter().flat_map(|one| &one.rows).flatten().flatten().map(String::as_str).collect();
    for card in ["**** **** **** 1111", "**** **** **** 0004"] {
        ensure!(shown.contains(&card), "no row on record shows {card}");
    }
    eprintln!("demo: the cards of the customers are masked in rows, answers and prompts, and nowhere in the evidence");
    eprintln!(
        "demo: the DELETE and the removal of a file were approved by Rita Reviewer; neither the crew's files nor the evidence hold a secret"
    );
    Ok(ExitCode::SUCCESS)
}

/// The commands are there with what they printed, and the one that was approved plays again.
fn commands_are_on_record(
    world: &World,
    run: &str,
    show: impl Fn(&str) -> Result<String>,
    replay: impl Fn(&str) -> Result<String>,
) -> Result<()> {
    let commands = world.commands(run, show)?;
    let removal = commands.iter().find(|command| command.text.starts_with("rm "));
    let removal = removal.with_context(|| format!("the removal is not on record: {commands:?}"))?;
    ensure!(removal.printed.contains("the lock is gone"), "what it printed is not on record: {removal:?}");
    let played = replay(&removal.exchange)?;
    ensure!(played.contains("the lock is gone"), "the removal does not play again: {played}");
    eprintln!("demo: and {} SSH commands with what they printed; the removal plays again", commands.len());
    Ok(())
}

/// The crew has done its work when the report that its last task files is in the database.
fn check_work(world: &World) -> Result<()> {
    let reports = world.query("SELECT count(*) FROM reports")?;
    ensure!(reports == "1", "the crew has filed {reports} reports instead of 1");
    Ok(())
}

fn report_connections(world: &World) -> Result<()> {
    let accepted = world.accepted()?;
    let mut counts = BTreeMap::new();
    for connection in &accepted {
        *counts.entry(connection.server).or_insert(0_u32) += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(server, count)| format!("{server:?} {count}")).collect();
    eprintln!("\ndemo: the servers' own logs show {} connections: {}", accepted.len(), counts.join(", "));
    Ok(())
}

/// The id in the first line of `runs --json`.
fn first_run(listed: &str) -> Result<String> {
    let line = listed.lines().next().context("crewtap lists no run")?;
    let run: serde_json::Value =
        serde_json::from_str(line).context("`crewtap runs --json` does not print JSON Lines")?;
    match run.get("id").and_then(serde_json::Value::as_str) {
        Some(id) => Ok(id.to_owned()),
        None => bail!("`crewtap runs --json` names no run: {line}"),
    }
}

fn say_where(world: &World, program: &Path) {
    let evidence = world.directory().join("evidence");
    eprintln!("demo: kept in {}; look further, as root, with", world.directory().display());
    for verb in ["runs", "show RUN", "timeline RUN", "verify"] {
        eprintln!("    {} {verb} --data-dir {}", program.display(), evidence.display());
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
