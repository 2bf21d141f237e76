use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::Masks;
use crate::mask::rule::{Apply, Check, JsonStep, Kind, Place, Rule, What};
use crate::policy::catalog::Catalog;

fn said(text: &str) -> String {
    Masks::parse(text).map(|masks| format!("{masks:?}")).unwrap_err().to_string()
}

fn catalog(text: &str) -> Catalog {
    Catalog::parse(text, Path::new("/etc/crewtap")).unwrap()
}

fn target(name: &str, more: &str) -> String {
    format!("[target.{name}]\nmatch = {{ host = ['{name}.internal'] }}\nprotocol = 'postgres'\n{more}\n")
}

fn disagreement(masks: &str, targets: &str) -> Result<(), String> {
    Masks::parse(masks).unwrap().check_catalog(&catalog(targets)).map_err(|fault| fault.to_string())
}

fn in_force(masks: &Masks, name: Option<&str>, tags: &[&str], named: &[&str]) -> Vec<String> {
    let tags: BTreeSet<String> = tags.iter().map(ToString::to_string).collect();
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    let found = masks.for_target(name, &tags, &named);
    found
        .into_iter()
        .map(|(number, rule)| masks.rule(number).filter(|same| *same == rule).unwrap().name.clone())
        .collect()
}

const DEFAULTS: [&str; 7] = ["card", "iban", "ssn", "api-key", "jwt", "private-key", "url-password"];

#[test]
fn every_fault_names_its_line_and_what_to_do() {
    let cases = [
        ("[masks.a]\n", "1: unknown key `masks`: did you mean `mask`?"),
        ("mask = 3\n", "1: `mask` must be a table, not of type integer"),
        ("\n[mask.a]\nregxe = 'a'\n", "3: unknown key `regxe`: did you mean `regex`?"),
        ("[mask.a]\nregex = 'a'\n[mask.a]\n", "3: "),
        ("[mask.'a b']\nregex = 'a'", "1: [mask.NAME]: \"a b\" is no name"),
        ("[mask.card]\n\nregex = 'a'", "3: [mask.card] is a detector of ours and has no `regex`"),
        ("[mask.card]\ncheck = 'luhn'", "2: [mask.card] is a detector of ours and has no `check`"),
        ("[mask.a]\n", "1: [mask.a] needs a `regex`, or `where`"),
        (
            "[mask.crad]\nkeep_last = 4",
            "1: [mask.crad] needs a `regex`, or `where`: all of that field is hidden then; or did you mean [mask.card]?",
        ),
        ("[mask.api_key]\n", "did you mean [mask.api-key]?"),
        ("[mask.a]\ncheck = 'luhn'\nwhere = ['column:a']", "2: `check` is for what a `regex` finds"),
        ("[mask.a]\nregex = 'a'\ncheck = 'lunh'", "3: `check` cannot be \"lunh\": it is one of \"luhn\", \"mod97\""),
        ("[mask.a]\nregex = '(\\d{4}'", "2: `regex` is malformed at its character 1: unclosed group"),
        ("[mask.a]\nregex = '\\d{4'", "2: `regex` is malformed at its character 3: "),
        ("[mask.a]\nregex = 'a\\1'", "backreferences are not supported"),
        ("[mask.a]\nregex = '^$'", "2: `regex` matches nothing but the empty text"),
        ("[mask.a]\nregex = ''", "2: `regex` is empty"),
        ("[mask.a]\nregex = 'a*'", "2: `regex` also matches the empty text"),
        ("[mask.a]\nregex = 'a[^\\s\\S]'", "2: `regex` can never match"),
        ("[mask.a]\nregex = '(?<value>)id'", "the group `value` of `regex` is always empty"),
        ("[mask.a]\nregex = '[a-z]{9}'\ncheck = 'luhn'", "2: what `regex` finds can never pass `check = \"luhn\"`"),
        ("[mask.a]\nregex = '\\d:(?<value>[a-z]{9})'\ncheck = 'mod97'", "can never pass `check = \"mod97\"`"),
        ("[mask.a]\nregex = '[0-9]{4}'\ncheck = 'mod97'", "can never pass"),
        (
            "[mask.a]\nregex = 'a'\n[mask.b]\nregex = 'a'\napply = 'record'",
            "3: [mask.b] can never fire: [mask.a] before it",
        ),
        ("[mask.card]\nkeep_last = 17", "2: `keep_last` must be a number from 0 to 16"),
        ("[mask.card]\nkeep_last = -1", "2: `keep_last` must be a number from 0 to 16"),
        ("[mask.card]\nkeep_last = '4'", "2: `keep_last` must be a number from 0 to 16"),
        ("[mask.card]\nenabled = 'no'", "2: `enabled` must be true or false, not of type string"),
        ("[mask.card]\napply = 'both'", "2: `apply` cannot be \"both\": it is one of \"record\""),
        (
            "[mask.card]\nwire_targets = ['db']",
            "1: `wire_targets` of [mask.card] says nothing without `apply = \"wire\"`",
        ),
        ("[mask.card]\nwhere = 'column:a'", "2: `where` must be a list of texts"),
        ("[mask.card]\nwhere = []", "2: `where` is empty"),
        ("[mask.card]\ntargets = []", "2: `targets` is empty"),
        ("[mask.card]\ntags = ['a', 'a']", "2: `tags`: \"a\" stands there twice"),
        ("[mask.card]\nwhere = ['header:X-A', 'header:x-a']", "stands there twice"),
        ("[mask.card]\nwhere = ['columns:a']", "2: `where`: \"columns:a\" is no place"),
        ("[mask.card]\nwhere = ['header:x y']", "\"x y\" is no name of a header field"),
        ("[mask.card]\nwhere = ['header:']", "\"\" is no name of a header field"),
        ("[mask.card]\nwhere = ['column:']", "\"\" is no name of a column"),
        ("[mask.card]\nwhere = ['json:customer.id']", "\"customer.id\": a path begins with `$`"),
        ("[mask.card]\nwhere = ['json:$']", "it names all there is"),
    ];
    for (text, wanted) in cases {
        let said = said(text);
        assert!(said.contains(wanted), "{text}\n{said}\n{wanted}");
    }
    let long = format!("[mask.a]\nwhere = ['column:{}']", "c".repeat(64));
    assert!(said(&long).contains("at most 63 bytes"));
    let long = format!("[mask.a]\nregex = '{}'", "c".repeat(5000));
    assert!(said(&long).contains("longer than 4096 bytes"));
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_nothing_twice() {
    let text = "[mask.card]\nkeep_last = 99\naply = 'record'\n[mask.b]\nregex = '('\n[mask.c]\nchek = 'luhn'\n[mask.d]\n\
                [mask.crad]\nkeep = 3\n";
    let said = said(text);
    let lines: Vec<&str> = said.lines().collect();
    let wanted = [
        "2: `keep_last`",
        "3: unknown key `aply`",
        "5: `regex` is malformed",
        "7: unknown key `chek`",
        "8: [mask.d] needs",
        "9: [mask.crad] needs",
        "10: unknown key `keep`",
    ];
    assert_eq!(lines.len(), wanted.len(), "{said}");
    assert!(lines.iter().zip(wanted).all(|(line, wanted)| line.starts_with(wanted)), "{said}");
}

#[test]
fn what_the_file_says_is_what_a_rule_is() {
    let text = "
        [mask.customer-no]
        regex = 'C-(?<value>\\d{8})'
        check = 'luhn'
        where = ['column:Customer_No', 'json:$.customer.id', 'header:X-Customer']
        apply = 'wire'
        wire_targets = ['orders']
        keep_last = 2
        targets = ['orders']
        tags = ['prod']
        [mask.card]
        keep_last = 0
        [mask.note]
        enabled = false
        where = ['column:note']
    ";
    let masks = Masks::parse(text).unwrap();
    let names: Vec<&str> = masks.rules().map(|(_, rule)| rule.name.as_str()).collect();
    let ours = Kind::ALL.iter().map(|kind| kind.as_str()).filter(|name| *name != "card");
    assert_eq!(names, ours.chain(["customer-no", "card", "note"]).collect::<Vec<_>>());
    let of = |name: &str| masks.rules().find(|(_, rule)| rule.name == name).unwrap().1.clone();
    let wanted = Rule {
        name: "customer-no".into(),
        what: What::Pattern { regex: "C-(?<value>\\d{8})".into(), check: Some(Check::Luhn) },
        places: vec![
            Place::Column("customer_no".into()),
            Place::Json(vec![JsonStep::Key("customer".into()), JsonStep::Key("id".into())]),
            Place::Header("x-customer".into()),
        ],
        apply: Apply::Wire,
        wire_targets: vec!["orders".into()],
        keep_last: 2,
        enabled: true,
        targets: vec!["orders".into()],
        tags: vec!["prod".into()],
    };
    assert_eq!(of("customer-no"), wanted);
    assert_eq!(of("card"), Rule { keep_last: 0, ..Rule::of(Kind::Card) });
    assert_eq!((of("note").what, of("note").enabled), (What::All, false));
    assert_eq!(of("iban"), Rule::of(Kind::Iban));
    assert_eq!(Masks::parse("# nothing\n").unwrap(), Masks::default());
    assert_eq!(masks.rule(u16::MAX), None);
}

#[test]
fn a_target_has_what_is_on_what_it_names_and_nothing_that_is_for_others() {
    let text = "
        [mask.jwt]
        enabled = false
        [mask.email]
        enabled = true
        targets = ['crm', 'mail']
        [mask.order]
        regex = 'O-\\d{6}'
        tags = ['prod', 'uncatalogued']
        [mask.secret]
        enabled = false
        where = ['column:secret']
    ";
    let masks = Masks::parse(text).unwrap();
    let with = |more: &[&str]| {
        let mut names: Vec<String> = DEFAULTS.iter().filter(|name| **name != "jwt").map(ToString::to_string).collect();
        names.extend(more.iter().map(ToString::to_string));
        names
    };
    assert_eq!(in_force(&masks, None, &[], &[]), with(&[]));
    assert_eq!(in_force(&masks, None, &["uncatalogued"], &[]), with(&["order"]));
    assert_eq!(in_force(&masks, Some("crm"), &["test"], &[]), with(&["email"]));
    assert_eq!(in_force(&masks, Some("mail"), &["prod"], &["secret"]), with(&["email", "order", "secret"]));
    assert_eq!(in_force(&masks, Some("shop"), &[], &["secret", "phone"]), {
        let mut names = with(&["secret"]);
        names.insert(6, "phone".into());
        names
    });
    assert_eq!(in_force(&Masks::default(), Some("shop"), &["prod"], &[]), DEFAULTS);
}

#[test]
fn masks_and_catalog_name_only_what_the_other_has() {
    let orders = target("orders", "tags = ['prod']\nmasks = ['card', 'note']");
    let crm = target("crm", "tags = ['test']");
    let both = format!("{orders}{crm}");
    let note = "[mask.note]\nenabled = false\nwhere = ['column:note']\n";
    assert_eq!(disagreement(note, &both), Ok(()));
    assert_eq!(disagreement("[mask.card]\nenabled = false\n", &crm), Ok(()));
    assert_eq!(disagreement("[mask.a]\nregex = 'a'\ntags = ['uncatalogued']", ""), Ok(()));
    let cases = [
        ("", "catalog:5: `masks` of [target.orders] names \"note\", and there is no such mask; did you mean \""),
        (
            &format!("{note}targets = ['order']"),
            "4: `targets` of [mask.note] names \"order\", and there is no such target in the catalog; did you mean \"orders\"?",
        ),
        (
            &format!("{note}tags = ['prd']"),
            "4: `tags` of [mask.note] names \"prd\", a tag that no target has in the catalog; did you mean \"prod\"?",
        ),
        (
            &format!("{note}tags = ['test']"),
            "catalog:5: `masks` of [target.orders] names \"note\", but `targets` and `tags`",
        ),
        (
            &format!("{note}[mask.a]\nregex = 'a'\ntargets = ['orders']\ntags = ['test']"),
            "7: [mask.a] can never fire: none of its `targets` has one of its `tags`",
        ),
        (&format!("{note}[mask.a]\nregex = 'a'\nenabled = false"), "6: [mask.a] can never fire: it is not enabled"),
        (
            &format!("{note}[mask.email]\napply = 'record'"),
            "4: [mask.email] can never fire: it is off where nothing else",
        ),
    ];
    for (masks, wanted) in cases {
        let said = disagreement(masks, &both).unwrap_err();
        assert!(said.contains(wanted), "{masks}\n{said}\n{wanted}");
    }
    let several = disagreement("[mask.a]\nregex = 'a'\ntargets = ['x']\ntags = ['y']\n", &both).unwrap_err();
    assert_eq!(several.lines().count(), 3, "{several}");
}

#[test]
fn paths_into_json_are_those_that_name_a_place() {
    use JsonStep::{At, Deep, Every, Key};
    let key = |name: &str| Key(name.into());
    let right = [
        ("$.customer.id", vec![key("customer"), key("id")]),
        ("$..cards[*].number", vec![Deep, key("cards"), Every, key("number")]),
        ("$[0]['a.b'].größe", vec![At(0), key("a.b"), key("größe")]),
        ("$.messages[12]..['it\\'s \\\\']", vec![key("messages"), At(12), Deep, key("it's \\")]),
        ("$..[*]", vec![Deep, Every]),
        ("$.customer-id[\"\"]", vec![key("customer-id"), key("")]),
    ];
    for (path, steps) in right {
        assert_eq!(Place::parse(&format!("json:{path}")), Ok(Place::Json(steps)), "{path}");
    }
    let wrong = [
        "",
        "a",
        "$",
        "$.",
        "$..",
        "$...a",
        "$.a.",
        "$a",
        "$[",
        "$[]",
        "$[a]",
        "$[-1]",
        "$[1:2]",
        "$[1,2]",
        "$['a'",
        "$['a]",
        "$[?(@.a)]",
        "$.*",
        "$.a b",
        "$[99999999999999999999999]",
        "$['\\u0061']",
        "$.a]",
    ];
    for path in wrong {
        assert!(Place::parse(&format!("json:{path}")).is_err(), "{path}");
    }
    let deep = format!("json:${}", ".a".repeat(33));
    assert!(Place::parse(&deep).unwrap_err().contains("more than 32 steps"));
}

fn steps() -> impl Strategy<Value = Vec<JsonStep>> {
    let solid =
        || prop_oneof![".*".prop_map(JsonStep::Key), Just(JsonStep::Every), any::<usize>().prop_map(JsonStep::At)];
    let step = (any::<bool>(), solid()).prop_map(|(deep, step)| {
        let behind = !matches!(step, JsonStep::Deep);
        if deep && behind { vec![JsonStep::Deep, step] } else { vec![step] }
    });
    proptest::collection::vec(step, 1..16).prop_map(|steps| steps.concat())
}

proptest! {
    #[test]
    fn a_place_that_is_shown_can_be_read_again(steps in steps()) {
        let place = Place::Json(steps);
        prop_assert_eq!(Place::parse(&place.to_string()), Ok(place.clone()), "{}", place);
    }

    #[test]
    fn no_text_stops_the_reader(text in ".{0,200}", path in "[$.\\[\\]'\"*\\\\a0-9]{0,12}") {
        let _ = Masks::parse(&text);
        let _ = Masks::parse(&format!("[mask.a]\nwhere = ['''json:{path}''']\nregex = '''{text}'''"));
        if let Ok(place) = Place::parse(&format!("json:{path}")) {
            prop_assert_eq!(Place::parse(&place.to_string()), Ok(place));
        }
    }
}
