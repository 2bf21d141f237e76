//! What a client is told of a request that goes nowhere (RFC 9457: `application/problem+json`).
//!
//! Never decides, and never names anything of the host but policies.

use crewtap_core::id::SessionId;
use crewtap_core::verdict::Verdict;
use serde_json::json;

/// Why a request is answered by crewtap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub(super) status: u16,
    /// The last word of its type.
    pub(super) kind: &'static str,
    pub(super) detail: String,
    pub(super) policies: Vec<String>,
    /// The approval that an identical request would find, and when to send it, in seconds.
    pub(super) later: Option<(String, u64)>,
}

/// When a client may ask again for what nobody has answered yet, in seconds.
const RETRY_SECONDS: u64 = 15;

impl Problem {
    fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), policies: Vec::new(), later: None }
    }

    /// Policy does not allow it.
    pub(super) fn policy(verdict: &Verdict) -> Self {
        let detail = match verdict.policies.as_slice() {
            [] => "no policy allows it".to_owned(),
            policies => format!("refused by {}", policies.join(", ")),
        };
        Self { policies: verdict.policies.clone(), ..Self::new(403, "policy", detail) }
    }

    /// A human has said no, or nobody will answer.
    pub(super) fn denied(mut self, why: &str) -> Self {
        why.clone_into(&mut self.detail);
        Self { kind: "approval", ..self }
    }

    /// Nobody has answered yet.
    pub(super) fn later(self, operation: &str) -> Self {
        let detail = "it waits for an approval: send the same request again".to_owned();
        Self { kind: "approval-pending", detail, later: Some((operation.to_owned(), RETRY_SECONDS)), ..self }
    }

    /// It would be asked for, and nobody can look at all of it.
    pub(super) fn too_large(self, max: usize) -> Self {
        let detail = format!("it needs an approval, and its body has more than the {max} bytes that can be held");
        Self { status: 413, kind: "too-large", detail, ..self }
    }

    /// The host that it names is not the one that the connection leads to.
    pub(super) fn misdirected(host: &str, target: &str) -> Self {
        let detail = format!("the connection is to {target}, whose certificate does not cover {host}");
        Self::new(421, "misdirected", detail)
    }

    /// The catalog's credential cannot be used.
    pub(super) fn uncredentialed() -> Self {
        Self::new(502, "credential", "the credential for this target cannot be used; its owner finds why in the record")
    }

    /// Masks hide values from the client, and cannot look into the answer.
    pub(super) fn unmaskable(why: &str) -> Self {
        Self::new(
            502,
            "masks",
            format!("values in the target's answer are masked, and it cannot be looked into: {why}"),
        )
    }

    /// The target would say what the client must not see.
    pub(super) fn echoed() -> Self {
        Self::new(403, "credential", "TRACE would show the credential that crewtap puts in")
    }

    fn title(&self) -> &'static str {
        match self.kind {
            "policy" => "crewtap: refused by policy",
            "approval" => "crewtap: not approved",
            "approval-pending" => "crewtap: waits for an approval",
            "too-large" => "crewtap: too large to be approved",
            "masks" => "crewtap: an answer that cannot be masked",
            "misdirected" => "crewtap: another host",
            _ => "crewtap: no credential",
        }
    }

    fn reason(&self) -> &'static str {
        match self.status {
            413 => "Content Too Large",
            421 => "Misdirected Request",
            502 => "Bad Gateway",
            _ => "Forbidden",
        }
    }

    /// The whole answer; `head_only` for one to HEAD.
    pub(super) fn answer(&self, session: SessionId, exchange: Option<u32>, head_only: bool, close: bool) -> Vec<u8> {
        let mut body = json!({
            "type": format!("urn:crewtap:{}", self.kind),
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
            "session": session.to_string(),
            "policies": self.policies,
        });
        if let (Some(fields), Some(exchange)) = (body.as_object_mut(), exchange) {
            fields.insert("exchange".into(), exchange.into());
        }
        let mut fields = String::new();
        if let Some((operation, seconds)) = &self.later {
            if let Some(body) = body.as_object_mut() {
                body.insert("operation".into(), operation.as_str().into());
            }
            fields = format!("retry-after: {seconds}\r\n");
        }
        let body = format!("{body}\n");
        let close = if close { "connection: close\r\n" } else { "" };
        let shown = if head_only { "" } else { &body };
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
             {fields}{close}\r\n{shown}",
            self.status,
            self.reason(),
            body.len()
        )
        .into_bytes()
    }
}

/// What a client is told whose connection was refused before anything was dialled: the answer to its first request, whatever
/// that was; then its connection ends.
#[must_use]
pub fn refused_connection(session: SessionId, policies: &[String], why: &str) -> Vec<u8> {
    let policy = Problem { policies: policies.to_vec(), ..Problem::new(403, "policy", why) };
    policy.answer(session, None, false, true)
}

#[cfg(test)]
mod tests {
    use crewtap_core::id::Ulid;
    use crewtap_core::verdict::Effect;
    use crewtap_core::wire::http::{Length, ResponseHead};

    use super::*;

    fn split(answer: &[u8]) -> (ResponseHead<'_>, &[u8]) {
        let at = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let (head, body) = answer.split_at(at);
        (ResponseHead::parse(head).unwrap(), body)
    }

    #[test]
    fn answers_are_whole_messages_and_say_who_and_why() {
        let session = SessionId(Ulid::generate());
        let problem = Problem::policy(&Verdict::of(Effect::Deny, vec!["no-writes".into(), "b\"\r\n".into()]));
        let answer = problem.answer(session, Some(3), false, false);
        let (head, body) = split(&answer);
        assert_eq!((head.status, head.length), (403, Length::Bytes(body.len() as u64)));
        let said: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(said["policies"], json!(["no-writes", "b\"\r\n"]));
        assert_eq!((said["session"].as_str(), said["exchange"].as_u64()), (Some(&*session.to_string()), Some(3)));
        assert!(head.persists());
        let answer = problem.clone().later("01J").answer(session, Some(3), true, true);
        let (head, body) = split(&answer);
        assert!(body.is_empty() && !head.persists());
        assert_eq!(head.fields.get("retry-after"), Some(b"15".as_slice()));
        let answer = refused_connection(session, &["egress".into()], "refused by policy");
        let (head, body) = split(&answer);
        assert!(head.status == 403 && body.starts_with(b"{") && !head.persists());
    }
}
