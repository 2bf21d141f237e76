//! Reloading: what judges meanwhile, and on which thread the work is done.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crewtap_core::action::{Action, Facts, Verb};
use crewtap_core::id::{RunId, SessionId, Ulid};
use crewtap_core::identity::Identity;
use crewtap_core::target::{Resource, Target};
use crewtap_core::verdict::Effect;

use super::*;
use crate::gate::Question;
use crate::journal::{Journal, Options};

/// As many as take long to read.
const MANY: usize = 1000;

fn judged(policies: &Policies) -> Effect {
    let target = Target { address: "127.0.0.1:22".parse().unwrap(), name: None };
    let facts: Facts = target.facts();
    let action = Action { verb: Verb::Connect, subject: target.label(), facts };
    let question = Question {
        run: RunId(Ulid::generate()),
        session: SessionId(Ulid::generate()),
        exchange: None,
        identity: &Identity::unknown(),
        action: &action,
        target: &target,
        resource: &Resource::uncatalogued(target.address),
        content: None,
    };
    policies.gate().weigh(Mode::Enforce, &question).0.effect
}

fn many() -> String {
    let mut text = String::from("forbid (principal, action, resource);\n");
    for number in 1..MANY {
        let _ = writeln!(
            text,
            "permit (principal in Group::\"os:team-{number}\", action == Action::\"query\", resource == Target::\"db-{number}\") \
             when {{ [\"SELECT\", \"SHOW\"].containsAll(context.kinds) && context.database == \"d{number}\" }};"
        );
    }
    text
}

#[tokio::test]
async fn the_old_policies_judge_while_a_thousand_new_ones_are_read_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (store, files) = (dir.path().join("store"), dir.path().join("policy"));
    std::fs::create_dir(&store).unwrap();
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("a.cedar"), "permit (principal, action, resource);").unwrap();
    let recorder = Recorder::new(Journal::open(&store, &Options::default(), None).unwrap());
    let config = Config { policy: Some(files.clone()), ..Config::default() };
    let policies = Policies::load(&config, &recorder, Approvals::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(judged(&policies), Effect::Allow);
    std::fs::write(files.join("a.cedar"), many()).unwrap();
    {
        let mut look = pin!(policies.look(&files, &recorder));
        let first = look.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(first, Poll::Pending, "this thread has read them itself");
        assert_eq!(judged(&policies), Effect::Allow, "nothing judges meanwhile");
        look.await;
    }
    assert_eq!(judged(&policies), Effect::Deny);
    assert_eq!(policies.state.borrow().in_force.policies, MANY as u64);
    // What has not changed is not read again, and what cannot be read changes nothing.
    policies.look(&files, &recorder).await;
    std::fs::write(files.join("a.cedar"), "permit (principal").unwrap();
    policies.look(&files, &recorder).await;
    assert_eq!(judged(&policies), Effect::Deny);
    assert!(policies.state.borrow().in_force.error.is_some());
}
