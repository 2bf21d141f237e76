#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;

fn alice() -> Identity {
    let oidc = Oidc {
        provider: "corp".into(),
        issuer: "https://id.example".into(),
        subject: "a1".into(),
        email: Some("alice@example.com".into()),
        email_verified: true,
        way: Way::Code,
        auth_time: Some(1_700_000_000),
        since: 1_700_000_010,
        amr: vec!["pwd".into(), "otp".into()],
        acr: None,
        expires: 1_700_003_600,
        groups_from: "claim".into(),
        bound: "audit:7".into(),
        uid: 1000,
        login_uid: Some(1000),
        sudo_user: None,
        kubernetes: None,
    };
    Identity {
        id: "oidc:corp:a1".into(),
        name: "alice@example.com".into(),
        groups: vec!["oidc:corp:sre".to_owned(), "os:wheel".to_owned(), "oidc:corp:sre".to_owned()].into(),
        groups_left_off: 0,
        basis: Basis::Oidc(Box::new(oidc)),
    }
}

#[test]
fn an_identity_is_read_as_it_was_written() {
    let mut cbor = Vec::new();
    ciborium::into_writer(&alice(), &mut cbor).unwrap();
    assert_eq!(ciborium::from_reader::<Identity, _>(cbor.as_slice()).unwrap(), alice());
    let json = serde_json::to_value(alice()).unwrap();
    assert_eq!((&json["basis"]["kind"], &json["basis"]["way"]), (&"oidc".into(), &"code".into()));
    assert_eq!(json["groups"].as_array().unwrap().len(), 2, "each once");
    assert_eq!(serde_json::from_value::<Identity>(json).unwrap(), alice());
}

#[test]
fn what_was_written_before_there_were_providers_is_still_read() {
    let old = serde_json::json!({ "id": "os:1000", "name": "alice", "groups": ["os:b", "os:a"],
        "basis": { "kind": "os", "uid": 1000, "login_uid": 1000 } });
    let identity: Identity = serde_json::from_value(old).unwrap();
    assert_eq!(identity.groups.to_vec(), ["os:a", "os:b"]);
    assert!(identity.oidc().is_none());
}

#[test]
fn a_record_has_room_for_some_groups_and_counts_the_others() {
    let groups: Groups = (0..10_000).map(|n| format!("oidc:corp:6f9619ff-8b86-d011-b42d-{n:012}")).collect();
    let identity = Identity { groups, ..alice() };
    let recorded = identity.for_record();
    assert_eq!(recorded.groups.len() as u64 + recorded.groups_left_off, 10_000);
    assert!(serde_json::to_vec(&recorded).unwrap().len() < crate::limits::EVENT_BYTES_MAX / 4);
    assert_eq!(recorded.for_record(), recorded);
    let content = identity.groups.join("\n");
    assert_eq!(recorded.clone().with_content(content.as_bytes()), identity);
    assert_eq!(recorded.clone().with_content(b"oidc:corp:admins"), recorded, "another content");
    assert_eq!(alice().with_content(b"oidc:corp:admins"), alice());
    assert_eq!(alice().for_record(), alice());
    assert_ne!(recorded.groups, identity.groups);
}

#[test]
fn groups_that_join_differently_are_not_the_same() {
    let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Groups>();
    assert_eq!(groups(&["a", "b"]), groups(&["b", "a", "a"]));
    assert_ne!(groups(&["ab", "c"]), groups(&["a", "bc"]));
    assert_ne!(groups(&[""]), groups(&[]));
}
