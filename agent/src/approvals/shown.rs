//! A question as front ends show it: the control socket, the API and the webhook say the same.
//!
//! Holds what may be shown, and never what is in clear.

use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::limits::APPROVAL_PAGE_BYTES;
use crewtap_core::verdict::Terms;
use serde::{Deserialize, Serialize};

use super::registry::Question;

/// A question that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// Its id.
    pub id: String,
    /// In which run.
    pub run: RunId,
    /// In which session.
    pub session: SessionId,
    /// For which exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// For whom.
    pub identity: Identity,
    /// What policy takes the target for.
    pub target: String,
    /// Verb of the action.
    pub verb: String,
    /// Subject of the action.
    pub subject: String,
    /// Policies that ask for it.
    pub policies: Vec<String>,
    /// Who must approve.
    pub terms: Terms,
    /// Who has approved it already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<Identity>,
    /// What a grant is bound to.
    pub digest: String,
    /// When it was asked, nanoseconds since the Unix epoch.
    pub asked_ns: u64,
    /// When it is denied by itself, nanoseconds since the Unix epoch.
    pub expires_ns: u64,
    /// Media type of what would be sent.
    pub media_type: String,
    /// Bytes of it.
    pub len: u64,
}

/// A piece of what would be sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// The text from where it was asked for; what is no text is shown with marks in its place.
    pub text: String,
    /// Where the next piece begins, in bytes; none after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Waiting {
    pub(super) fn of(id: Ulid, question: &Question) -> Self {
        let asked = &question.asked;
        Self {
            id: id.to_string(),
            run: asked.run,
            session: asked.session,
            n: asked.exchange,
            identity: asked.identity.clone(),
            target: asked.resource.id.clone(),
            verb: asked.verb.into(),
            subject: asked.subject.clone(),
            policies: asked.policies.clone(),
            terms: asked.terms.clone(),
            approved_by: question.approved_by.clone(),
            digest: question.digest.clone(),
            asked_ns: question.asked_ns,
            expires_ns: question.expires_ns,
            media_type: asked.media_type.clone(),
            len: u64::try_from(asked.shown.len()).unwrap_or(u64::MAX),
        }
    }
}

impl Page {
    /// The piece of `content` that begins at byte `from`. A character is not cut in two.
    #[must_use]
    pub fn of(content: &[u8], from: u64) -> Self {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(content.len());
        let rest = content.get(from..).unwrap_or_default();
        let mut end = rest.len().min(APPROVAL_PAGE_BYTES);
        if end < rest.len() {
            // Bytes that continue a character belong to what comes before them; one has three of them at most.
            let starts = |at: &usize| rest.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
            end = (end.saturating_sub(3)..=end).rev().find(starts).unwrap_or(end);
        }
        let text = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
        let next = (end < rest.len()).then(|| u64::try_from(from + end).unwrap_or(u64::MAX));
        Self { text, next }
    }
}
