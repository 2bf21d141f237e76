//! From DNS messages to the words of the record.
//!
//! Never changes a message; what cannot be read is still on record as a look-up that nobody understood.

use std::net::{IpAddr, SocketAddr};

use crewtap_core::bodies::{Bypass, Dns};
use crewtap_core::event::Body;
use crewtap_core::wire::dns::{Message, first_question};

/// Who asked whom, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// `udp` or `tcp`.
    pub(super) transport: &'static str,
    /// The resolver that the process wanted.
    pub(super) resolver: SocketAddr,
    /// The process.
    pub(super) pid: u32,
}

impl Asked {
    /// A question, before the resolver sees it.
    pub(super) fn question(&self, message: &[u8]) -> Body {
        match (Message::parse(message), first_question(message)) {
            (Ok(_), Some((id, question))) => self.dns(id, question.name, question.record).into(),
            _ => self.malformed("question", message).into(),
        }
    }

    /// An answer, before the process sees it, and the addresses that it names.
    pub(super) fn answer(&self, message: &[u8]) -> (Body, Vec<(IpAddr, String)>) {
        let Ok(read) = Message::parse(message) else {
            return (self.malformed("answer", message).into(), Vec::new());
        };
        let names = read.addresses();
        let mut told = self.dns(read.id, read.name().to_owned(), read.record().to_owned());
        told.answered = true;
        told.answers = read.answers.iter().map(|answer| format!("{} {}", answer.record, answer.text)).collect();
        told.code = Some(read.code);
        (told.into(), names)
    }

    /// The resolver did not answer in time.
    pub(super) fn timeout(&self, question: &[u8]) -> Body {
        match first_question(question) {
            Some((id, question)) => {
                let mut told = self.dns(id, question.name, question.record);
                told.answered = true;
                told.code = Some("TIMEOUT".into());
                told.into()
            }
            None => self.malformed("question", question).into(),
        }
    }

    fn dns(&self, id: u16, name: String, record: String) -> Dns {
        Dns {
            id,
            transport: self.transport.into(),
            resolver: self.resolver,
            pid: self.pid,
            name,
            record,
            answered: false,
            code: None,
            answers: Vec::new(),
        }
    }

    /// Bytes to a resolver that are no DNS message may be anything: what they are is in the payload.
    fn malformed(&self, what: &str, message: &[u8]) -> Bypass {
        let detail = format!("a {what} of {} bytes over {} that is no DNS message", message.len(), self.transport);
        Bypass {
            kind: "dns_malformed".into(),
            refused: false,
            address: Some(self.resolver),
            pid: Some(self.pid),
            detail,
        }
    }
}
