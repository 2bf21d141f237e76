//! Masks of a session that hold for what its client receives, too.
//!
//! Owns whether they can be kept. Never masks: drivers let what the target says pass through [`Outgoing`].

use std::sync::Arc;

use crewtap_core::bodies::Note;
use crewtap_core::mask::outgoing::Outgoing;
use crewtap_core::mask::plan::Plan;
use crewtap_core::run::Mode;

use super::Session;
use crate::recorder::Unrecorded;

impl Session {
    /// The rules that hide values from the client; none where nothing is hidden from it. Who asks for them lets everything that
    /// the target says pass through them: events say so from now on.
    #[must_use]
    pub fn wire_plan(&self) -> Option<Arc<Plan>> {
        let plan = self.masking.plan().wire().cloned();
        self.masking.is_wired.set(plan.is_some());
        plan
    }

    /// Whether rules are about columns, whose names drivers then tell with what they describe.
    #[must_use]
    pub fn masks_columns(&self) -> bool {
        self.masking.plan().has_columns()
    }

    /// One stream of the target on its way to the client, under these rules.
    #[must_use]
    pub fn outgoing(&self, plan: &Arc<Plan>, media_type: &str) -> Outgoing {
        Outgoing::new(plan, &self.ground.key, media_type)
    }

    /// From now on nobody reads what the target says, so that no value can be hidden from the client: whether it may go on,
    /// which enforce does not allow where rules want values hidden. It is on record once.
    ///
    /// # Errors
    /// When it could not be recorded.
    pub fn may_be_unmasked(&self, why: &str) -> Result<bool, Unrecorded> {
        self.masking.is_wired.set(false);
        self.may_leave(why)
    }

    /// The same of something that a session says once, and does not go on with.
    ///
    /// # Errors
    /// When it could not be recorded.
    pub fn may_leave(&self, why: &str) -> Result<bool, Unrecorded> {
        if self.masking.plan().wire().is_none() {
            return Ok(true);
        }
        let is_refused = self.mode() == Mode::Enforce;
        if !self.masking.is_unkept.replace(true) {
            let then = if is_refused { "the connection is refused" } else { "the client gets all values" };
            let text = format!("masks with `apply = \"wire\"` cannot be kept here, because {why}: {then}");
            self.record(Note { code: "mask_wire_unkept".into(), text })?;
        }
        Ok(!is_refused)
    }
}
