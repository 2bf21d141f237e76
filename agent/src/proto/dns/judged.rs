//! Whether a name may be looked up: judged before the resolver sees the question.
//!
//! Nobody waits for a human here, because resolvers and clients give up within seconds: what would be asked for is refused.

use crewtap_core::action::{Action, Fact, Facts, Verb};
use crewtap_core::bodies::Decided;
use crewtap_core::id::{SessionId, Ulid};
use crewtap_core::target::{Resource, Target};
use crewtap_core::wire::dns::{Message, first_question};

use super::view::Asked;
use crate::gate::Question;
use crate::runs::Run;
use crate::session::Ground;

/// What is not understood, and so may be any name.
const UNPARSED: &str = "UNPARSED";

/// The decision for the record, and whether the question may go on; none where everything passes unseen.
pub(super) fn judge(ground: &Ground, run: &Run, asked: &Asked, message: &[u8]) -> Option<(Decided, bool)> {
    let target = Target { address: asked.resolver, name: None };
    // An address alone: nothing of it is claimed.
    let found = ground.catalog.resource(&target, "dns", false);
    let mode = found.map_or(run.mode, |found| found.mode(run.mode));
    if ground.gate.is_open(mode) {
        return None;
    }
    let resource = found.map_or_else(|| Resource::uncatalogued(target.address), |found| found.entry.resource());
    let mut action = action(message);
    action.facts.extend(target.facts());
    action.facts.extend(ground.facts(run));
    let question = Question {
        run: run.id,
        // Look-ups over UDP belong to no session.
        session: SessionId(Ulid::from_bytes([0; 16])),
        exchange: None,
        identity: &run.identity,
        action: &action,
        target: &target,
        resource: &resource,
        content: None,
    };
    let (verdict, overridden, passes) = ground.gate.weigh(mode, &question);
    let Action { verb, subject, facts } = action;
    Some((Decided { verb: verb.as_str().into(), subject, verdict, mode, facts, resource, overridden }, passes))
}

/// What a question asks for; one that is not exactly one question asks for anything.
fn action(message: &[u8]) -> Action {
    let question = match (Message::parse(message), first_question(message)) {
        (Ok(_), Some((_, question))) if questions(message) == 1 => Some(question),
        _ => None,
    };
    let (name, record) = question.map_or_else(
        || (UNPARSED.to_owned(), UNPARSED.to_owned()),
        |question| (question.name.trim_end_matches('.').to_ascii_lowercase(), question.record),
    );
    let facts =
        Facts::from([("name".to_owned(), Fact::Text(name.clone())), ("record".to_owned(), Fact::Text(record.clone()))]);
    Action { verb: Verb::Resolve, subject: format!("{record} {name}"), facts }
}

/// QDCOUNT (RFC 1035, section 4.1.1).
fn questions(message: &[u8]) -> u16 {
    match message.get(4..6) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(count: u8) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, count, 0, 0, 0, 0, 0, 0];
        for _ in 0..count {
            message.extend_from_slice(b"\x03API\x07example\x00\x00\x01\x00\x01");
        }
        message
    }

    #[test]
    fn names_are_folded_and_what_is_not_one_question_asks_for_anything() {
        let name = |message: &[u8]| action(message).facts["name"].clone();
        assert_eq!(name(&question(1)), Fact::Text("api.example".into()));
        assert_eq!(action(&question(1)).subject, "A api.example");
        for wrong in [question(2), question(0), b"no dns".to_vec(), Vec::new()] {
            assert_eq!(name(&wrong), Fact::Text(UNPARSED.into()), "{wrong:?}");
        }
    }
}
