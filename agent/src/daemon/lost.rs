//! What an agent that was killed left open in the record: its sessions, then its runs, are ended by the next one.
//!
//! Finds them in the index, page by page, and never ends twice what has an end: only what the index shows as open, once it
//! has caught up with everything that earlier agents wrote.

use crewtap_core::bodies::{ApprovalAnswered, Override, RunEnded, SessionClosed};
use crewtap_core::id::{RunId, SessionId};
use crewtap_core::run::RunOutcome;
use crewtap_core::session::Outcome;

use super::Daemon;
use crate::approvals::ended_by_agent;
use crate::clock;
use crate::index::{ApprovalRow, Index, IndexError, Run, Session};
use crate::recorder::Told;

/// Sessions or runs that are read at once.
const PAGE: usize = 256;

impl Daemon {
    /// Ends on record what earlier agents left without an end: their processes cannot connect any more.
    pub(super) async fn bury_lost_runs(&self) {
        let Some(last) = self.begun_at.checked_sub(1) else { return };
        let buried = match self.journal.caught_up(last).await {
            Ok(()) => self.bury_all().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = buried {
            self.recorder.note("runs_unknown", format!("runs of an earlier agent were not looked for: {error}"));
        }
    }

    /// Sessions first, so that nothing of a run comes after its end.
    async fn bury_all(&self) -> Result<(), IndexError> {
        let index = Index::open(&self.data_dir)?;
        self.bury_approvals(&index).await?;
        let mut page = index.open_sessions(0, self.begun_at, PAGE)?;
        while let Some(last) = page.last().map(|session| session.leaf) {
            for session in &page {
                self.close_lost(session);
            }
            // The heartbeat and the control socket get their turn.
            tokio::task::yield_now().await;
            page = index.open_sessions(after(last), self.begun_at, PAGE)?;
        }
        let mut page = index.open_runs(0, self.begun_at, PAGE)?;
        while let Some(last) = page.last().map(|run| run.leaf) {
            for run in page.iter().filter_map(run_of) {
                self.bury(run);
            }
            tokio::task::yield_now().await;
            page = index.open_runs(after(last), self.begun_at, PAGE)?;
        }
        Ok(())
    }

    /// Nobody answers what an agent that was killed has asked; its overrides are not in force any more.
    async fn bury_approvals(&self, index: &Index) -> Result<(), IndexError> {
        let mut page = index.open_approvals(0, self.begun_at, PAGE)?;
        while let Some(last) = page.last().map(|approval| approval.leaf) {
            for approval in &page {
                self.answer_lost(approval);
            }
            tokio::task::yield_now().await;
            page = index.open_approvals(after(last), self.begun_at, PAGE)?;
        }
        for row in index.open_overrides(self.begun_at, clock::now().wall_ns)? {
            let (id, target, reason, by) = (row.id, row.target, row.reason, ended_by_agent());
            let until_ns = u64::try_from(row.until_ns).unwrap_or(0);
            let ended = Override { id, target, by, reason, until_ns, ended: true };
            if let Err(error) = self.recorder.record(ended.into()) {
                tracing::error!(%error, "the end of a lost override could not be recorded");
            }
        }
        Ok(())
    }

    fn answer_lost(&self, approval: &ApprovalRow) {
        let place = approval.run.as_deref().and_then(|run| run.parse::<RunId>().ok());
        let session = approval.session.as_deref().and_then(|session| session.parse::<SessionId>().ok());
        let Some((run, session)) = place.zip(session) else { return };
        let answered = ApprovalAnswered {
            id: approval.id.clone(),
            answer: "lost".into(),
            by: None,
            way: None,
            reason: Some("the agent was killed".into()),
            settled: true,
        };
        let exchange = approval.n.and_then(|n| u32::try_from(n).ok());
        let told = Told { exchange, body: answered.into(), payload: std::borrow::Cow::Borrowed(b"") };
        if let Err(error) = self.recorder.record_burst(run, session, vec![told]) {
            tracing::error!(approval = approval.id, %error, "the end of a lost question could not be recorded");
        }
    }

    fn close_lost(&self, session: &Session) {
        let ids = session.run.as_deref().and_then(|run| run.parse::<RunId>().ok()).zip(session.id.parse().ok());
        let Some((run, id)): Option<(RunId, SessionId)> = ids else { return };
        let bytes = |recorded: i64| u64::try_from(recorded).unwrap_or(0);
        let closed = SessionClosed {
            outcome: Outcome::Aborted,
            // What was recorded last may not have been forwarded any more.
            bytes_up: bytes(session.recorded_up),
            bytes_down: bytes(session.recorded_down),
            duration_us: 0,
            first_byte_us: None,
            dialled_from: None,
            error: Some("the agent was killed: at most what is recorded was forwarded".into()),
        };
        if let Err(error) = self.recorder.record_in_session(run, id, closed.into(), &[]) {
            tracing::error!(session = %id, %error, "the end of a lost session could not be recorded");
        }
    }

    pub(super) fn bury(&self, run: RunId) {
        let ended = RunEnded { outcome: RunOutcome::Lost, status: None };
        if let Err(error) = self.recorder.record_in_run(run, ended.into()) {
            tracing::error!(%run, %error, "the end of a lost run could not be recorded");
        }
    }
}

fn after(leaf: i64) -> u64 {
    u64::try_from(leaf).map_or(0, |leaf| leaf.saturating_add(1))
}

fn run_of(run: &Run) -> Option<RunId> {
    run.id.parse().ok()
}
