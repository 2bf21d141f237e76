//! Whatever is asked, answered, left, dropped and retried in whatever order, also with a journal that fails: nothing passes
//! that was not approved, by enough other people, in time, for exactly this, once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::task::{Poll, Waker};

use crewtap_core::event::{Body, Stamp};
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::mask::digest::DigestKey;
use proptest::prelude::*;

use super::super::asked::Asked;
use super::super::registry::{Asking, Ledger, Registry, Settled};
use super::{approver, asked};
use crate::approvals::are_one;
use crate::config::approvals::ApprovalsConfig;
use crate::journal::{JournalError, Position};
use crate::recorder::Unrecorded;

#[derive(Clone, Debug)]
enum Step {
    Ask { session: u8, content: u8, approvers: u32, whole: bool },
    Answer { at: usize, uid: u32, approve: bool },
    Leave(usize),
    Drop(usize),
    Look(usize),
    Pass(u64),
    Break(bool),
    EndRun,
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..8_usize;
    prop_oneof![
        4 => (0..2_u8, 0..2_u8, 1..3_u32, prop::bool::weighted(0.2))
            .prop_map(|(session, content, approvers, whole)| Step::Ask { session, content, approvers, whole }),
        4 => (at(), 998..1003_u32, prop::bool::weighted(0.8))
            .prop_map(|(at, uid, approve)| Step::Answer { at, uid, approve }),
        2 => at().prop_map(Step::Leave),
        1 => at().prop_map(Step::Drop),
        3 => at().prop_map(Step::Look),
        1 => (0..700_u64).prop_map(Step::Pass),
        1 => prop::bool::weighted(0.3).prop_map(Step::Break),
        1 => Just(Step::EndRun),
    ]
}

/// What is on record, with when; and whether it takes more.
#[derive(Default)]
struct Book {
    lines: RefCell<Vec<(u64, Body)>>,
    broken: Cell<bool>,
    now_s: Cell<u64>,
}

impl Ledger for Book {
    fn tell(&self, _: &Asked, body: Body, _: &[u8]) -> Result<Position, Unrecorded> {
        if self.broken.get() {
            return Err(Unrecorded(JournalError::Full));
        }
        self.lines.borrow_mut().push((self.now_s.get(), body));
        Ok(Position { first: 0, end: 1 })
    }
}

impl Book {
    fn stamp(&self) -> Stamp {
        let ns = self.now_s.get() * 1_000_000_000;
        Stamp { wall_ns: ns, mono_ns: ns }
    }

    /// The record says that this approval was given: as it was asked for, by enough others, in time, and nobody denied it.
    fn assert_approved(&self, id: Ulid, passing: &Asked, digest: &str) {
        let lines = self.lines.borrow();
        let (mut question, mut by) = (None, Vec::new());
        for (at_s, body) in lines.iter() {
            match body {
                Body::ApprovalAsked(asked) if asked.id == id.to_string() => {
                    assert_eq!((asked.digest.as_str(), &asked.terms), (digest, &passing.terms));
                    question = Some(asked.clone());
                }
                Body::ApprovalAnswered(answer) if answer.id == id.to_string() => match answer.answer.as_str() {
                    "approved" => {
                        let question = question.as_ref().expect("asked before it is answered");
                        assert!(at_s * 1_000_000_000 < question.expires_ns, "approved after its time");
                        by.push(answer.by.clone().unwrap());
                    }
                    "used" => {}
                    other => panic!("{other}, and it passed"),
                },
                _ => {}
            }
        }
        assert!(by.len() >= usize::try_from(passing.terms.approvers).unwrap());
        for (at, one) in by.iter().enumerate() {
            assert!(!are_one(one, &passing.identity), "their own");
            assert!(by[..at].iter().all(|other| !are_one(one, other)), "one person twice");
        }
    }
}

/// A question under way.
struct Held {
    id: Ulid,
    asked: Asked,
    digest: String,
}

struct World {
    registry: Registry,
    config: ApprovalsConfig,
    book: Book,
    key: DigestKey,
    run: RunId,
    sessions: [SessionId; 2],
    held: Vec<Held>,
    passed: HashMap<Ulid, Vec<SessionId>>,
}

impl World {
    fn settled(&mut self, id: Option<Ulid>, settled: &Settled, asked: &Asked, digest: &str) {
        if !settled.answer.approved {
            return;
        }
        let id = id.expect("what passes has an id");
        self.book.assert_approved(id, asked, digest);
        let passed = self.passed.entry(id).or_default();
        let again = !passed.is_empty();
        assert!(!again || asked.terms.whole_session && passed.contains(&asked.session), "passed twice");
        passed.push(asked.session);
    }

    fn take(&mut self, step: &Step) {
        let now = self.book.stamp();
        match *step {
            Step::Ask { session, content, approvers, whole } => {
                let mut asked = asked(self.run, self.sessions[usize::from(session)], &content.to_string());
                (asked.terms.approvers, asked.terms.whole_session) = (approvers, whole);
                let digest = asked.digest(&self.key);
                match self.registry.ask(&self.config, asked.clone(), digest.clone(), now, &self.book) {
                    Asking::Waits(id) => {
                        assert!(self.held.iter().all(|held| held.id != id), "one question, two who wait");
                        self.held.push(Held { id, asked, digest });
                    }
                    Asking::Answered(id, settled) => self.settled(id, &settled, &asked, &digest),
                }
            }
            Step::Answer { at, uid, approve } => {
                let ids: Vec<Ulid> = self.registry.waiting().map(|(id, _)| *id).collect();
                let Some(id) = ids.get(at) else { return };
                let _ =
                    self.registry.answer(&self.config, (*id, &approver(uid, &[])), (approve, None), now, &self.book);
            }
            Step::Leave(at) if at < self.held.len() => {
                let held = self.held.remove(at);
                self.registry.leave(&self.config, held.id, now);
            }
            Step::Drop(at) if at < self.held.len() => {
                let held = self.held.remove(at);
                self.registry.withdraw(held.id, &self.book);
            }
            Step::Look(at) if at < self.held.len() => {
                if let Poll::Ready(settled) = self.registry.poll(self.held[at].id, Waker::noop()) {
                    let held = self.held.remove(at);
                    self.settled(Some(held.id), &settled, &held.asked, &held.digest);
                }
            }
            Step::Pass(seconds) => self.book.now_s.set(self.book.now_s.get() + seconds),
            Step::Break(broken) => self.book.broken.set(broken),
            Step::EndRun => drop(self.registry.run_ended(self.run, &self.book)),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn nothing_passes_that_was_not_approved(steps in prop::collection::vec(step(), 1..60)) {
        let id = || Ulid::generate();
        let mut world = World {
            registry: Registry::default(),
            config: ApprovalsConfig::default(),
            book: Book::default(),
            key: DigestKey::new(&[3; 32]),
            run: RunId(id()),
            sessions: [SessionId(id()), SessionId(id())],
            held: Vec::new(),
            passed: HashMap::new(),
        };
        for step in steps {
            world.take(&step);
        }
        // Whoever still waits gets an answer when the agent ends.
        world.registry.end(&world.book);
        for held in std::mem::take(&mut world.held) {
            let polled = world.registry.poll(held.id, Waker::noop());
            let Poll::Ready(settled) = polled else { panic!("somebody waits for ever") };
            world.settled(Some(held.id), &settled, &held.asked, &held.digest);
        }
        prop_assert_eq!(world.registry.waiting().count(), 0);
    }
}
