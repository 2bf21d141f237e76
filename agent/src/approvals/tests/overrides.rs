//! Overrides: who may, for how long, of what, and that all of it is on record.

use super::*;

#[test]
fn an_override_needs_a_group_a_reason_and_an_end() {
    let desk = Desk::new();
    let oncall = approver(7, &["os:oncall"]);
    let begin = |approver: &Approver, reason: &str, minutes| {
        let begun = desk.approvals.begin_override(approver, "orders-db".into(), reason, Duration::from_mins(minutes));
        begun.map_err(|NotCounted(why)| why)
    };
    assert!(begin(&approver(0, &["os:root"]), "fire", 1).unwrap_err().contains("in none of `override.groups`"));
    assert!(begin(&oncall, " \t", 1).unwrap_err().contains("needs a reason"));
    assert!(begin(&oncall, "fire", 241).unwrap_err().contains("at most here"));
    assert_eq!(desk.approvals.overridden("orders-db"), None);
    let begun = begin(&oncall, "fire", 1).unwrap();
    assert_eq!(desk.approvals.overridden("orders-db"), Some(begun.id.clone()));
    assert_eq!(desk.approvals.overridden("orders-db2"), None);
    assert!(desk.approvals.end_override(&approver(1, &[]), &begun.id).is_err());
    desk.approvals.end_override(&oncall, &begun.id[..20]).unwrap();
    assert_eq!(desk.approvals.overridden("orders-db"), None);
    let again = desk.approvals.begin_override(&oncall, "orders-db".into(), "fire", Duration::from_nanos(1)).unwrap();
    assert_eq!((desk.approvals.overridden("orders-db"), desk.approvals.overrides()), (None, Vec::new()), "{again:?}");
    begin(&oncall, "fire", 1).unwrap();
    desk.approvals.end();
    assert_eq!(desk.approvals.overridden("orders-db"), None);
    let recorded = desk.recorded();
    let words: Vec<&str> = recorded.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(words, ["begins", "ends", "begins", "begins", "ends"]);
}

#[test]
fn targets_of_overrides_are_named_as_policy_names_them() {
    let catalog = || ["orders-db"].into_iter();
    assert_eq!(named("orders-db", catalog()).unwrap(), "orders-db");
    assert_eq!(named("tcp:[::ffff:127.0.0.1]:80", catalog()).unwrap(), "tcp:127.0.0.1:80");
    assert_eq!(named("tcp:[::1]:80", catalog()).unwrap(), "tcp:[::1]:80");
    for wrong in ["orders", "tcp:orders-db:80", "tcp:127.0.0.1", "*", ""] {
        assert!(named(wrong, catalog()).is_err(), "{wrong}");
    }
}
