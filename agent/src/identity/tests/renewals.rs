//! Renewals that fail, hang, or meet with something else: what is lost by them, and whose they may delay.

use std::time::Duration;

use crewtap_core::limits::PROVIDER_WAIT;

use super::life::{changed, renews, tokens};
use super::*;
use crate::identity::requests::now;
use crate::identity::store::FILE_NAME;

/// What the file says renews the only login.
fn refresh_in(desk: &Desk) -> String {
    let file = std::fs::read(desk.dir.path().join(FILE_NAME)).unwrap();
    let kept: Value = serde_json::from_slice(&file).unwrap();
    kept["logins"][0]["refresh"].as_str().unwrap().to_owned()
}

#[test]
fn a_refresh_token_that_came_with_a_renewal_that_failed_is_the_one_that_is_used_next() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        // The token has no groups, and userinfo does not tell them.
        let without = fake.token(&json!({ "sub": "a1" }));
        renews(&fake, move |_| {
            (200, json!({ "access_token": "at2", "token_type": "Bearer", "id_token": without, "refresh_token": "r2" }))
        });
        let found = desk.party.attribute(&who).await;
        assert!(found.notes[0].contains("could not be renewed"), "{:?}", found.notes);
        assert_eq!((found.identity.id.as_str(), refresh_in(&desk).as_str()), ("oidc:corp:a1", "r2"));
        // An answer that cannot be read at all.
        renews(&fake, |refresh| {
            assert_eq!(refresh, "r2", "the one before it has ended");
            (
                200,
                json!({ "access_token": "at3", "token_type": "Bearer", "id_token": "no token", "refresh_token": "r3" }),
            )
        });
        let found = desk.again().attribute(&who).await;
        assert!(found.notes[0].contains("could not be renewed"), "{:?}", found.notes);
        let of = fake.clone();
        let again = desk.again();
        renews(&fake, move |refresh| {
            assert_eq!(refresh, "r3");
            (200, tokens(&of, &changed(json!({ "groups": ["dba"] })), "r4"))
        });
        let found = again.attribute(&who).await;
        assert_eq!(found.identity.groups.to_vec(), ["oidc:corp:dba", "os:staff"], "{:?}", found.notes);
        assert_eq!(refresh_in(&desk), "r4");
    });
}

#[test]
fn a_refresh_token_is_in_the_file_before_anything_else_is_asked_and_whoever_asked_may_have_gone() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let without = fake.token(&json!({ "sub": "a1" }));
        let (sender, mut redeemed) = tokio::sync::mpsc::channel(64);
        renews(&fake, move |_| {
            sender.try_send(()).unwrap();
            (200, json!({ "access_token": "at2", "token_type": "Bearer", "id_token": without, "refresh_token": "r2" }))
        });
        let mut userinfo = fake.is_silent_at("/userinfo");
        tokio::select! {
            _ = desk.party.attribute(&who) => panic!("userinfo is silent"),
            heard = redeemed.recv() => heard.unwrap(),
        }
        // The answer is on its way, and nobody waits for it but the renewal itself.
        userinfo.heard().await;
        assert_eq!(refresh_in(&desk), "r2");
        // Who logs out now has the newest token forgotten.
        let ended = desk.party.logout(&who, None).await.unwrap();
        assert!(ended[0].revoked && fake.asked("/revoke")[0]["token"] == "r2", "{ended:?}");
        assert!(desk.party.logins(&who).is_empty());
    });
}

#[test]
fn a_login_that_ended_while_it_was_renewed_stays_ended_and_what_came_is_revoked() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let mut asked = fake.is_silent_at("/keys");
        fake.rotate();
        let of = fake.clone();
        renews(&fake, move |_| (200, tokens(&of, &alice(), "r2")));
        let (found, ()) = tokio::join!(desk.party.attribute(&who), async {
            asked.heard().await;
            desk.party.logout(&who, None).await.unwrap();
            // Only now it answers, and what it says is all right.
            drop(asked);
        });
        assert_eq!(found.identity.id, "os:1000", "{:?}", found.notes);
        assert!(desk.party.logins(&who).is_empty() && desk.again().logins(&who).is_empty());
        assert!(fake.asked("/revoke").iter().all(|form| form["token"] == "r2"), "{:?}", fake.asked("/revoke"));
    });
}

#[test]
fn a_login_that_took_the_place_of_one_that_was_renewed_is_not_ended_by_it() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, changed(json!({ "exp": now() + 5 }))).await.unwrap();
        let carried = desk.party.attribute(&who).await.login;
        let mut asked = fake.is_silent_at("/userinfo");
        let without = fake.token(&json!({ "sub": "a1" }));
        renews(&fake, move |_| {
            (200, json!({ "access_token": "at2", "token_type": "Bearer", "id_token": without, "refresh_token": "r2" }))
        });
        fake.userinfo(json!({ "sub": "a1", "groups": ["old"] }));
        let (notes, ()) = tokio::join!(desk.round(), async {
            asked.heard().await;
            desk.login(&fake, &who, alice()).await.unwrap();
            drop(asked);
        });
        assert!(notes.is_empty(), "{notes:?}");
        // It may be one grant at the provider: revoking what the renewal brought would end the new login there.
        assert!(fake.asked("/revoke").is_empty(), "{:?}", fake.asked("/revoke"));
        let found = desk.party.attribute(&who).await;
        assert!(found.identity.groups.contains(&"oidc:corp:sre".to_owned()), "what the new login says counts");
        assert!(!carried.is_over((now() + 500) * 1_000_000_000), "and the run goes on with it");
    });
}

#[test]
fn a_provider_that_hangs_delays_nobodys_login_at_another_one() {
    run(async {
        let (hangs, good) = (Fake::start(), Fake::start());
        let desk = Desk::of(&[("hangs", &hangs, ""), ("good", &good, "")]);
        let mut carried = Vec::new();
        for (name, fake, session) in [("hangs", &hangs, 7), ("good", &good, 8)] {
            let who = caller(1000, session);
            let begun = desk.party.begin(&who, Some(name), 1).await.unwrap();
            fake.vouch(&query_of(&begun.url)["nonce"], changed(json!({ "exp": now() + 5 })));
            desk.party.finish(&who, &begun.login, &answer_to(&begun, fake)).await.unwrap();
            carried.push(desk.party.attribute(&who).await.login);
        }
        let mut asked = hangs.is_silent_at("/token");
        let (sender, mut renewed) = tokio::sync::mpsc::channel(64);
        let of = good.clone();
        renews(&good, move |refresh| {
            let _the_test_is_over = sender.try_send(refresh.to_owned());
            // For a moment only: the next round is to renew it again.
            (200, tokens(&of, &changed(json!({ "exp": now() + 5 })), "r2"))
        });
        let kept = desk.party.keep(Duration::from_millis(10), |note| panic!("{note}"));
        let watched = async {
            asked.heard().await;
            assert_eq!(renewed.recv().await.as_deref(), Some("r1"));
            assert_eq!(renewed.recv().await.as_deref(), Some("r2"), "round after round, while the other one hangs");
        };
        tokio::select! {
            () = kept => panic!("it ends by itself"),
            in_time = tokio::time::timeout(PROVIDER_WAIT / 2, watched) => in_time.expect("nobody waits for the other one"),
        }
        assert!(!asked.heard_more(), "and that one is asked once");
        assert!(!carried[1].is_over((now() + 2) * 1_000_000_000));
    });
}

#[test]
fn runs_that_begin_together_wait_once_for_a_provider_that_hangs() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let mut asked = fake.is_silent_at("/.well-known/openid-configuration");
        let (a, b) = (caller(1000, 7), caller(1000, 8));
        let (a, b) = tokio::join!(desk.party.begin(&a, None, 1), desk.party.begin(&b, None, 1));
        assert!(
            a.unwrap_err().to_string().contains("took longer") && b.unwrap_err().to_string().contains("took longer")
        );
        asked.heard().await;
        assert!(!asked.heard_more(), "it is asked once for both");
    });
}

#[test]
fn a_key_that_cannot_be_asked_for_just_now_ends_no_login() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        // Somebody makes tokens up until no more keys are asked for.
        let issuer = desk.party.issuer(None).unwrap();
        let forged = Fake::start();
        forged.rotate();
        for _ in 0..4 {
            assert!(issuer.workload(&forged.token(&json!({ "iss": fake.issuer, "sub": "x" }))).await.is_err());
        }
        fake.rotate();
        let of = fake.clone();
        renews(&fake, move |_| (200, tokens(&of, &alice(), "r2")));
        let found = desk.party.attribute(&who).await;
        assert_eq!(found.identity.id, "oidc:corp:a1", "{:?}", found.notes);
        assert!(found.notes[0].contains("by no key of the provider"), "{:?}", found.notes);
        assert_eq!(refresh_in(&desk), "r2");
    });
}

#[test]
fn what_cannot_be_kept_is_not_half_done() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        std::fs::remove_dir_all(desk.dir.path()).unwrap();
        let why = desk.login(&fake, &who, changed(json!({ "sub": "b2" }))).await.unwrap_err();
        assert!(why.contains("cannot keep logins"), "{why}");
        assert_eq!(desk.party.attribute(&who).await.identity.id, "oidc:corp:a1", "as it was before");
        let other = caller(1000, 8);
        desk.login(&fake, &other, alice()).await.unwrap_err();
        assert!(desk.party.logins(&other).is_empty(), "who was told no is not logged in");
        // Who logs out is told that the file still has the login; but the provider has forgotten it.
        let why = desk.party.logout(&who, None).await.unwrap_err().to_string();
        assert!(why.contains("cannot keep logins"), "{why}");
        assert_eq!(fake.asked("/revoke")[0]["token"], "r1");
        assert_eq!(desk.party.attribute(&who).await.identity.id, "os:1000");
    });
}
