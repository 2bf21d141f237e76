//! An exchange that has begun: what its answer has come to so far.
//!
//! Owns the sum of several messages. Never records.

use crewtap_core::action::{Fact, Facts};
use crewtap_core::bodies::Response;
use crewtap_core::limits::{FACT_TEXT_MAX, POSTGRES_COLUMNS_MAX};
use crewtap_core::wire::postgres::message::{CommandComplete, Report, Status};
use crewtap_core::wire::postgres::{Columns, MEDIA_TYPE};

use super::told::{columns, part};

/// What is known of one exchange.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and most pairs of them occur")]
pub(super) struct Exchange {
    /// Bytes of each side on record: client, server.
    pub(super) offsets: [u64; 2],
    /// Rows that came.
    rows: u64,
    /// Rows that the tags count, where they do.
    counted: Option<u64>,
    /// Command tags, joined.
    tag: String,
    /// What is needed to read its rows.
    media_type: Option<String>,
    /// Names of its columns.
    names: String,
    failure: Option<(String, String)>,
    refused: bool,
    notices: u64,
    /// It has more rows, which the client has not asked for yet.
    pub(super) suspended: bool,
    /// The answer to something that may be the exchange's last has come, and is not on record.
    pub(super) answered: bool,
    /// Rows are copied whose columns are named.
    pub(super) is_copied: bool,
    /// Its outcome is on record.
    pub(super) told: bool,
}

impl Exchange {
    /// One that nothing is owed of: only what is judged has an outcome to come.
    pub(super) fn settled() -> Self {
        Self { told: true, ..Self::default() }
    }

    /// Rows came.
    pub(super) fn rows(&mut self, rows: u32) {
        self.rows += u64::from(rows);
    }

    /// Its columns, as they are known when rows or their description come.
    /// `named`: masks look for their names.
    pub(super) fn columns(&mut self, of: Option<Columns<'_>>, named: bool) {
        if let Some(of) = of {
            self.names.clear();
            for (name, _, _) in of.iter() {
                if self.names.len() > FACT_TEXT_MAX {
                    break;
                }
                if !self.names.is_empty() {
                    self.names.push_str(", ");
                }
                self.names.push_str(&String::from_utf8_lossy(name.get(..FACT_TEXT_MAX).unwrap_or(name)));
            }
            self.media_type = columns(Some(of).filter(|of| of.len() <= POSTGRES_COLUMNS_MAX), named);
        }
    }

    /// Its rows are copied, and this is what is needed to read them.
    pub(super) fn copies(&mut self, media_type: String) {
        (self.is_copied, self.media_type) = (true, Some(media_type));
    }

    /// What is needed to read its rows where they stand alone.
    pub(super) fn media_type(&self) -> Option<&str> {
        self.media_type.as_deref()
    }

    pub(super) fn complete(&mut self, complete: &CommandComplete<'_>) {
        if !self.tag.is_empty() {
            self.tag.push_str("; ");
        }
        self.tag.push_str(&String::from_utf8_lossy(complete.tag));
        self.tag.truncate(self.tag.floor_char_boundary(FACT_TEXT_MAX));
        self.counted = complete.rows().map(|rows| rows + self.counted.unwrap_or_default()).or(self.counted);
        self.answered = true;
    }

    pub(super) fn notice(&mut self) {
        self.notices += 1;
    }

    pub(super) fn failed(&mut self, report: &Report<'_>, refused: bool) {
        let text = |kind| String::from_utf8_lossy(report.get(kind).unwrap_or_default()).into_owned();
        self.failure = Some((text(b'C'), text(b'M')));
        self.refused |= refused;
        self.answered = true;
    }

    /// The server did not do it, because something before it failed.
    pub(super) fn skipped(&mut self) -> Response {
        self.told = true;
        let facts = Facts::from([("message".to_owned(), Fact::Text("skipped: a message before it failed".into()))]);
        Response { outcome: "aborted".into(), facts, parts: vec![part(MEDIA_TYPE.into(), 0)], ..Response::default() }
    }

    /// Its answer, as far as it has come.
    pub(super) fn response(&mut self, transaction: Status, len: usize) -> Response {
        (self.answered, self.told) = (false, true);
        let mut facts = Facts::from([("transaction".to_owned(), Fact::Text(transaction.as_str().into()))]);
        let mut text = |name: &str, text: &str| {
            if !text.is_empty() {
                facts.insert(
                    name.into(),
                    Fact::Text(text.get(..text.floor_char_boundary(FACT_TEXT_MAX)).unwrap_or(text).into()),
                );
            }
        };
        text("tag", &self.tag);
        text("columns", &self.names);
        let (code, message) = self.failure.clone().unzip();
        text("message", message.as_deref().unwrap_or_default());
        if self.notices > 0 {
            facts.insert("notices".into(), Fact::Int(i64::try_from(self.notices).unwrap_or(i64::MAX)));
        }
        let outcome = match &self.failure {
            _ if self.refused => "blocked",
            Some(_) => "failure",
            None => "success",
        };
        let media_type = self.media_type.clone().unwrap_or_else(|| MEDIA_TYPE.into());
        let came = Some(self.rows).filter(|rows| *rows > 0);
        let count = self.counted.max(came);
        Response {
            outcome: outcome.into(),
            code,
            count,
            facts,
            parts: vec![part(media_type, len)],
            ..Response::default()
        }
    }
}
