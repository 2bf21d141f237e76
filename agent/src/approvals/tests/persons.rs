//! Four eyes where persons have logged in at identity providers.

use crewtap_core::identity::{Basis, Identity, Oidc, Way};

use crate::approvals::approver::are_one;

use super::person;

fn subject(issuer: &str, subject: &str, email: Option<(&str, bool)>, uid: u32) -> Identity {
    let oidc = Oidc {
        provider: "corp".into(),
        issuer: issuer.into(),
        subject: subject.into(),
        email: email.map(|(email, _)| email.to_owned()),
        email_verified: email.is_some_and(|(_, verified)| verified),
        way: Way::Code,
        auth_time: None,
        since: 0,
        amr: Vec::new(),
        acr: None,
        expires: 0,
        groups_from: "claim".into(),
        bound: "audit:7".into(),
        uid,
        login_uid: Some(uid),
        sudo_user: None,
        kubernetes: None,
    };
    let basis = Basis::Oidc(Box::new(oidc));
    Identity { id: format!("oidc:{issuer}:{subject}"), name: subject.into(), basis, ..Identity::unknown() }
}

#[test]
fn subjects_are_compared_and_not_the_users_that_they_act_as() {
    let alice = |uid| subject("a", "alice", None, uid);
    assert!(!are_one(&alice(1000), &subject("a", "bob", None, 1000)), "two people with one account");
    assert!(are_one(&alice(1000), &alice(1001)), "one person with two accounts");
    assert!(!are_one(&alice(1000), &subject("b", "alice", None, 1001)), "the same word at another provider");
    // The same issuer under two names of the configuration.
    let renamed = Identity { id: "oidc:other:alice".into(), ..alice(1001) };
    assert!(are_one(&alice(1000), &renamed));
}

#[test]
fn an_address_that_two_providers_vouch_for_is_one_persons() {
    let of = |issuer: &str, verified| subject(issuer, "x", Some(("Alice@example.com", verified)), 1000);
    let lower = subject("b", "y", Some(("alice@example.com", true)), 1001);
    assert!(are_one(&of("a", true), &lower));
    assert!(!are_one(&of("a", false), &lower));
    assert!(!are_one(&subject("a", "x", None, 1000), &subject("b", "y", None, 1001)));
}

#[test]
fn logging_in_makes_nobody_somebody_else_than_their_user() {
    let alice = subject("a", "alice", None, 1000);
    assert!(are_one(&alice, &person(1000, Some(1000), &[])), "run before the login, approved after it");
    assert!(are_one(&person(0, Some(1000), &[]), &alice), "root, logged in as her");
    assert!(!are_one(&alice, &person(1001, Some(1001), &[])));
    assert!(!are_one(&subject("a", "alice", None, 0), &person(0, None, &[])), "root alone is nobody");
}
