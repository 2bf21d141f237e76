//! The desk: who may answer, what an answer is good for, and what is on record of it.

mod bound;
mod model;
mod overrides;
mod persons;
mod through_the_gate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crewtap_core::id::SessionId;
use crewtap_core::identity::{Basis, Identity};
use crewtap_core::secret::Secret;
use crewtap_core::target::Resource;
use crewtap_core::verdict::Terms;

use super::*;
use crate::journal::{Journal, Options, Reader};

pub(super) fn person(uid: u32, login_uid: Option<u32>, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(ToString::to_string).collect();
    let basis = Basis::Os { uid, login_uid, sudo_user: None };
    Identity { id: format!("os:{uid}"), name: format!("user{uid}"), groups, groups_left_off: 0, basis }
}

pub(super) fn approver(uid: u32, groups: &[&str]) -> Approver {
    Approver { identity: person(uid, Some(uid), groups), is_root: true, way: "control" }
}

pub(super) fn asked(run: RunId, session: SessionId, content: &str) -> Asked {
    Asked {
        run,
        session,
        exchange: Some(3),
        identity: person(1000, Some(1000), &["os:crew"]),
        resource: Resource { id: "orders-db".into(), tags: Vec::new() },
        verb: "query",
        subject: "DELETE FROM orders".into(),
        policies: vec!["no-delete".into()],
        terms: Terms { groups: BTreeSet::new(), approvers: 1, whole_session: false },
        clear: Arc::new(Secret::new(content.as_bytes().to_vec())),
        shown: content.replace("secret", "***").into_bytes().into(),
        media_type: "text/plain".into(),
    }
}

struct Desk {
    dir: tempfile::TempDir,
    journal: Journal,
    approvals: Approvals,
    run: RunId,
    session: SessionId,
}

impl Desk {
    fn new() -> Self {
        Self::with(ApprovalsConfig::default())
    }

    fn with(config: ApprovalsConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), &Options::default(), None).unwrap();
        let overrides = OverrideConfig { groups: vec!["os:oncall".into()], ..OverrideConfig::default() };
        let recorder = Recorder::new(journal.clone());
        let approvals = Approvals::new(config, overrides, journal.store_key(), recorder);
        let (run, session) = (RunId(Ulid::generate()), SessionId(Ulid::generate()));
        Self { dir, journal, approvals, run, session }
    }

    fn ask(&self, content: &str) -> Approval {
        self.approvals.ask(asked(self.run, self.session, content))
    }

    /// What is on record of approvals: kind, answer, who.
    fn recorded(&self) -> Vec<String> {
        let records = Reader::open(self.dir.path()).unwrap().from(0).map(Result::unwrap).collect::<Vec<_>>();
        records
            .iter()
            .filter_map(|record| match &record.event.body {
                Body::ApprovalAsked(asked) => {
                    assert_eq!(record.event.run, Some(self.run));
                    assert!(record.event.session.is_some());
                    Some(format!("asked {} {}", asked.subject, String::from_utf8_lossy(&record.payload)))
                }
                Body::ApprovalAnswered(answered) => {
                    let by = answered.by.as_ref().map(|by| format!(" by {}", by.id)).unwrap_or_default();
                    let settled = if answered.settled { "" } else { ", not settled" };
                    Some(format!("{}{by}{settled}", answered.answer))
                }
                Body::Override(one) => {
                    Some(format!("override {} {}", one.target, if one.ended { "ends" } else { "begins" }))
                }
                _ => None,
            })
            .collect()
    }
}

/// The answer as it is now.
fn now(approval: &mut Approval) -> Option<Answer> {
    match approval.answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn why(result: Result<Outcome, NotCounted>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_question_is_on_record_masked_then_answered_then_passes_once() {
    let desk = Desk::new();
    let mut held = desk.ask("DELETE … secret");
    assert_eq!(now(&mut held), None);
    let waiting = desk.approvals.waiting();
    assert_eq!((waiting.len(), waiting[0].id.as_str(), waiting[0].n), (1, held.id.as_str(), Some(3)));
    assert_eq!(desk.approvals.shown(&held.id, 0).unwrap().text, "DELETE … ***");
    let reason = Some("ticket\x1b[2J 7".to_owned());
    let outcome = desk.approvals.answer(&held.id, &approver(1, &[]), true, reason).unwrap();
    assert_eq!(outcome, Outcome { settled: true, missing: 0 });
    let answer = now(&mut held).unwrap();
    assert_eq!((answer.approved, answer.why.as_str()), (true, "approved by user1: ticket [2J 7"));
    drop(held);
    assert!(desk.approvals.waiting().is_empty());
    assert_eq!(now(&mut desk.ask("DELETE … secret")), None, "the next one is asked for again");
    let recorded = desk.recorded();
    let subject = "asked DELETE FROM orders DELETE … ***";
    assert_eq!(recorded, [subject, "approved by os:1", subject, "withdrawn"]);
}

#[test]
fn four_eyes_see_through_sudo_and_root_alone_is_nobodys_twin() {
    let own = person(1000, Some(1000), &[]);
    for (other, one) in [
        (person(1000, None, &[]), true),
        (person(0, Some(1000), &[]), true),
        (person(1001, Some(1000), &[]), true),
        (person(0, None, &[]), false),
        (person(0, Some(0), &[]), false),
        (person(1001, Some(1001), &[]), false),
    ] {
        assert_eq!(are_one(&own, &other), one, "{other:?}");
        assert_eq!(are_one(&other, &own), one, "{other:?}");
    }
    assert!(!are_one(&person(0, Some(1), &[]), &person(2, Some(0), &[])), "both are root somewhere");
    let desk = Desk::new();
    let mut held = desk.ask("x");
    let mine = Approver { identity: person(0, Some(1000), &[]), is_root: true, way: "control" };
    assert!(why(desk.approvals.answer(&held.id, &mine, true, None)).contains("somebody else must approve it"));
    assert_eq!(now(&mut held), None);
    let lax = Desk::with(ApprovalsConfig { four_eyes: false, ..ApprovalsConfig::default() });
    let mut held = lax.ask("x");
    lax.approvals.answer(&held.id, &mine, true, None).unwrap();
    assert!(now(&mut held).unwrap().approved);
}

#[test]
fn who_asked_may_take_it_back_and_who_is_not_known_may_nothing() {
    let desk = Desk::new();
    let mut held = desk.ask("x");
    let unknown = Approver { identity: Identity::unknown(), is_root: true, way: "control" };
    assert!(why(desk.approvals.answer(&held.id, &unknown, false, None)).contains("not known"));
    desk.approvals.answer(&held.id, &approver(1000, &[]), false, Some("a mistake".into())).unwrap();
    assert_eq!(now(&mut held).unwrap(), Answer { approved: false, why: "denied by user1000: a mistake".into() });
    let nobodys = Asked { identity: Identity::unknown(), ..asked(desk.run, desk.session, "x") };
    let held = desk.approvals.ask(nobodys);
    assert!(why(desk.approvals.answer(&held.id, &approver(1, &[]), true, None)).contains("whose run it is"));
}

#[test]
fn groups_of_the_policy_then_of_the_configuration_then_root() {
    let root = approver(1, &[]);
    let plain = Approver { is_root: false, ..approver(2, &["os:dba"]) };
    let desk = Desk::new();
    let held = desk.ask("x");
    assert!(why(desk.approvals.answer(&held.id, &plain, true, None)).contains("only root may answer"));
    let desk = Desk::with(ApprovalsConfig { groups: vec!["os:dba".into()], ..ApprovalsConfig::default() });
    let held = desk.ask("x");
    assert!(why(desk.approvals.answer(&held.id, &root, true, None)).contains("in none of `approvals.groups`"));
    desk.approvals.answer(&held.id, &plain, true, None).unwrap();
    let mut question = asked(desk.run, desk.session, "y");
    question.terms.groups = ["os:dba".to_owned(), "os:security".to_owned()].into();
    let held = desk.approvals.ask(question);
    assert!(why(desk.approvals.answer(&held.id, &plain, true, None)).contains("is not in os:security"));
    assert!(why(desk.approvals.answer(&held.id, &plain, false, None)).contains("is not in os:security"));
    desk.approvals.answer(&held.id, &approver(3, &["os:dba", "os:security"]), true, None).unwrap();
}

#[test]
fn two_different_people_where_two_are_asked_for_and_one_denial_is_enough() {
    let desk = Desk::new();
    let two = |content: &str| {
        let mut question = asked(desk.run, desk.session, content);
        question.terms.approvers = 2;
        desk.approvals.ask(question)
    };
    let mut held = two("x");
    let outcome = desk.approvals.answer(&held.id, &approver(1, &[]), true, None).unwrap();
    assert_eq!((outcome, now(&mut held)), (Outcome { settled: false, missing: 1 }, None));
    assert!(why(desk.approvals.answer(&held.id, &approver(1, &[]), true, None)).contains("has approved it already"));
    let sudo = Approver { identity: person(0, Some(1), &[]), is_root: true, way: "control" };
    assert!(why(desk.approvals.answer(&held.id, &sudo, true, None)).contains("has approved it already"));
    desk.approvals.answer(&held.id, &approver(2, &[]), true, None).unwrap();
    assert_eq!(now(&mut held).unwrap().why, "approved by user1, user2");
    let mut held = two("y");
    desk.approvals.answer(&held.id, &approver(1, &[]), true, None).unwrap();
    desk.approvals.answer(&held.id, &approver(2, &[]), false, None).unwrap();
    assert!(!now(&mut held).unwrap().approved);
    assert!(why(desk.approvals.answer(&held.id, &approver(3, &[]), true, None)).contains("does not wait any more"));
}

#[test]
fn of_two_approvers_at_once_exactly_one_is_counted() {
    let desk = Desk::new();
    for round in 0..50 {
        let mut held = desk.ask(&round.to_string());
        let counted: usize = std::thread::scope(|scope| {
            let answer = |uid, approve| {
                let (approvals, id) = (&desk.approvals, held.id.as_str());
                scope.spawn(move || usize::from(approvals.answer(id, &approver(uid, &[]), approve, None).is_ok()))
            };
            let both = [answer(1, true), answer(2, round % 2 == 0)];
            both.map(|one| one.join().unwrap()).iter().sum()
        });
        assert_eq!(counted, 1);
        assert!(now(&mut held).is_some());
    }
}

#[test]
fn what_was_left_is_joined_by_the_same_again_and_its_grant_passes_one_of_two() {
    let desk = Desk::new();
    let held = desk.ask("x");
    let id = held.id.clone();
    (held.leave)();
    drop(held.answer);
    let mut again = desk.ask("x");
    assert_eq!(now(&mut again), None);
    assert_eq!(again.id, id, "the same question");
    let other = desk.ask("x");
    assert_ne!(other.id, id, "while one waits, another is a question of its own");
    assert_ne!(desk.ask("y").id, id);
    (again.leave)();
    drop(again.answer);
    desk.approvals.answer(&id, &approver(1, &[]), true, None).unwrap();
    assert_eq!(now(&mut desk.ask("X")), None, "changed after the approval");
    let passed: usize = std::thread::scope(|scope| {
        let (approvals, run) = (&desk.approvals, desk.run);
        let retry = || {
            let session = SessionId(Ulid::generate());
            scope.spawn(move || desk_passes(approvals, asked(run, session, "x")))
        };
        [retry(), retry(), retry()].map(|one| usize::from(one.join().unwrap())).iter().sum()
    });
    assert_eq!(passed, 1);
    assert_eq!(desk.recorded().iter().filter(|line| *line == "used").count(), 1);
}

fn desk_passes(approvals: &Approvals, asked: Asked) -> bool {
    now(&mut approvals.ask(asked)).is_some_and(|answer| answer.approved)
}

#[test]
fn an_answer_at_the_moment_of_leaving_is_not_lost() {
    let desk = Desk::new();
    for approve in [true, false] {
        let held = desk.ask("x");
        desk.approvals.answer(&held.id, &approver(1, &[]), approve, None).unwrap();
        (held.leave)();
        drop(held.answer);
        assert_eq!(now(&mut desk.ask("x")).unwrap().approved, approve);
        assert_eq!(now(&mut desk.ask("x")), None, "once");
    }
}

#[test]
fn a_grant_of_other_terms_or_of_another_run_is_none() {
    let desk = Desk::new();
    let held = desk.ask("x");
    (held.leave)();
    drop(held.answer);
    desk.approvals.answer(&held.id, &approver(1, &[]), true, None).unwrap();
    let mut stricter = asked(desk.run, desk.session, "x");
    stricter.terms.approvers = 2;
    assert!(!desk_passes(&desk.approvals, stricter), "policy has changed meanwhile");
    assert!(!desk_passes(&desk.approvals, asked(RunId(Ulid::generate()), desk.session, "x")));
    let elsewhere = Resource { id: "tcp:127.0.0.1:5432".into(), tags: Vec::new() };
    assert!(!desk_passes(&desk.approvals, Asked { resource: elsewhere, ..asked(desk.run, desk.session, "x") }));
    let another = Asked { identity: person(1001, None, &[]), ..asked(desk.run, desk.session, "x") };
    assert!(!desk_passes(&desk.approvals, another));
    assert!(desk_passes(&desk.approvals, asked(desk.run, desk.session, "x")), "its own is still there");
}

#[test]
fn a_whole_session_passes_where_the_policy_says_so_and_no_other() {
    let desk = Desk::new();
    let whole = |session, content: &str| {
        let mut question = asked(desk.run, session, content);
        question.terms.whole_session = true;
        desk.approvals.ask(question)
    };
    let mut held = whole(desk.session, "x");
    desk.approvals.answer(&held.id, &approver(1, &[]), true, None).unwrap();
    assert!(now(&mut held).unwrap().approved);
    assert!(now(&mut whole(desk.session, "x")).unwrap().approved);
    assert!(now(&mut whole(desk.session, "x")).unwrap().approved);
    assert_eq!(now(&mut whole(desk.session, "y")), None);
    assert_eq!(now(&mut whole(SessionId(Ulid::generate()), "x")), None);
    assert_eq!(now(&mut desk.ask("x")), None, "a policy that does not say so asks");
    assert_eq!(desk.recorded().iter().filter(|line| *line == "used").count(), 2);
    desk.approvals.run_ended(desk.run);
    assert_eq!(now(&mut whole(desk.session, "x")), None);
}

#[tokio::test]
async fn what_nobody_answers_in_time_is_denied_and_cannot_be_approved_any_more() {
    let desk = Desk::with(ApprovalsConfig { expires: Duration::from_millis(20), ..ApprovalsConfig::default() });
    let held = desk.ask("x");
    let id = held.id.clone();
    let answer = tokio::select! {
        answer = held.answer => answer,
        () = desk.approvals.watch_time() => unreachable!(),
    };
    assert_eq!(answer, Answer { approved: false, why: "nobody has answered in time".into() });
    assert!(why(desk.approvals.answer(&id, &approver(1, &[]), true, None)).contains("does not wait any more"));
    assert_eq!(desk.recorded()[1..], ["expired"]);
}

#[test]
fn an_approval_after_the_time_counts_as_none_though_nobody_looked_at_the_clock() {
    let desk = Desk::with(ApprovalsConfig { expires: Duration::from_nanos(1), ..ApprovalsConfig::default() });
    let mut held = desk.ask("x");
    assert!(why(desk.approvals.answer(&held.id, &approver(1, &[]), true, None)).contains("does not wait any more"));
    assert!(!now(&mut held).unwrap().approved);
}

#[test]
fn a_journal_that_takes_nothing_denies_at_every_step() {
    let desk = Desk::new();
    let (mut held, left) = (desk.ask("x"), desk.ask("y"));
    (left.leave)();
    drop(left.answer);
    desk.approvals.answer(&left.id, &approver(1, &[]), true, None).unwrap();
    desk.journal.close().unwrap();
    assert!(why(desk.approvals.answer(&held.id, &approver(1, &[]), true, None)).contains("it counts as denied"));
    let answer = now(&mut held).unwrap();
    assert!(!answer.approved && answer.why.contains("cannot be recorded"), "{answer:?}");
    assert!(!now(&mut desk.ask("y")).unwrap().approved, "the use of a grant");
    assert!(!now(&mut desk.ask("z")).unwrap().approved, "a question");
    let oncall = approver(7, &["os:oncall"]);
    let begun = desk.approvals.begin_override(&oncall, "orders-db".into(), "fire", Duration::from_mins(1));
    assert!(begun.unwrap_err().to_string().contains("cannot be recorded"));
    assert_eq!(desk.approvals.overridden("orders-db"), None);
}

#[test]
fn the_end_of_a_run_and_of_the_agent_end_what_waits() {
    let desk = Desk::new();
    let (mut held, left) = (desk.ask("x"), desk.ask("y"));
    (left.leave)();
    drop(left.answer);
    desk.approvals.run_ended(desk.run);
    assert_eq!(now(&mut held).unwrap().why, "its run has ended");
    let mut held = desk.ask("z");
    desk.approvals.end();
    assert_eq!(now(&mut held).unwrap().why, "the agent has ended");
    assert_eq!(now(&mut desk.ask("z")).unwrap().why, "the agent is ending");
    let recorded = desk.recorded();
    assert_eq!(
        recorded.iter().filter(|line| !line.starts_with("asked")).collect::<Vec<_>>(),
        ["withdrawn", "withdrawn", "lost"]
    );
    assert!(desk.approvals.waiting().is_empty());
}

#[test]
fn a_run_cannot_take_all_places_and_what_has_gone_gives_its_place_back() {
    let desk = Desk::new();
    let many: Vec<Approval> =
        (0..crewtap_core::limits::APPROVALS_PER_RUN_MAX).map(|n| desk.ask(&n.to_string())).collect();
    assert!(now(&mut desk.ask("one more")).unwrap().why.contains("too many questions of this run"));
    let elsewhere = desk.approvals.ask(asked(RunId(Ulid::generate()), desk.session, "x"));
    assert!(!elsewhere.id.is_empty());
    drop(many);
    assert_eq!(now(&mut desk.ask("one more")), None);
    drop(elsewhere);
    let large = vec!["x".repeat(crewtap_core::limits::APPROVALS_BYTES_MAX / 8); 4];
    let large: Vec<Approval> = large.iter().enumerate().map(|(n, text)| desk.ask(&format!("{n}{text}"))).collect();
    assert_eq!(large.iter().filter(|one| one.id.is_empty()).count(), 1, "of them three have room, twice each");
}

#[test]
fn clear_values_are_shown_where_that_is_configured_and_it_is_on_record() {
    let desk = Desk::new();
    let held = desk.ask("secret");
    let refused = desk.approvals.revealed(&held.id, &approver(1, &[]), 0).unwrap_err();
    assert!(refused.to_string().contains("`approvals.reveal` is not set"));
    let desk = Desk::with(ApprovalsConfig { reveal: true, ..ApprovalsConfig::default() });
    let held = desk.ask("secret");
    assert_eq!(desk.approvals.revealed(&held.id, &approver(1, &[]), 0).unwrap().text, "secret");
    assert_eq!(desk.recorded(), ["asked DELETE FROM orders ***", "revealed by os:1, not settled"]);
    desk.journal.close().unwrap();
    assert!(desk.approvals.revealed(&held.id, &approver(1, &[]), 0).is_err(), "not on record, not shown");
}

#[test]
fn prefixes_name_one_question_or_none() {
    let desk = Desk::new();
    let held = [desk.ask("x"), desk.ask("y")];
    assert_eq!(desk.approvals.find(&held[0].id.to_lowercase()).unwrap().id, held[0].id);
    for (prefix, said) in [("", "several"), ("0", "several"), ("7ZZ", "no approval"), ("'; --", "no approval")] {
        assert!(desk.approvals.find(prefix).unwrap_err().to_string().contains(said), "{prefix}");
    }
}
