//! Workloads of SPIFFE: by a provider of discovery as SPIRE has it, and by a bundle of keys on disk.

use super::workloads::{service, write};
use super::*;
use crate::identity::requests::now;

const DOMAIN: &str = "spiffe://example.org";

fn svid(fake: &Fake, changes: Value) -> String {
    // SPIRE says who issued it only where `jwt_issuer` is set.
    let mut claims = json!({ "sub": format!("{DOMAIN}/crew/runner"), "aud": ["crewtap", "other"], "iss": null });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    fake.token(&claims)
}

#[test]
fn a_jwt_svid_counts_by_the_bundle_of_its_trust_domain_as_long_as_its_key_is_in_it() {
    run(async {
        let fake = Fake::start();
        let dir = tempfile::tempdir().unwrap();
        let (token, keys) = (dir.path().join("svid.jwt"), dir.path().join("bundle.json"));
        let text = format!(
            "[oidc.spire]\nissuer = '{DOMAIN}'\nclient_id = 'crewtap'\njwks_file = '{}'\n[oidc.spire.workload]\ntoken_file = '{}'",
            keys.display(),
            token.display()
        );
        let party = opened(&text, dir.path()).unwrap();
        let bundle = |seed: u8| json!({ "spiffe_sequence": 3, "keys": [provider::jwk(seed, "jwt-svid")] }).to_string();
        write(&keys, &bundle(1));
        write(&token, &svid(&fake, json!({})));
        let found = party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:spire:spiffe://example.org/crew/runner", "{:?}", found.notes);
        assert!(fake.asked("/keys").is_empty(), "nobody is asked");
        for (changes, why) in [
            (json!({ "sub": "spiffe://example.org.evil/crew/runner" }), "not of the trust domain"),
            (json!({ "aud": ["other"] }), "it is for other, and not for crewtap"),
            (json!({ "exp": now() - 61 }), "has expired"),
        ] {
            write(&token, &svid(&fake, changes));
            let found = party.attribute(&service("crew.service")).await;
            assert!(found.identity.id == "os:0" && found.notes[0].contains(why), "{why}: {:?}", found.notes);
        }
        write(&token, &svid(&fake, json!({})));
        assert_eq!(party.attribute(&service("crew.service")).await.identity.id, found.identity.id);
        // The key is taken away, and with it what it has signed; the token is where it was.
        write(&keys, &bundle(2));
        let found = party.attribute(&service("crew.service")).await;
        assert!(found.identity.id == "os:0" && found.notes[0].contains("by no key"), "{:?}", found.notes);
        let why = party.begin(&caller(1000, 7), None, 4711).await.unwrap_err().to_string();
        assert!(why.contains("offers no log-in for persons"), "{why}");
    });
}

#[test]
fn a_jwt_svid_counts_by_spires_provider_of_discovery() {
    run(async {
        let fake = Fake::start();
        fake.discovers(json!({
            "authorization_endpoint": "", "response_types_supported": ["id_token"], "subject_types_supported": [],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384"], "token_endpoint": null,
            "userinfo_endpoint": null, "revocation_endpoint": null, "device_authorization_endpoint": null,
            "authorization_response_iss_parameter_supported": null, "code_challenge_methods_supported": null,
        }));
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("svid.jwt");
        let desk = Desk::named("spire", &fake, &format!("[oidc.spire.workload]\ntoken_file = '{}'", token.display()));
        write(&token, &svid(&fake, json!({ "iss": fake.issuer })));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert_eq!(found.identity.id, "oidc:spire:spiffe://example.org/crew/runner", "{:?}", found.notes);
        write(&token, &svid(&fake, json!({ "iss": "https://other.example" })));
        let found = desk.party.attribute(&service("crew.service")).await;
        assert!(found.identity.id == "os:0" && found.notes[0].contains("issuer"), "{:?}", found.notes);
        let why = desk.party.begin(&caller(1000, 7), None, 4711).await.unwrap_err().to_string();
        assert!(why.contains("offers no log-in for persons"), "{why}");
    });
}
