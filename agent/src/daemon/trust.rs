//! The trust overlays of live runs: begun before the command, dropped with the run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use crewtap_core::bodies::Note;
use crewtap_core::id::RunId;
use crewtap_core::run::Mode;

use super::Daemon;
use crate::authority::Generation;
use crate::control::{Laid, Refusal};
use crate::overlay::{Authority, Bundles, Overlay, Ssh, Wanted};
use crate::runs::{Run, Trust};

/// The note of an overlay, or of a part of one, that is not there.
const FAILED: &str = "overlay_failed";

/// How a certificate begins in PEM (RFC 7468).
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Overlays by run; none while one is being laid.
#[derive(Debug)]
pub(super) struct Overlays<O = Overlay>(RefCell<HashMap<RunId, Option<O>>>);

impl<O> Default for Overlays<O> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<O> Overlays<O> {
    /// One is going to be laid, the only one that this run gets.
    fn begin(&self, run: RunId) -> Result<(), Refusal> {
        match self.0.borrow_mut().entry(run) {
            Entry::Occupied(_) => Err(Refusal(format!("run {run} has its overlay, or is getting it"))),
            Entry::Vacant(vacant) => {
                vacant.insert(None);
                Ok(())
            }
        }
    }

    /// It is laid. One that was forgotten meanwhile ends.
    fn keep(&self, run: RunId, overlay: O) -> Result<(), Refusal> {
        let mut overlays = self.0.borrow_mut();
        let place = overlays.get_mut(&run).ok_or_else(|| Refusal(format!("run {run} has ended meanwhile")))?;
        *place = Some(overlay);
        Ok(())
    }

    /// The run has ended.
    pub(super) fn forget(&self, run: RunId) {
        self.0.borrow_mut().remove(&run);
    }
}

impl Daemon {
    /// Lays the overlay of a run whose stage waits. In record mode a run without one goes on: what it encrypts stays
    /// opaque.
    pub(super) async fn lay_overlay(&self, id: RunId, home: Option<PathBuf>) -> Result<Laid, Refusal> {
        let Some(run) = self.runs.by_id(id) else { return Err(Refusal(format!("run {id} is not alive"))) };
        let Some((authority, held)) = self.authority().await? else { return Ok(Laid::default()) };
        let pid = self.only_process(id)?;
        self.overlays.begin(id)?;
        let recorder = self.recorder.clone();
        let note = Box::new(move |text: String| {
            tracing::warn!(run = %id, "{text}");
            let note = Note { code: FAILED.into(), text };
            if let Err(error) = recorder.record_in_run(id, note.into()) {
                tracing::error!(run = %id, %error, "a note was lost");
            }
        });
        let bundles = Bundles::default();
        let wanted = Wanted { authority, pid, home, bundles: bundles.clone(), note };
        let started = tokio::task::spawn_blocking(move || Overlay::start(wanted)).await.map_err(Refusal::because)?;
        if self.runs.by_id(id).is_none() {
            return Err(Refusal(format!("run {id} has ended meanwhile")));
        }
        let why = match started {
            Ok((overlay, laid)) => match laid.lacks() {
                None => {
                    self.overlays.keep(id, overlay)?;
                    run.trust(Trust { held, bundles });
                    return Ok(Laid { environment: laid.environment, notes: Vec::new() });
                }
                Some(why) => why.to_owned(),
            },
            Err(error) => error.to_string(),
        };
        untrusting(&run, &why)
    }

    /// The newest of our authorities; none where TLS is not opened.
    async fn authority(&self) -> Result<Option<(Authority, Generation)>, Refusal> {
        let Some(authority) = self.proxy.interceptor.authority.clone() else { return Ok(None) };
        // At its first use the SSH side makes an RSA key, which takes some hundred milliseconds.
        let read = tokio::task::spawn_blocking(move || {
            let trusted = authority.trusted()?;
            authority.ssh_trusted(trusted.generation).map(|ssh| (trusted, ssh))
        });
        let (trusted, ssh) = read.await.map_err(Refusal::because)?.map_err(Refusal::because)?;
        // Leaves of this run are signed by the newest one that it holds: the ones before it are of no use to it.
        let newest = trusted.pem.rfind(PEM_BEGIN).and_then(|at| trusted.pem.get(at..)).unwrap_or(&trusted.pem);
        let authority = Authority::new(newest.as_bytes()).map_err(Refusal::because)?;
        let authority = authority.with_ssh(Ssh { authority: ssh.authority, keys: ssh.keys });
        Ok(Some((authority, trusted.generation)))
    }

    /// The stage: what alone is in the cgroup of a run that has not begun.
    fn only_process(&self, run: RunId) -> Result<u32, Refusal> {
        let cgroup = self.kernel.parent().create_child(&run.to_string()).map_err(Refusal::because)?;
        match *cgroup.pids().map_err(Refusal::because)? {
            [pid] => Ok(pid),
            _ => Err(Refusal(format!("run {run} has begun already, or its stage has ended"))),
        }
    }
}

/// The answer where the run's programs do not trust us: its TLS is not touched then.
fn untrusting(run: &Run, why: &str) -> Result<Laid, Refusal> {
    let text = format!("nothing in this run trusts crewtap, so encrypted connections stay opaque: {why}");
    if run.mode == Mode::Enforce {
        return Err(Refusal(text));
    }
    if let Err(error) = run.record(Note { code: FAILED.into(), text: text.clone() }) {
        tracing::error!(run = %run.id, %error, "a note was lost");
    }
    Ok(Laid { environment: Vec::new(), notes: vec![text] })
}

#[cfg(test)]
mod tests {
    use crewtap_core::id::Ulid;

    use super::*;

    #[test]
    fn a_run_gets_one_overlay_and_none_is_kept_after_its_end() {
        let overlays = Overlays::<std::rc::Rc<()>>::default();
        let (run, overlay) = (RunId(Ulid::generate()), std::rc::Rc::new(()));
        assert!(overlays.begin(run).is_ok() && overlays.begin(run).is_err());
        assert!(overlays.keep(run, overlay.clone()).is_ok() && overlays.begin(run).is_err());
        overlays.forget(run);
        assert!(overlays.keep(run, overlay.clone()).is_err());
        assert_eq!(std::rc::Rc::strong_count(&overlay), 1, "it is gone with its run");
    }
}
