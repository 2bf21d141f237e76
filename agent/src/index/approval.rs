//! Rows of approvals, the answers to them, overrides, and which policies were in force.
//!
//! Knows words, not protocols: what would have been sent is a payload like any other, findable and read from the journal.

use crewtap_core::bodies::{ApprovalAnswered, ApprovalAsked, Note, Override, PolicyLoaded};
use rusqlite::params;

use super::apply::{Batch, Entry, json};
use super::{nanoseconds, text};

impl Batch<'_> {
    pub(super) fn approval_asked(&mut self, entry: &Entry, body: &ApprovalAsked) -> Result<(), rusqlite::Error> {
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO approvals (id, leaf, run, session, n, asked_ns, expires_ns, identity, identity_name,
                     target, verb, subject, policies, terms, digest, media_type)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?
            .execute(params![
                body.id,
                entry.leaf,
                entry.run,
                entry.session,
                entry.n,
                entry.at_ns,
                nanoseconds(body.expires_ns),
                body.identity.id,
                body.identity.name,
                body.target,
                body.verb,
                body.subject,
                json(&body.policies),
                json(&body.terms),
                body.digest,
                body.media_type
            ])?;
        let shown = text::searchable(entry.payload, 0, "").unwrap_or_default();
        let policies = body.policies.join(" ");
        self.text(entry, &format!("{} {} {} {policies} {shown}", body.verb, body.subject, body.target))
    }

    pub(super) fn approval_answered(&mut self, entry: &Entry, body: &ApprovalAnswered) -> Result<(), rusqlite::Error> {
        let by = body.by.as_ref();
        let (by, by_name) = (by.map(|by| by.id.as_str()), by.map(|by| by.name.as_str()));
        self.db
            .prepare_cached("INSERT INTO answers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)")?
            .execute(params![
                entry.leaf,
                body.id,
                entry.run,
                entry.session,
                entry.n,
                entry.at_ns,
                body.answer,
                by,
                by_name,
                body.way,
                body.reason,
                body.settled
            ])?;
        // What settles it comes once; a use of it later changes nothing of that.
        if body.settled && body.answer != "used" {
            self.db
                .prepare_cached(
                    "UPDATE approvals SET answer = ?2, by = ?3, by_name = ?4, way = ?5, reason = ?6, answered_ns = ?7,
                         end_leaf = ?8
                     WHERE id = ?1 AND answer IS NULL",
                )?
                .execute(params![body.id, body.answer, by, by_name, body.way, body.reason, entry.at_ns, entry.leaf])?;
        }
        let reason = body.reason.as_deref().unwrap_or_default();
        self.text(entry, &format!("{} {} {reason}", body.answer, by_name.unwrap_or_default()))
    }

    pub(super) fn overridden(&mut self, entry: &Entry, body: &Override) -> Result<(), rusqlite::Error> {
        if body.ended {
            self.db
                .prepare_cached(
                    "UPDATE overrides SET ended_ns = ?2, ended_by = ?3, end_leaf = ?4 WHERE id = ?1 AND ended_ns IS NULL",
                )?
                .execute(params![body.id, entry.at_ns, body.by.id, entry.leaf])?;
        } else {
            self.db
                .prepare_cached(
                    "INSERT OR IGNORE INTO overrides (id, leaf, at_ns, target, by, by_name, reason, until_ns)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    body.id,
                    entry.leaf,
                    entry.at_ns,
                    body.target,
                    body.by.id,
                    body.by.name,
                    body.reason,
                    nanoseconds(body.until_ns)
                ])?;
        }
        self.text(entry, &format!("override {} {} {}", body.target, body.by.name, body.reason))
    }

    /// Which policies are in force is told where everything is told that an analyst should know.
    pub(super) fn policy_loaded(&mut self, entry: &Entry, body: &PolicyLoaded) -> Result<(), rusqlite::Error> {
        let PolicyLoaded { digest, files, policies, error } = body;
        let files = files.join(", ");
        let (code, error) = match error {
            Some(error) => ("policy_refused", format!("; what is on disk is not in force: {error}")),
            None => ("policy_loaded", String::new()),
        };
        let text = format!("{policies} policies in force from {files} (SHA-256 {digest}){error}");
        self.note(entry, &Note { code: code.into(), text })
    }
}
