//! The life of a login: renewed, rotated, expired, ended, and found again by the next agent.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::identity::requests::now;
use crate::identity::store::FILE_NAME;

/// Answers requests to renew with what the closure says for a refresh token.
pub(super) fn renews(fake: &Fake, mut answer: impl FnMut(&str) -> (u16, Value) + Send + 'static) {
    fake.gives(move |form| {
        assert_eq!(form["grant_type"], "refresh_token");
        answer(&form["refresh_token"])
    });
}

pub(super) fn tokens(fake: &Fake, claims: &Value, refresh: &str) -> Value {
    json!({ "access_token": "at2", "token_type": "Bearer", "expires_in": 600, "id_token": fake.token(claims), "refresh_token": refresh })
}

pub(super) fn changed(changes: Value) -> Value {
    let mut claims = alice();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn a_run_carries_the_person_their_groups_and_why_we_say_so() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let who = caller(1000, 7);
        let claims = changed(json!({ "auth_time": now() - 60, "amr": ["pwd", "otp"], "acr": "gold" }));
        let told = desk.login(&fake, &who, claims).await.unwrap();
        assert!(told.holds && told.notes.is_empty());
        let identity = desk.party.attribute(&who).await.identity;
        assert_eq!((identity.id.as_str(), identity.name.as_str()), ("oidc:corp:a1", "alice@example.com"));
        assert_eq!(identity.groups.to_vec(), ["oidc:corp:dba", "oidc:corp:sre", "os:staff"]);
        let basis = identity.oidc().unwrap();
        assert_eq!((basis.issuer.as_str(), basis.bound.as_str(), basis.uid), (fake.issuer.as_str(), "audit:7", 1000));
        assert_eq!((basis.amr.join("+").as_str(), basis.acr.as_deref()), ("pwd+otp", Some("gold")));
        assert!(basis.auth_time.is_some() && basis.login_uid == Some(1000));
    });
}

#[test]
fn ten_thousand_groups_are_carried_and_recorded_within_bounds() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let groups: Vec<String> = (0..10_000).map(|n| format!("6f9619ff-8b86-d011-b42d-{n:012}")).collect();
        let told = desk.login(&fake, &caller(1000, 7), changed(json!({ "groups": groups }))).await.unwrap();
        assert_eq!((told.groups_count, told.groups.len()), (10_000, 64));
        let identity = desk.again().attribute(&caller(1000, 7)).await.identity;
        assert_eq!(identity.groups.len(), 10_001);
        assert!(identity.for_record().groups_left_off > 9000);
    });
}

#[test]
fn what_is_old_is_renewed_before_a_run_and_groups_are_those_of_today() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let of = fake.clone();
        renews(&fake, move |refresh| {
            assert_eq!(refresh, "r1");
            (200, tokens(&of, &changed(json!({ "groups": ["dba"] })), "r2"))
        });
        let found = desk.party.attribute(&who).await;
        assert_eq!(found.identity.groups.to_vec(), ["oidc:corp:dba", "os:staff"]);
        // The rotated token is kept, and used the next time.
        let of = fake.clone();
        renews(&fake, move |refresh| {
            assert_eq!(refresh, "r2");
            (200, tokens(&of, &alice(), "r3"))
        });
        let again = desk.again();
        assert_eq!(again.attribute(&who).await.identity.groups.len(), 3, "also by the next agent");
    });
}

#[test]
fn two_runs_that_start_together_renew_once() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let before = fake.asked("/token").len();
        let of = fake.clone();
        renews(&fake, move |refresh| {
            assert_eq!(refresh, "r1", "a refresh token that was replaced is not used again");
            (200, tokens(&of, &alice(), "r2"))
        });
        let (a, b) = tokio::join!(desk.party.attribute(&who), desk.party.attribute(&who));
        assert_eq!((a.identity.id.as_str(), b.identity.id.as_str()), ("oidc:corp:a1", "oidc:corp:a1"));
        assert_eq!(fake.asked("/token").len(), before + 1);
    });
}

#[test]
fn a_renewal_for_somebody_else_or_without_right_ends_the_login() {
    run(async {
        for (answer, why) in [
            (json!({ "sub": "root" }), "another one's"),
            (json!({ "aud": "other" }), "audience"),
            (Value::Null, "invalid_grant"),
        ] {
            let fake = Fake::start();
            let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
            let who = caller(1000, 7);
            desk.login(&fake, &who, changed(json!({ "exp": now() - 58 }))).await.unwrap_err();
            desk.login(&fake, &who, alice()).await.unwrap();
            let of = fake.clone();
            renews(&fake, move |_| match &answer {
                Value::Null => (400, json!({ "error": "invalid_grant" })),
                claims => (200, tokens(&of, &changed(claims.clone()), "r2")),
            });
            let found = desk.party.attribute(&who).await;
            assert!(found.notes.iter().any(|note| note.contains(why)), "{:?}", found.notes);
            assert_eq!(found.identity.id, "os:1000", "{why}");
            assert!(desk.again().logins(&who).is_empty(), "{why}");
        }
    });
}

#[test]
fn a_provider_that_is_down_takes_nothing_away_before_its_time() {
    run(async {
        let fake = Fake::start();
        fake.set_down(true);
        let desk = Desk::of(&[("corp", &fake, "renew = '0s'")]);
        let who = caller(1000, 7);
        let why = desk.login(&fake, &who, alice()).await.unwrap_err();
        assert!(why.contains("corp does not answer"), "{why}");
        fake.set_down(false);
        desk.login(&fake, &who, alice()).await.unwrap();
        fake.set_down(true);
        let found = desk.party.attribute(&who).await;
        assert_eq!(found.identity.id, "oidc:corp:a1");
        assert!(found.notes[0].contains("could not be renewed"), "{:?}", found.notes);
        let again = desk.party.attribute(&who).await;
        assert!(again.notes.is_empty(), "it is left alone for a while: {:?}", again.notes);
    });
}

#[test]
fn keys_are_fetched_again_when_they_were_rotated_and_not_for_every_forgery() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        desk.login(&fake, &caller(1000, 7), alice()).await.unwrap();
        assert_eq!(fake.asked("/keys").len(), 1);
        fake.rotate();
        desk.login(&fake, &caller(1000, 7), alice()).await.unwrap();
        assert_eq!(fake.asked("/keys").len(), 2);
        for _ in 0..8 {
            let begun = desk.party.begin(&caller(1000, 7), None, 1).await.unwrap();
            let token = fake.token(&changed(json!({ "nonce": query_of(&begun.url)["nonce"] })));
            let forged = format!("{}AAAA", &token[..token.len() - 4]);
            fake.gives(move |_| (200, json!({ "access_token": "at", "token_type": "Bearer", "id_token": forged })));
            let why = desk.party.finish(&caller(1000, 7), &begun.login, &answer_to(&begun, &fake)).await.unwrap_err();
            assert!(why.to_string().contains("by no key of the provider"), "{why}");
        }
        assert!(fake.asked("/keys").len() <= 5, "{}", fake.asked("/keys").len());
    });
}

#[test]
fn an_expired_login_is_the_users_again_and_its_runs_are_told() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "on_expiry = 'refuse'\nskew = '1s'\nlasts = '2s'")]);
        let who = caller(1000, 7);
        let told = desk.login(&fake, &who, alice()).await.unwrap();
        let found = desk.party.attribute(&who).await;
        assert_eq!(found.identity.id, "oidc:corp:a1");
        assert!(!found.login.is_over(now() * 1_000_000_000));
        until_it_expires(told.expires).await;
        assert!(crate::identity::login::is_required(&found.login.facts(crate::clock::now().wall_ns)));
        let after = desk.party.attribute(&who).await;
        assert_eq!(after.identity.id, "os:1000");
        assert!(after.notes[0].contains("has expired: `crewtap login`"), "{:?}", after.notes);
        // Logged in again as the same person, the run goes on; as another one, it does not.
        let told = desk.login(&fake, &who, alice()).await.unwrap();
        assert!(!found.login.is_over(crate::clock::now().wall_ns));
        until_it_expires(told.expires).await;
        desk.login(&fake, &who, changed(json!({ "sub": "b2" }))).await.unwrap();
        assert!(found.login.is_over(crate::clock::now().wall_ns));
    });
}

#[test]
fn living_runs_are_renewed_in_time() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, changed(json!({ "exp": now() + 5 }))).await.unwrap();
        assert!(desk.round().await.is_empty());
        assert_eq!(fake.asked("/token").len(), 1, "nobody carries it");
        let carried: Arc<_> = desk.party.attribute(&who).await.login;
        let of = fake.clone();
        renews(&fake, move |_| (200, tokens(&of, &alice(), "r2")));
        assert!(desk.round().await.is_empty());
        assert!(!carried.is_over((now() + 500) * 1_000_000_000));
    });
}

#[test]
fn logging_out_revokes_and_forgets() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let carried = desk.party.attribute(&who).await.login;
        assert!(desk.party.logout(&caller(1000, 8), None).await.unwrap().is_empty(), "nobody else's");
        let ended = desk.party.logout(&who, None).await.unwrap();
        assert!(ended[0].revoked && ended[0].identity == "oidc:corp:a1");
        assert_eq!(fake.asked("/revoke")[0]["token"], "r1");
        assert!(carried.is_over(crate::clock::now().wall_ns), "a run knows");
        assert!(desk.again().logins(&who).is_empty());
        assert!(!std::fs::read_to_string(desk.dir.path().join(FILE_NAME)).unwrap().contains("r1"));
        // Where the provider does not answer, the login is over here all the same.
        desk.login(&fake, &who, alice()).await.unwrap();
        fake.set_down(true);
        let ended = desk.party.logout(&who, None).await.unwrap();
        assert!(!ended[0].revoked && ended[0].why.as_ref().unwrap().contains("does not answer"));
        assert!(desk.party.logins(&who).is_empty());
    });
}

#[test]
fn the_file_is_roots_alone_and_of_this_boot() {
    run(async {
        let fake = Fake::start();
        let desk = Desk::of(&[("corp", &fake, "")]);
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let path = desk.dir.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let again = desk.again();
        assert_eq!(again.attribute(&who).await.identity.id, "oidc:corp:a1");
        let text = std::fs::read_to_string(&path).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(&path, text.replace(boot.trim(), "another boot")).unwrap();
        assert!(desk.again().logins(&who).is_empty(), "numbers of sessions begin anew");
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(opened(&desk.text, desk.dir.path()).unwrap_err().contains("is not root's alone"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(opened(&desk.text, desk.dir.path()).unwrap_err().contains("no file of logins"));
    });
}

#[test]
fn the_newest_of_several_logins_counts() {
    run(async {
        let (corp, partner) = (Fake::start(), Fake::start());
        let desk = Desk::of(&[("corp", &corp, ""), ("partner", &partner, "")]);
        let who = caller(1000, 7);
        for (name, fake) in [("corp", &corp), ("partner", &partner)] {
            let begun = desk.party.begin(&who, Some(name), 1).await.unwrap();
            fake.vouch(&query_of(&begun.url)["nonce"], alice());
            desk.party.finish(&who, &begun.login, &answer_to(&begun, fake)).await.unwrap();
        }
        assert_eq!(desk.party.attribute(&who).await.identity.id, "oidc:partner:a1", "also within one second");
        assert_eq!(desk.again().attribute(&who).await.identity.id, "oidc:partner:a1", "also for the next agent");
        desk.party.logout(&who, Some("partner")).await.unwrap();
        assert_eq!(desk.party.attribute(&who).await.identity.id, "oidc:corp:a1");
    });
}
