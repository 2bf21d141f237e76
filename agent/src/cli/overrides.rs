//! `crewtap override`: break glass. Everything passes to one target for a while, and the record says who did it, and why.
//!
//! Speaks with the running agent, as root. Never decides who may: `override.groups` does.

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::Global;
use super::approvals::agent;
use super::screen::{Screen, ViewArgs, safe};
use super::table::{Align, Table};
use crate::config::approvals::duration;
use crate::control::ClientError;
use crate::control::approvals::{Reply, Request};

/// Let everything pass to one target for a while, whatever policy says (break glass).
///
/// Only members of `override.groups` may; each exchange that passes so is marked, and `timeline` shows it.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["target", "end", "list"])))]
pub struct OverrideArgs {
    /// A name of the catalog, or tcp:ADDRESS:PORT
    #[arg(requires = "reason", requires = "lasts")]
    target: Option<String>,
    /// Why; on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long: 90s, 15m, 1h
    #[arg(long = "for", id = "lasts", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// End an override before its time: any unique prefix of its id
    #[arg(long, value_name = "ID")]
    end: Option<String>,
    /// List those in force
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    view: ViewArgs,
}

pub(super) fn run(args: &OverrideArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let data_dir = global.config()?.data_dir;
    let Some(mut agent) = agent(&data_dir)? else {
        eprintln!("crewtap: no override is in force: no agent is running for {}", data_dir.display());
        return Ok(ExitCode::from(1));
    };
    let request = match (&args.target, &args.end) {
        (Some(target), _) => Request::Override {
            target: target.clone(),
            reason: args.reason.clone().unwrap_or_default(),
            for_s: args.lasts.unwrap_or_default().as_secs(),
        },
        (None, Some(id)) => Request::EndOverride { id: id.clone() },
        (None, None) => Request::Overrides,
    };
    let overrides = match agent.approvals(request) {
        Ok(Reply::Overrides { overrides }) => overrides,
        Ok(other) => anyhow::bail!("the running agent is not of this version: {other:?}"),
        Err(ClientError::Refused(why)) => {
            eprintln!("crewtap: {}", safe(&why));
            return Ok(ExitCode::from(1));
        }
        Err(error) => return Err(error.into()),
    };
    let mut out = std::io::stdout().lock();
    let mut screen = Screen::new(&mut out, &args.view);
    if screen.json {
        for one in &overrides {
            screen.json(one)?;
        }
    } else if overrides.is_empty() {
        screen.line("no override is in force")?;
    } else {
        let headings = ["ID", "TARGET", "BY", "UNTIL", "REASON"];
        let mut table = Table::new(&headings.map(|heading| (heading, Align::Left)));
        for one in &overrides {
            let until =
                if args.end.is_some() { "ended".into() } else { screen.short_time(i64::try_from(one.until_ns).ok()) };
            table.row([one.id.clone(), one.target.clone(), one.by.name.clone(), until, one.reason.clone()]);
        }
        table.print(&mut screen)?;
    }
    Ok(ExitCode::from(u8::from(overrides.is_empty())))
}
