//! What somebody is asked for, and the digest that binds an answer to it.
//!
//! Never records and never shows what is in clear.

use std::sync::Arc;

use crewtap_core::id::{RunId, SessionId};
use crewtap_core::identity::Identity;
use crewtap_core::mask::digest::DigestKey;
use crewtap_core::secret::Secret;
use crewtap_core::target::Resource;
use crewtap_core::verdict::{Terms, Verdict};

use crate::gate::Question;

/// What tells these digests from all others under the same key.
const PURPOSE: &[u8] = b"crewtap approval 1";

/// What somebody is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// In which run.
    pub run: RunId,
    /// In which session.
    pub session: SessionId,
    /// For which exchange.
    pub exchange: Option<u32>,
    /// For whom.
    pub identity: Identity,
    /// Where.
    pub resource: Resource,
    /// Verb of the action.
    pub verb: &'static str,
    /// Subject of the action.
    pub subject: String,
    /// Policies that ask for it.
    pub policies: Vec<String>,
    /// Who must approve.
    pub terms: Terms,
    /// What would be sent, in clear.
    pub clear: Arc<Secret>,
    /// What would be sent, as it may be shown.
    pub shown: Arc<[u8]>,
    /// Media type of `shown`.
    pub media_type: String,
}

impl Asked {
    /// What a question that was judged to need an approval comes to.
    #[must_use]
    pub fn of(question: &Question<'_>, verdict: &Verdict) -> Self {
        let content = question.content.cloned().unwrap_or_default();
        let nobody = || Terms { groups: std::collections::BTreeSet::new(), approvers: 1, whole_session: false };
        Self {
            run: question.run,
            session: question.session,
            exchange: question.exchange,
            identity: question.identity.for_record(),
            resource: question.resource.clone(),
            verb: question.action.verb.as_str(),
            subject: question.action.subject.clone(),
            policies: verdict.policies.clone(),
            terms: verdict.terms.clone().unwrap_or_else(nobody),
            clear: Arc::new(Secret::new(content.clear.into_owned())),
            shown: content.shown.as_ref().into(),
            media_type: content.media_type.into_owned(),
        }
    }

    /// What a grant is bound to: everything that says what would happen, where and for whom; not the session, so that a retry
    /// has the same.
    #[must_use]
    pub fn digest(&self, key: &DigestKey) -> String {
        let mut digest = key.begin();
        let (verb, subject) = (self.verb.as_bytes(), self.subject.as_bytes());
        // Every length goes before its bytes: no two contents read alike.
        for part in
            [PURPOSE, self.resource.id.as_bytes(), self.identity.id.as_bytes(), verb, subject, self.clear.expose()]
        {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(part);
        }
        digest.finish()
    }
}
