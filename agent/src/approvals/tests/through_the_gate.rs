//! The desk behind the gate, as drivers meet it.

use super::*;
use crate::gate;

/// Asks the desk for everything.
#[derive(Debug)]
struct AsksAll(Approvals);

impl gate::Judge for AsksAll {
    fn judge(&self, _: &gate::Question<'_>) -> crewtap_core::verdict::Verdict {
        let terms = Terms { groups: BTreeSet::new(), approvers: 1, whole_session: false };
        crewtap_core::verdict::Verdict::ask(vec!["all".into()], terms)
    }

    fn approval(&self, question: &gate::Question<'_>, verdict: &crewtap_core::verdict::Verdict) -> Approval {
        self.0.ask(Asked::of(question, verdict))
    }

    fn overridden(&self, question: &gate::Question<'_>) -> Option<String> {
        self.0.overridden(&question.resource.id)
    }
}

#[tokio::test]
async fn the_gate_holds_lets_a_retry_pass_and_an_override_opens_it() {
    let desk = Desk::new();
    let gate = gate::Gate::of(Arc::new(AsksAll(desk.approvals.clone())));
    let target = crewtap_core::target::Target { address: "127.0.0.1:80".parse().unwrap(), name: None };
    let resource = Resource::uncatalogued(target.address);
    let (identity, facts) = (person(1000, Some(1000), &[]), crewtap_core::action::Facts::new());
    let action =
        crewtap_core::action::Action { verb: crewtap_core::action::Verb::HttpRequest, subject: "POST /".into(), facts };
    let (clear, media_type) = (b"body"[..].into(), "text/plain".into());
    let content = gate::Content { clear, shown: b"body"[..].into(), media_type, ..gate::Content::default() };
    let decide = || {
        let (run, session, exchange) = (desk.run, SessionId(Ulid::generate()), Some(1));
        let (identity, action, target, resource, content) = (&identity, &action, &target, &resource, &content);
        let question =
            gate::Question { run, session, exchange, identity, action, target, resource, content: Some(content) };
        gate.decide(crewtap_core::run::Mode::Enforce, &question).passage
    };
    let gate::Passage::Held(held) = decide() else { panic!("not held") };
    let id = held.id().to_owned();
    assert_eq!(held.answer_within(Duration::from_millis(1)).await.unwrap_err(), None, "it stays open");
    desk.approvals.answer(&id, &approver(1, &[]), true, None).unwrap();
    let gate::Passage::Held(again) = decide() else { panic!("not held") };
    assert_eq!(again.id(), id);
    assert_eq!(again.answer_within(Duration::from_millis(1)).await.unwrap().target(), &target);
    let gate::Passage::Held(held) = decide() else { panic!("not held") };
    drop(held);
    assert_eq!(desk.recorded().last().unwrap(), "withdrawn");
    let oncall = approver(7, &["os:oncall"]);
    let target = resource.id.clone();
    desk.approvals.begin_override(&oncall, target, "fire", Duration::from_mins(1)).unwrap();
    assert!(matches!(decide(), gate::Passage::Open(_)));
}
