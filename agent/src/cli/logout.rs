//! `crewtap logout`: ends logins of this login session of the host, here and at the provider.
//!
//! Speaks with the agent, as root. Never ends anybody else's.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::Global;
use super::login::agent;
use super::screen::safe;
use crate::control::identity::{Reply, Request};

/// End the login, and have the provider forget its tokens
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 logged out, 1 nobody was logged in, 2 wrong use or failure.")]
pub struct LogoutArgs {
    /// Of this provider alone: NAME of [oidc.NAME]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Print what was ended as JSON Lines
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &LogoutArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let mut agent = agent(&global.config()?, "log out: sudo crewtap logout")?;
    let Reply::LoggedOut { ended } = agent.identity(Request::Logout { provider: args.issuer.clone() })? else {
        bail!("the running agent is not of this version");
    };
    for one in &ended {
        if args.json {
            println!("{}", serde_json::to_string(one)?);
            continue;
        }
        let why = one.why.as_ref().map(|why| format!(", but its tokens are not revoked: {}", safe(why)));
        let told = why.unwrap_or_else(|| ", and its tokens are revoked".into());
        eprintln!("crewtap: logged out of {} ({}){told}", safe(&one.provider), safe(&one.identity));
    }
    if ended.is_empty() {
        eprintln!("crewtap: nobody is logged in here");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
