//! What RFC 9700 lists against a relying party: each attack, and that nobody is logged in by it.

use std::time::Duration;

use super::*;

fn one() -> (Fake, Desk) {
    let fake = Fake::start();
    let desk = Desk::of(&[("corp", &fake, "")]);
    (fake, desk)
}

async fn refused(desk: &Desk, fake: &Fake, claims: Value) -> String {
    let who = caller(1000, 7);
    let why = desk.login(fake, &who, claims).await.unwrap_err();
    assert!(desk.party.logins(&who).is_empty(), "{why}");
    assert_eq!(desk.party.attribute(&who).await.identity.id, "os:1000");
    why
}

fn with(changes: Value) -> Value {
    let mut claims = alice();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn tokens_that_do_not_count_log_nobody_in() {
    run(async {
        let (fake, desk) = one();
        assert!(refused(&desk, &fake, with(json!({ "aud": "other" }))).await.contains("audience"));
        assert!(refused(&desk, &fake, with(json!({ "iss": "https://evil.example" }))).await.contains("issuer"));
        assert!(refused(&desk, &fake, with(json!({ "exp": 1_000_000_000 }))).await.contains("expired"));
        assert!(refused(&desk, &fake, with(json!({ "nonce": "of another log-in" }))).await.contains("nonce mismatch"));
        assert!(refused(&desk, &fake, with(json!({ "at_hash": "x" }))).await.contains("at_hash"));
        assert!(desk.login(&fake, &caller(1000, 7), alice()).await.is_ok(), "and a right one does");
    });
}

#[test]
fn an_answer_without_our_state_changes_nothing_and_the_right_one_still_counts() {
    run(async {
        let (fake, desk) = one();
        let who = caller(1000, 7);
        let begun = desk.party.begin(&who, None, 4711).await.unwrap();
        let query = query_of(&begun.url);
        fake.vouch(&query["nonce"], alice());
        for forged in ["code=x", "code=x&state=", "code=x&state=guess", "error=access_denied&state=guess", ""] {
            let answered = desk.party.finish(&who, &begun.login, forged).await.unwrap();
            assert_eq!(answered, Answered::NotOurs, "{forged}");
        }
        let twice = format!("code=x&state={0}&state={0}", query["state"]);
        assert_eq!(desk.party.finish(&who, &begun.login, &twice).await.unwrap(), Answered::NotOurs);
        assert!(fake.asked("/token").is_empty(), "no forged code is redeemed");
        let answered = desk.party.finish(&who, &begun.login, &answer_to(&begun, &fake)).await.unwrap();
        assert!(matches!(answered, Answered::LoggedIn(_)));
    });
}

#[test]
fn a_guesser_of_states_ends_the_login() {
    run(async {
        let (fake, desk) = one();
        let who = caller(1000, 7);
        let begun = desk.party.begin(&who, None, 4711).await.unwrap();
        let mut last = Ok(Answered::NotOurs);
        for guess in 0..64 {
            last = desk.party.finish(&who, &begun.login, &format!("code=x&state={guess}")).await;
        }
        assert!(last.unwrap_err().to_string().contains("it is given up"));
        assert!(desk.party.finish(&who, &begun.login, &answer_to(&begun, &fake)).await.is_err());
    });
}

#[test]
fn a_code_is_redeemed_once_whoever_brings_it_again() {
    run(async {
        let (fake, desk) = one();
        let who = caller(1000, 7);
        desk.login(&fake, &who, alice()).await.unwrap();
        let begun = desk.party.begin(&who, None, 4711).await.unwrap();
        let answer = answer_to(&begun, &fake);
        // The provider has seen this code before.
        fake.gives(|_| (400, json!({ "error": "invalid_grant", "error_description": "code \u{1b}[2J used" })));
        let why = desk.party.finish(&who, &begun.login, &answer).await.unwrap_err().to_string();
        assert!(why.contains("refuses: invalid_grant (code [2J used)"), "{why:?}");
        let asked = fake.asked("/token").len();
        let again = desk.party.finish(&who, &begun.login, &answer).await.unwrap_err().to_string();
        assert!(again.contains("no such login waits"), "{again}");
        assert_eq!(fake.asked("/token").len(), asked, "a replayed answer asks nobody");
    });
}

#[test]
fn providers_are_not_mixed_up() {
    run(async {
        let (honest, evil) = (Fake::start(), Fake::start());
        let desk = Desk::of(&[("honest", &honest, ""), ("evil", &evil, "")]);
        let who = caller(1000, 7);
        assert!(desk.party.begin(&who, None, 1).await.unwrap_err().to_string().contains("honest, evil"));
        // Begun at the evil one, which sends the person on to the honest one and collects the code (RFC 9700, 4.4.1).
        let begun = desk.party.begin(&who, Some("evil"), 4711).await.unwrap();
        let state = query_of(&begun.url)["state"].clone();
        let answer = |iss: &str| format!("code=honest-code&state={state}&iss={iss}");
        let why = desk.party.finish(&who, &begun.login, &answer(&honest.issuer)).await.unwrap_err().to_string();
        assert!(why.contains("somebody mixes them up"), "{why}");
        assert!(evil.asked("/token").is_empty(), "the honest one's code is not given to the evil one");
        // Each has a page of its own to come back to.
        let (a, b) = (
            desk.party.begin(&who, Some("honest"), 1).await.unwrap(),
            desk.party.begin(&who, Some("evil"), 1).await.unwrap(),
        );
        assert_ne!(query_of(&a.url)["redirect_uri"], query_of(&b.url)["redirect_uri"]);
    });
}

#[test]
fn an_answer_that_should_say_whose_it_is_must() {
    run(async {
        let (_fake, desk) = one();
        let who = caller(1000, 7);
        let begun = desk.party.begin(&who, None, 4711).await.unwrap();
        let query = query_of(&begun.url);
        let bare = format!("code=c&state={}", query["state"]);
        let why = desk.party.finish(&who, &begun.login, &bare).await.unwrap_err().to_string();
        assert!(why.contains("RFC 9207"), "{why}");
        let old = Fake::start();
        old.discovers(json!({ "authorization_response_iss_parameter_supported": null }));
        let desk = Desk::of(&[("corp", &old, "")]);
        let begun = desk.party.begin(&who, None, 4711).await.unwrap();
        let query = query_of(&begun.url);
        old.vouch(&query["nonce"], alice());
        let bare = format!("code=c&state={}", query["state"]);
        assert!(matches!(desk.party.finish(&who, &begun.login, &bare).await.unwrap(), Answered::LoggedIn(_)));
    });
}

#[test]
fn a_login_is_answered_by_who_began_it_and_is_bound_to_them_alone() {
    run(async {
        let (fake, desk) = one();
        let who = caller(1000, 7);
        let begun = desk.party.begin(&who, None, 4711).await.unwrap();
        fake.vouch(&query_of(&begun.url)["nonce"], alice());
        for other in [caller(1001, 7), caller(1000, 8), Caller { key: None, ..caller(1000, 7) }] {
            let why = desk.party.finish(&other, &begun.login, &answer_to(&begun, &fake)).await.unwrap_err();
            assert!(why.to_string().contains("no such login"), "{why}");
        }
        desk.party.finish(&who, &begun.login, &answer_to(&begun, &fake)).await.unwrap();
        assert_eq!(desk.party.attribute(&who).await.identity.id, "oidc:corp:a1");
        for other in [caller(1001, 7), caller(1000, 8), Caller { key: None, ..caller(1000, 7) }] {
            assert!(desk.party.attribute(&other).await.identity.id.starts_with("os:"));
            assert!(desk.party.logins(&other).is_empty());
        }
    });
}

#[test]
fn a_discovery_document_of_another_issuer_is_not_believed() {
    run(async {
        let (fake, desk) = one();
        fake.discovers(json!({ "issuer": "https://evil.example" }));
        let why = desk.login(&fake, &caller(1000, 7), alice()).await.unwrap_err();
        assert!(why.contains("another issuer's"), "{why}");
    });
}

#[test]
fn secrets_are_not_sent_in_clear_whatever_the_document_says() {
    run(async {
        let (fake, desk) = one();
        fake.discovers(json!({ "token_endpoint": "http://192.0.2.1/token" }));
        let why = desk.login(&fake, &caller(1000, 7), alice()).await.unwrap_err();
        assert!(why.contains("\"192.0.2.1\" is not asked"), "{why}");
        let (fake, desk) = one();
        fake.discovers(json!({ "authorization_endpoint": "javascript:alert(1)" }));
        let why = desk.login(&fake, &caller(1000, 7), alice()).await.unwrap_err();
        assert!(why.contains("no web page"), "{why}");
    });
}

#[test]
fn a_provider_without_pkce_is_not_used() {
    run(async {
        let (fake, desk) = one();
        let begun = desk.party.begin(&caller(1000, 7), None, 4711).await.unwrap();
        let query = query_of(&begun.url);
        assert_eq!((query["code_challenge_method"].as_str(), query["code_challenge"].len()), ("S256", 43));
        assert!(query["state"].len() >= 20 && query["nonce"].len() >= 20);
        let (fake_without, desk) = one();
        drop(fake);
        fake_without.discovers(json!({ "code_challenge_methods_supported": ["plain"] }));
        let why = desk.login(&fake_without, &caller(1000, 7), alice()).await.unwrap_err();
        assert!(why.contains("PKCE"), "{why}");
    });
}

#[test]
fn userinfo_of_somebody_else_is_refused() {
    run(async {
        let (fake, desk) = one();
        fake.userinfo(json!({ "sub": "root", "groups": ["admins"] }));
        let why = refused(&desk, &fake, json!({ "sub": "a1" })).await;
        assert!(why.contains("about somebody else"), "{why}");
        fake.userinfo(json!({ "sub": "a1", "groups": ["sre"] }));
        let told = desk.login(&fake, &caller(1000, 7), json!({ "sub": "a1" })).await.unwrap();
        assert_eq!((told.groups, told.groups_from.as_str()), (vec!["oidc:corp:sre".to_owned()], "userinfo"));
    });
}

#[test]
fn groups_that_cannot_be_had_are_not_taken_for_none() {
    run(async {
        let (fake, desk) = one();
        let why = refused(&desk, &fake, json!({ "sub": "a1" })).await;
        assert!(why.contains("userinfo"), "{why}");
    });
}

#[test]
fn what_is_redirected_or_too_much_or_no_json_is_no_answer() {
    run(async {
        let (fake, desk) = one();
        let begun = desk.party.begin(&caller(1000, 7), None, 4711).await.unwrap();
        fake.gives(|_| (200, json!({ "access_token": "x".repeat(5 * 1024 * 1024), "token_type": "Bearer" })));
        let why = desk.party.finish(&caller(1000, 7), &begun.login, &answer_to(&begun, &fake)).await.unwrap_err();
        assert!(why.to_string().contains("more than"), "{why}");
        let begun = desk.party.begin(&caller(1000, 7), None, 4711).await.unwrap();
        fake.gives(|_| (302, json!({ "id_token": "secret-token" })));
        let why = desk.party.finish(&caller(1000, 7), &begun.login, &answer_to(&begun, &fake)).await.unwrap_err();
        assert!(!why.to_string().contains("secret-token"), "{why}");
        let begun = desk.party.begin(&caller(1000, 7), None, 4711).await.unwrap();
        fake.gives(|_| (200, json!({ "access_token": "at", "token_type": "Bearer" })));
        let why = desk.party.finish(&caller(1000, 7), &begun.login, &answer_to(&begun, &fake)).await.unwrap_err();
        assert!(why.to_string().contains("no ID token"), "{why}");
    });
}

#[test]
fn logins_that_begin_are_bounded() {
    run(async {
        let (_fake, desk) = one();
        let mut refused = 0;
        for _ in 0..70 {
            refused += usize::from(desk.party.begin(&caller(1000, 7), None, 1).await.is_err());
        }
        assert_eq!(refused, 6);
    });
}

#[test]
fn a_device_code_logs_in_who_asked_for_it() {
    run(async {
        let (fake, desk) = one();
        let who = caller(1000, 7);
        let begun = desk.party.begin_device(&who, None).await.unwrap();
        assert_eq!(begun.code.as_deref(), Some("ABCD-EFGH"));
        let token = fake.token(&alice());
        let mut asked = 0;
        fake.gives(move |form| {
            assert_eq!(form["device_code"], "the-device");
            asked += 1;
            match asked {
                1 => (400, json!({ "error": "authorization_pending" })),
                _ => {
                    (200, json!({ "access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": token }))
                }
            }
        });
        assert!(desk.party.wait_for_device(&caller(1001, 7), &begun.login, Duration::ZERO).await.is_err());
        let told = desk.party.wait_for_device(&who, &begun.login, Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!((told.identity.as_str(), told.way.as_str()), ("oidc:corp:a1", "device"));
        assert!(desk.party.wait_for_device(&who, &begun.login, Duration::ZERO).await.is_err(), "once");
        let begun = desk.party.begin_device(&who, None).await.unwrap();
        fake.gives(|_| (400, json!({ "error": "access_denied" })));
        let why = desk.party.wait_for_device(&who, &begun.login, Duration::from_secs(20)).await.unwrap_err();
        assert!(why.to_string().contains("access_denied"), "{why}");
    });
}
