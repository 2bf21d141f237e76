//! `crewtap login`: a person proves to an identity provider who they are; runs that start from here carry it.
//!
//! Owns the page that the browser comes back to, on loopback. Never sees a token: the agent redeems the code, and binds the
//! login to what the kernel says of this process.

mod browser;
mod page;

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::Global;
use super::screen::{safe, short};
use crate::clock;
use crate::config::Config;
use crate::control::identity::{Reply, Request};
use crate::control::launch::{Variables, connect_or_start};
use crate::control::{Client, ClientError};
use crate::identity::pending::Begun;
use crate::identity::relying::Told;

/// Groups that are told in one line.
const GROUPS_TOLD: usize = 8;

/// Log in at an identity provider
///
/// Runs, approvals and overrides from this login session of the host then carry that person. The browser comes back to an
/// address of this host's loopback, and only that of the user who logs in may; without a browser here, --device shows a code to be typed elsewhere.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    sudo crewtap login\n  \
    sudo crewtap login --issuer corp --device\n\n\
    Exit status: 0 logged in, 1 refused, 2 wrong use or failure.")]
pub struct LoginArgs {
    /// The provider: NAME of [oidc.NAME]; not needed where there is one
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Show a code to be typed in a browser elsewhere
    #[arg(long)]
    device: bool,
    /// Only print the page's address: do not open a browser
    #[arg(long)]
    no_browser: bool,
    /// Print who has logged in as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &LoginArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    let mut agent = agent(&config, "log in: sudo crewtap login")?;
    let provider = args.issuer.clone();
    let told = if args.device { by_device(&mut agent, provider) } else { in_browser(&mut agent, &config, args) };
    let told = match told {
        Ok(told) => told,
        Err(error) => match error.downcast::<ClientError>() {
            Ok(ClientError::Refused(why)) => {
                eprintln!("crewtap: not logged in: {}", super::screen::safe(&why));
                return Ok(ExitCode::FAILURE);
            }
            Ok(other) => return Err(other.into()),
            Err(error) => return Err(error),
        },
    };
    if args.json {
        println!("{}", serde_json::to_string(&told)?);
    } else {
        say(&told);
    }
    Ok(ExitCode::SUCCESS)
}

/// The running agent, or one that is started for this. It gets the providers' secrets of this environment.
pub(super) fn agent(config: &Config, what: &str) -> anyhow::Result<Client> {
    ensure!(nix::unistd::geteuid().is_root(), "the agent keeps logins for root alone, whoever they are of; {what}");
    let mut arguments: Vec<std::ffi::OsString> = vec!["--data-dir".into(), config.data_dir.clone().into()];
    if let Some(file) = &config.file {
        arguments.extend(["--config".into(), file.clone().into()]);
    }
    let catalog = config.catalog()?;
    let names = catalog.variables().chain(config.approvals.variables()).chain(config.variables_of_providers());
    let secrets: Vec<_> = names.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
    let secrets: &Variables = &secrets;
    Ok(connect_or_start(&config.data_dir, &arguments, secrets)?)
}

fn by_device(agent: &mut Client, provider: Option<String>) -> anyhow::Result<Told> {
    let begun = begun(agent.identity(Request::BeginDevice { provider })?)?;
    let code = begun.code.clone().unwrap_or_default();
    eprintln!("crewtap: open {} in any browser, and type: {}", safe(&begun.url), safe(&code));
    if let Some(complete) = &begun.complete {
        eprintln!("crewtap: or, with the code in it: {}", safe(complete));
    }
    let deadline = Instant::now() + Duration::from_secs(begun.waits_s);
    loop {
        match agent.identity(Request::WaitForDevice { login: begun.login.clone() })? {
            Reply::LoggedIn { login } => return Ok(*login),
            Reply::Waiting if Instant::now() < deadline => {}
            Reply::Waiting => bail!("nobody has typed the code in time: log in again"),
            other => bail!("the running agent is not of this version: {other:?}"),
        }
    }
}

fn in_browser(agent: &mut Client, config: &Config, args: &LoginArgs) -> anyhow::Result<Told> {
    let provider = args.issuer.clone();
    // Which port it is, only the configuration says; which of several providers is meant, the agent.
    let of = config.oidc.iter().find(|one| provider.as_ref().is_none_or(|name| one.name == *name));
    let wanted = of.map_or(0, |one| one.redirect.port);
    let path = of.map_or_else(String::new, |one| one.redirect.path.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted));
    let listener = listener.with_context(|| format!("cannot listen at 127.0.0.1:{wanted} for the browser"))?;
    let port = listener.local_addr().context("the listener has no address")?.port();
    let begun = begun(agent.identity(Request::Begin { provider, port })?)?;
    eprintln!("crewtap: open this in a browser on this host (or log in with --device):\n{}", safe(&begun.url));
    let page = page::Page { path: &path, url: &begun.url, users: &begun.users };
    if !args.no_browser && browser::open(begun.users.first().copied(), &page::start(port)) {
        eprintln!("crewtap: a browser is asked to open it");
    }
    let deadline = Instant::now() + Duration::from_secs(begun.waits_s);
    page::serve(&listener, &page, deadline, |query| {
        let finish = Request::Finish { login: begun.login.clone(), query: query.to_owned() };
        match agent.identity(finish) {
            Ok(Reply::LoggedIn { login }) => page::Outcome::Done(Ok(*login)),
            Ok(Reply::NotOurs) => page::Outcome::NotOurs,
            Ok(other) => page::Outcome::Done(Err(ClientError::Foreign(format!("unexpected answer {other:?}")).into())),
            Err(error) => page::Outcome::Done(Err(error.into())),
        }
    })
}

fn begun(reply: Reply) -> anyhow::Result<Begun> {
    match reply {
        Reply::Begun { begun } => Ok(begun),
        other => bail!("the running agent is not of this version: {other:?}"),
    }
}

/// Who has logged in, for a person.
fn say(told: &Told) {
    let Told { provider, identity, name, .. } = told;
    eprintln!("crewtap: logged in at {} as {} ({})", safe(provider), safe(name), safe(identity));
    eprintln!("crewtap: groups: {}", safe(&groups(told)));
    eprintln!("crewtap: {}", lasts(told));
    told.notes.iter().for_each(|note| eprintln!("crewtap: {}", safe(note)));
}

/// Groups in a line.
pub(super) fn groups(told: &Told) -> String {
    if told.groups_count == 0 {
        return "none".into();
    }
    let shown: Vec<String> = told.groups.iter().take(GROUPS_TOLD).map(|group| short(group, 60)).collect();
    match told.groups_count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Until when it counts.
pub(super) fn lasts(told: &Told) -> String {
    let now = clock::now().wall_ns / 1_000_000_000;
    let left = |until: u64| duration(until.saturating_sub(now));
    match told.renewed_until {
        _ if !told.holds => "expired".into(),
        Some(until) => format!("counts for {}, and is renewed for {}", left(told.expires), left(until)),
        None => format!(
            "counts for {}; the provider gave nothing to renew it with (scope \"offline_access\"?)",
            left(told.expires)
        ),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
