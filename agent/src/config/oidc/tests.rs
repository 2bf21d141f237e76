#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::config::Config;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/crewtap/crewtap.toml")).map_err(|error| error.to_string())
}

const LEAST: &str = "[oidc.corp]\nissuer = 'https://id.example/realms/crew'\nclient_id = 'crewtap'\n";

#[test]
fn little_must_be_said_and_the_rest_is_safe() {
    let config = parse(LEAST).unwrap();
    let corp = &config.oidc[0];
    assert_eq!((corp.name.as_str(), corp.issuer.as_str()), ("corp", "https://id.example/realms/crew"));
    assert_eq!(corp.redirect, Redirect { port: 0, path: "/oidc/corp".into() });
    assert!(corp.groups.is_none() && corp.secret.is_none() && corp.workload.is_none());
    assert!(corp.algorithms.iter().all(|name| !name.starts_with("HS") && name != "none"));
    assert_eq!((corp.skew, corp.lasts, corp.on_expiry), (SKEW, LASTS, OnExpiry::Continue));
}

#[test]
fn everything_can_be_said() {
    let text = format!(
        "{LEAST}secret = 'env:OIDC_SECRET'\nauth = 'post'\nscopes = ['email', 'offline_access']\ngroups = 'realm_access.roles'
hd = ['Example.com']\ndiscovery_token = 'own'\nalgorithms = ['ES256']\nca = 'id-ca.pem'\naudience = ['api']\nredirect = 'http://127.0.0.1:8400/back'
skew = '5s'\nlasts = '8h'\nrenew = '1m'\non_expiry = 'refuse'\nmax_age = '1h'\nname = 'upn'
[oidc.corp.members]\nsre = ['Alice@Example.com', '*@sre.example.com']
[oidc.corp.workload]\ntoken_file = 'token'\nunits = ['crew.service']\nusers = ['crew']"
    );
    let config = parse(&text).unwrap();
    let corp = &config.oidc[0];
    assert_eq!(corp.groups.as_ref().unwrap().path, ["realm_access", "roles"]);
    assert_eq!(corp.members["sre"], ["alice@example.com", "*@sre.example.com"]);
    assert_eq!((corp.hd[0].as_str(), corp.called.as_deref()), ("example.com", Some("upn")));
    assert_eq!(corp.redirect, Redirect { port: 8400, path: "/back".into() });
    assert_eq!(corp.discovery_token.as_deref(), Some(Path::new("/etc/crewtap/own")));
    assert_eq!(corp.ca.as_deref(), Some(Path::new("/etc/crewtap/id-ca.pem")));
    assert_eq!(corp.workload.as_ref().unwrap().proof, WorkloadProof::TokenFile("/etc/crewtap/token".into()));
    assert_eq!(config.variables_of_providers().collect::<Vec<_>>(), ["OIDC_SECRET"]);
}

#[test]
fn a_claim_of_ones_own_is_one_name_and_keys_with_dots_are_a_list() {
    let path = |written: &str| {
        let config = parse(&format!("{LEAST}groups = {written}")).unwrap();
        config.oidc[0].groups.clone().unwrap().path
    };
    assert_eq!(path("'https://example.com/groups'"), ["https://example.com/groups"]);
    assert_eq!(path("['resource_access', 'crew.tap', 'roles']"), ["resource_access", "crew.tap", "roles"]);
    assert!(parse(&format!("{LEAST}groups = 'a..b'")).unwrap_err().contains(":4: `groups` must be a claim's name"));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let fault = |text: &str| parse(&format!("{LEAST}{text}")).unwrap_err();
    assert!(fault("isuer = 'x'").contains(":4: unknown key `isuer`: did you mean `issuer`?"));
    assert!(fault("algorithms = ['RS256', 'none']").contains("\"none\" proves nothing"));
    assert!(fault("algorithms = ['HS256']").contains("\"HS256\" proves nothing"));
    assert!(fault("algorithms = ['RS257']").contains("is not one of RS256, "));
    assert!(fault("algorithms = []").contains("no token would count"));
    assert!(fault("secret = 'hunter2'").contains("say where the secret is"));
    assert!(!fault("secret = 'hunter2'").contains("hunter2"));
    assert!(fault("scopes = ['email profile']").contains("is no scope"));
    assert!(fault("redirect = 'http://localhost:1/x'").contains("must be http://127.0.0.1:PORT/PATH"));
    assert!(fault("redirect = 'https://127.0.0.1:1/x'").contains("must be http://127.0.0.1:PORT/PATH"));
    assert!(fault("skew = '1h'").contains("`skew` can be 600 s at most"));
    assert!(fault("on_expiry = 'ignore'").contains("it is one of \"continue\", \"refuse\""));
    assert!(fault("[oidc.corp.members]\nsre = ['alice']").contains("is no e-mail address"));
    assert!(fault("[oidc.corp.workload]\nunits = ['a.service']").contains("needs either `token_file`"));
    assert!(fault("[oidc.corp.workload]\nclient_credentials = true").contains("client credentials need `secret`"));
    assert!(fault("[oidc.corp.workload]\ntoken_file = 't'\nunits = ['a']").contains("is no unit"));
    assert!(
        fault("[oidc.again]\nissuer = 'https://id.example/realms/crew'\nclient_id = 'crewtap'")
            .contains("the same client")
    );
}

#[test]
fn an_issuer_is_reached_by_tls_or_on_loopback() {
    let fault = |issuer: &str| parse(&format!("[oidc.a]\nissuer = '{issuer}'\nclient_id = 'x'")).err();
    for fine in ["https://id.example", "https://id.example:8443/a/b/", "http://127.0.0.1:9000", "http://[::1]:9000/x"] {
        assert_eq!(fault(fine), None);
    }
    for wrong in
        ["http://id.example", "http://localhost:9000", "https://u:p@id.example", "https://id.example?x=1", "id.example"]
    {
        assert!(fault(wrong).unwrap().contains(":2: `issuer` "), "{wrong}");
    }
    assert!(parse("[oidc.a]\nissuer = 'https://id.example'").unwrap_err().contains("`oidc.a` needs `client_id`"));
    assert!(
        parse("[oidc.\"a:b\"]\nissuer = 'https://id.example'").unwrap_err().contains("letters, digits, - and _ only")
    );
    assert!(parse("[oidc]\nissuer = 'https://id.example'").unwrap_err().contains("write each provider as [oidc.NAME]"));
}

#[test]
fn a_trust_domain_has_its_keys_in_a_file_and_vouches_for_workloads_alone() {
    let domain = "[oidc.spire]\nissuer = 'spiffe://example.org'\nclient_id = 'crewtap'\n";
    let by_file = "[oidc.spire.workload]\ntoken_file = 'svid.jwt'\n";
    let config = parse(&format!("{domain}jwks_file = 'bundle.json'\n{by_file}")).unwrap();
    assert_eq!(config.oidc[0].jwks_file.as_deref(), Some(Path::new("/etc/crewtap/bundle.json")));
    assert!(parse(&format!("{domain}{by_file}")).unwrap_err().contains("needs `jwks_file`"));
    assert!(parse(&format!("{domain}jwks_file = 'b'")).unwrap_err().contains("for workloads alone"));
    assert!(parse(&format!("{LEAST}jwks_file = 'b'")).unwrap_err().contains("for workloads alone"));
    let both = format!("{domain}jwks_file = 'b'\ndiscovery_token = 't'\n{by_file}");
    assert!(parse(&both).unwrap_err().contains("`discovery_token`"));
    for wrong in ["spiffe://", "spiffe://example.org/crew", "spiffe://Example.org", "spiffe://a:1", "spiffe://u@a"] {
        let why = parse(&domain.replace("spiffe://example.org", wrong)).unwrap_err();
        assert!(why.contains("trust domain"), "{wrong}: {why}");
    }
}

#[test]
fn providers_do_not_share_a_page_to_come_back_to() {
    let two = |path: &str| {
        format!(
            "{LEAST}redirect = 'http://127.0.0.1:0/back'\n[oidc.b]\nissuer = 'https://b.example'\nclient_id = 'b'\nredirect = 'http://127.0.0.1:7/{path}'\n"
        )
    };
    assert!(parse(&two("back")).unwrap_err().contains("one `redirect`"));
    assert!(parse(&two("b")).is_ok());
    let same = format!(
        "{LEAST}redirect = 'http://127.0.0.1:0/back'\n[oidc.b]\nissuer = 'https://id.example/realms/crew'\nclient_id = 'b'\nredirect = 'http://127.0.0.1:0/back'\n"
    );
    assert!(parse(&same).is_ok(), "one issuer cannot be taken for another");
}

#[test]
fn what_is_known_of_a_person_may_have_to_be_of_this_moment() {
    assert!(parse(&format!("{LEAST}renew = '0s'")).unwrap().oidc[0].renew.is_zero());
    assert!(parse(&format!("{LEAST}lasts = '0s'")).is_err());
}
