//! `crewtap whoami`: whom a run that is started here would belong to, and on what basis.
//!
//! Speaks with the agent, as root; says what the operating system knows to everybody else. Never shows a token.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use crewtap_core::identity::{Basis, Identity};

use super::Global;
use super::login::{agent, groups, lasts};
use super::screen::safe;
use crate::control::identity::{Reply, Request, Who};
use crate::identity::caller::Caller;

/// Show whom a run from here would belong to
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 somebody is logged in, 1 only the operating system's user is known, 2 wrong use or failure."
)]
pub struct WhoAmIArgs {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &WhoAmIArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let config = global.config()?;
    let who = if nix::unistd::geteuid().is_root() {
        match agent(&config, "")?.identity(Request::WhoAmI)? {
            Reply::Who(who) => *who,
            other => bail!("the running agent is not of this version: {other:?}"),
        }
    } else {
        unasked()?
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&who)?)?;
    } else {
        lines(&who).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    let known = who.identity.oidc().is_some();
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What can be told without the agent, which speaks with root alone.
fn unasked() -> anyhow::Result<Who> {
    let caller = Caller::of(std::process::id(), None)?;
    Ok(Who {
        identity: caller.os.clone(),
        os: caller.os.clone(),
        bound: caller.key.map(|key| key.session.to_string()),
        logins: Vec::new(),
        notes: vec!["whether you are logged in, the agent tells root alone: sudo crewtap whoami".into()],
    })
}

fn lines(who: &Who) -> Vec<String> {
    let Identity { id, name, .. } = &who.identity;
    let mut lines = vec![format!("identity  {} ({})", safe(name), safe(id))];
    let os = &who.os;
    let login = match &os.basis {
        Basis::Os { login_uid: Some(uid), .. } => format!(", login uid {uid}"),
        _ => String::new(),
    };
    lines.push(format!("user      {} ({}){login}", safe(&os.name), safe(&os.id)));
    lines.push(format!("bound to  {}", who.bound.as_deref().unwrap_or("nothing: the login session cannot be told")));
    for login in &who.logins {
        let email = login.email.as_ref().map(|email| format!(", {email}")).unwrap_or_default();
        lines.push(format!(
            "login     {} at {} ({}{})",
            safe(&login.identity),
            safe(&login.provider),
            safe(&login.issuer),
            safe(&email)
        ));
        lines.push(format!("          {}, by {}", lasts(login), login.way.as_str()));
        lines.push(format!("          groups ({}): {}", safe(&login.groups_from), safe(&groups(login))));
        lines.extend(login.notes.iter().map(|note| format!("          {}", safe(note))));
    }
    lines.extend(who.notes.iter().map(|note| format!("note      {}", safe(note))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::relying::Told;
    use crewtap_core::identity::Way;

    #[test]
    fn what_is_told_fits_on_a_page_and_hides_what_would_turn_it() {
        let told = Told {
            provider: "corp".into(),
            issuer: "https://id.example".into(),
            identity: "oidc:corp:a1".into(),
            name: "alice".into(),
            email: Some("alice@e.example\u{1b}[2J".into()),
            groups: (0..64).map(|n| format!("oidc:corp:g{n}")).collect(),
            groups_count: 10_000,
            groups_from: "claim".into(),
            way: Way::Code,
            auth_time: None,
            since: 0,
            expires: u64::MAX / 4,
            renewed_until: None,
            holds: true,
            notes: Vec::new(),
        };
        let os = Identity::unknown();
        let who =
            Who { identity: os.clone(), os, bound: Some("audit:7".into()), logins: vec![told], notes: Vec::new() };
        let text = lines(&who).join("\n");
        assert!(text.contains("oidc:corp:g7 and 9992 more") && text.contains("audit:7"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
