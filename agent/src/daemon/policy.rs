//! The policies in force: loaded when the agent begins, and again whenever their files change.
//!
//! A file with a fault changes nothing: the old policies stay in force, and everybody is told. Never judges by itself.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crewtap_core::bodies::PolicyLoaded;
use crewtap_core::limits::FACT_TEXT_MAX;
use crewtap_core::policy::rules::Rules;
use crewtap_core::run::Mode;
use crewtap_core::view::hexadecimal;
use sha2::{Digest, Sha256};

use super::DaemonError;
use crate::approvals::Approvals;
use crate::config::Config;
use crate::gate::{Gate, PolicyJudge};
use crate::recorder::Recorder;
use crate::rules;

/// How often it is looked whether files have changed. A person who saves one and types the next command is slower.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Names and texts, as they are read.
type Files = Vec<(String, String)>;

/// What is in force, and where it came from.
#[derive(Debug)]
pub(super) struct Policies {
    directory: Option<PathBuf>,
    judge: Arc<PolicyJudge>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was read last, in force or not; none where it could not be read.
    seen: Option<[u8; 32]>,
    in_force: PolicyLoaded,
}

/// What is known of the files before they are looked at.
#[derive(Clone, Copy)]
struct Before {
    seen: Option<[u8; 32]>,
    /// It is on record that they cannot be used.
    is_broken: bool,
}

/// Files that are not what they were.
struct Changed {
    seen: Option<[u8; 32]>,
    /// Their policies, or everything that is wrong with them.
    parsed: Result<(Files, Rules), String>,
}

impl Policies {
    /// Those that the configuration names.
    ///
    /// # Errors
    /// When they cannot be read or have a fault: an agent that begins has no older ones to go on with.
    pub(super) fn load(config: &Config, recorder: &Recorder, approvals: Approvals) -> Result<Self, DaemonError> {
        let Some(directory) = &config.policy else {
            let judge = Arc::new(PolicyJudge::new(Arc::default(), approvals));
            return Ok(Self { directory: None, judge, state: RefCell::default() });
        };
        let files = rules::read(directory).map_err(|error| DaemonError::Policy(error.to_string()))?;
        let rules = parse(&files).map_err(DaemonError::Policy)?;
        let loaded = loaded(&files, &rules);
        recorder.record(loaded.clone().into()).map_err(|error| DaemonError::Policy(error.to_string()))?;
        let state = RefCell::new(State { seen: Some(digest(&files)), in_force: loaded });
        let judge = Arc::new(PolicyJudge::new(Arc::new(rules), approvals));
        Ok(Self { directory: Some(directory.clone()), judge, state })
    }

    /// The gate where they decide.
    pub(super) fn gate(&self) -> Gate {
        Gate::of(self.judge.clone())
    }

    /// Follows the files until it is dropped.
    pub(super) async fn watch(&self, recorder: &Recorder) {
        let Some(directory) = &self.directory else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look(directory, recorder).await;
        }
    }

    /// Takes what has changed into force, whole or not at all. Files are read and parsed on a thread of their own: a thousand
    /// policies take half a second, and this one beats, serves approvers and starts runs meanwhile.
    async fn look(&self, directory: &Path, recorder: &Recorder) {
        let (directory, before) = (directory.to_owned(), self.state.borrow().before());
        let changed = match tokio::task::spawn_blocking(move || changed(&directory, before)).await {
            Ok(Some(changed)) => changed,
            Ok(None) => return,
            // Whoever parses must not die unseen: the agent would go on with policies that nobody follows any more.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let Changed { seen, parsed } = changed;
        let mut state = self.state.borrow_mut();
        state.seen = seen;
        let told = match &parsed {
            Ok((files, rules)) => loaded(files, rules),
            Err(error) => PolicyLoaded { error: Some(cut(error)), ..state.in_force.clone() },
        };
        // Who reads the record must be able to tell by what a verdict was given: what is not on record is not in force.
        if let Err(error) = recorder.record(told.clone().into()) {
            state.seen = None;
            return tracing::error!(%error, "changed policies are not in force: they could not be recorded");
        }
        match parsed {
            Ok((_, rules)) => {
                tracing::info!(policies = rules.len(), "changed policies are in force");
                self.judge.exchange(Arc::new(rules));
            }
            Err(error) => tracing::error!(%error, "the policies on disk are not in force, the old ones are"),
        }
        state.in_force = told;
    }

    /// Sentences for the user of a run.
    pub(super) fn notes(&self, mode: Mode) -> Vec<String> {
        let in_force = &self.state.borrow().in_force;
        let count = match in_force.policies {
            1 => "1 policy".to_owned(),
            many => format!("{many} policies"),
        };
        let from = |directory: &Path| format!("{count} of {}", directory.display());
        let by = self.directory.as_deref().map_or_else(|| "there is no policy".to_owned(), from);
        let said = match mode {
            Mode::Record if self.directory.is_none() => None,
            Mode::Record => Some(format!("mode record: everything passes, {count} are not asked")),
            Mode::Shadow => {
                Some(format!("mode shadow: everything passes, and what enforce would do is on record ({by})"))
            }
            Mode::Enforce => Some(format!("mode enforce: nothing passes that no policy permits ({by})")),
        };
        let fault = |error: &String| {
            format!(
                "the policies on disk are not in force, older ones are: {}",
                error.lines().next().unwrap_or_default()
            )
        };
        said.into_iter().chain(in_force.error.as_ref().map(fault)).collect()
    }
}

impl State {
    fn before(&self) -> Before {
        Before { seen: self.seen, is_broken: self.in_force.error.is_some() }
    }
}

/// What is in the files, where it is not what was there before. Blocks.
fn changed(directory: &Path, before: Before) -> Option<Changed> {
    let read = rules::read(directory).map_err(|error| error.to_string());
    let seen = read.as_ref().ok().map(digest);
    if seen == before.seen && (seen.is_some() || before.is_broken) {
        return None;
    }
    let parsed = read.and_then(|files| parse(&files).map(|rules| (files, rules)));
    Some(Changed { seen, parsed })
}

/// What fits into a record; all of it is in the agent's log, and in what `crewtap policy check` prints.
fn cut(error: &str) -> String {
    let end = error.floor_char_boundary(FACT_TEXT_MAX);
    let (shown, rest) = error.split_at(end);
    if rest.is_empty() { shown.to_owned() } else { format!("{shown}…") }
}

/// All faults, a line each.
fn parse(files: &Files) -> Result<Rules, String> {
    Rules::parse(files).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn loaded(files: &Files, rules: &Rules) -> PolicyLoaded {
    PolicyLoaded {
        digest: hexadecimal(&digest(files)),
        files: files.iter().map(|(name, _)| name.clone()).collect(),
        policies: rules.len() as u64,
        error: None,
    }
}

/// Names and texts, each with its length before it.
fn digest(files: &Files) -> [u8; 32] {
    let mut digest = Sha256::new();
    for text in files.iter().flat_map(|(name, text)| [name, text]) {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
