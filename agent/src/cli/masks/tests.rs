use std::path::{Path, PathBuf};

use crewtap_core::mask::detect::Hit;
use crewtap_core::mask::rule::Place;
use crewtap_core::mask::set::Masks;
use crewtap_core::policy::catalog::Catalog;

use super::super::tests::{JSON, UTC, printed};
use super::{check, in_force, list, read, trial};
use crate::config::Config;

const TARGETS: &str = "[target.orders-db]\nmatch = { host = ['orders.internal'] }\nprotocol = 'postgres'\ntags = ['prod']\n\
                       masks = ['note', 'email']\n";

const MASKS: &str = "[mask.note]\nwhere = ['column:note']\nenabled = false\nkeep_last = 3\n\
                     [mask.order]\nregex = 'O-[0-9]{6}'\ntags = ['prod']\n[mask.card]\napply = 'record'\n";

struct Files {
    dir: tempfile::TempDir,
    config: Config,
}

impl Files {
    fn new(masks: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> Option<PathBuf> {
            std::fs::write(dir.path().join(name), text).unwrap();
            Some(dir.path().join(name))
        };
        let config = Config { masks: file("masks.toml", masks), targets: file("t.toml", TARGETS), ..Config::default() };
        Self { dir, config }
    }

    fn parsed(&self) -> (Masks, Catalog) {
        let catalog = self.config.catalog().unwrap();
        (self.config.masks(&catalog).unwrap(), catalog)
    }

    fn checked(&self, view: &super::ViewArgs) -> (bool, String) {
        let catalog = self.config.catalog().unwrap();
        let (is_right, said) = printed(view, |screen| check::print(&self.config, &catalog, screen));
        (is_right, said.replace(&format!("{}/", self.dir.path().display()), ""))
    }

    fn tried(&self, view: &super::ViewArgs, target: Option<&str>, place: Option<&str>, text: &[u8]) -> (bool, String) {
        let (masks, catalog) = self.parsed();
        let rules = in_force(&masks, &catalog, target).unwrap();
        let place = place.map(|place| Place::parse(place).unwrap());
        printed(view, |screen| trial::print(&masks, (target, &rules), place.as_ref(), text, screen))
    }
}

#[test]
fn what_is_wrong_is_told_with_its_file_and_line() {
    assert_eq!(Files::new(MASKS).checked(&UTC), (true, "13 masks, 8 of them on\n".into()));
    let (is_right, said) = Files::new("[mask.note]\nwhere = ['a']\n[mask.b]\n").checked(&UTC);
    assert!(!is_right && said.starts_with("masks.toml:2: fault: `where`: \"a\" is no place"), "{said}");
    assert!(
        said.contains("\nmasks.toml:3: fault: [mask.b] needs") && said.ends_with("2 faults: no agent starts with it\n")
    );
    let (is_right, said) = Files::new("").checked(&JSON);
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!is_right);
    assert_eq!((lines[0]["file"].as_str(), lines[0]["line"].as_u64()), (Some("t.toml"), Some(5)));
    assert_eq!(lines[1]["faults"], 1);
    let none = printed(&UTC, |screen| check::print(&Config::default(), &Catalog::default(), screen));
    assert_eq!(none, (true, "11 masks, 7 of them on; there is no file, so all are ours as they are\n".into()));
}

#[test]
fn a_list_says_what_where_and_for_whom() {
    let (masks, catalog) = Files::new(MASKS).parsed();
    let (found, said) = printed(&UTC, |screen| list::print(&masks, &catalog, None, screen));
    assert!(found);
    let row = |name: &str| said.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    let cells = |name: &str| row(name).split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    assert_eq!(cells("card"), ["card", "payment card numbers", "anywhere", "record", "4", "all"]);
    assert_eq!(cells("note"), ["note", "all that stands there", "column:note", "record", "3", "orders-db"]);
    assert_eq!(cells("order"), ["order", "/O-[0-9]{6}/", "anywhere", "record", "0", "tags prod"]);
    assert_eq!(cells("email").last(), Some(&"orders-db"));
    assert_eq!(cells("phone").last(), Some(&"none: off"));
    let (_, said) = printed(&UTC, |screen| list::print(&masks, &catalog, Some("orders-db"), screen));
    assert_eq!(said.lines().count(), 1 + 10, "{said}");
    let (_, said) = printed(&JSON, |screen| list::print(&masks, &catalog, None, screen));
    let note = said.lines().find(|line| line.contains("\"note\"")).unwrap();
    let note: serde_json::Value = serde_json::from_str(note).unwrap();
    assert_eq!(note["where"], serde_json::json!(["column:note"]));
    assert_eq!((&note["named_by"], &note["enabled"]), (&serde_json::json!(["orders-db"]), &false.into()));
    let mut out = Vec::new();
    let screen = &mut super::Screen::new(&mut out, &UTC);
    let said = list::print(&masks, &catalog, Some("orders"), screen).unwrap_err().to_string();
    assert!(said.contains("no target `orders`"), "{said}");
}

#[test]
fn a_field_of_which_all_is_hidden_shows_no_more_than_a_quarter() {
    let files = Files::new(MASKS);
    let try_it = |text: &str| files.tried(&UTC, Some("orders-db"), Some("column:Note"), text.as_bytes());
    let (found, said) = try_it("grüße-12345678\n");
    assert!(found && said.starts_with("**************78\n\nMASK  LINE  AT  LENGTH  KEPT\n"), "{said}");
    assert!(said.contains("note     1   0      16     2\n1 value in 16 bytes: note 1\n"), "{said}");
    assert!(try_it("ab-c1-2").1.starts_with("******2\n"), "{}", try_it("ab-c1-2").1);
    let (found, said) = files.tried(&UTC, Some("orders-db"), None, b"nothing\x1b here\n");
    assert_eq!(
        (found, said.as_str()),
        (
            false,
            "nothing\\x1b here\n\nnothing found in 14 bytes\nLooked for only in their own places (try --where): note\n"
        )
    );
    let (_, said) = files.tried(&JSON, Some("orders-db"), Some("column:note"), b"12345678");
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], serde_json::json!({"mask": "note", "line": 1, "at": 0, "length": 8, "kept": 2}));
    assert_eq!(lines[1], serde_json::json!({"text": "******78", "finds": 1, "elsewhere": []}));
}

#[test]
fn finds_are_hidden_in_their_lines_and_counted() {
    let (masks, _) = Files::new(MASKS).parsed();
    let text = "a: 4111\nb: grüß4111\nc\n-----\n=====\n".as_bytes();
    let hit = |rule, start, end, keep| Hit { rule, start, end, keep };
    let hits = [hit(0, 3, 7, 2), hit(1, 11, 21, 4), hit(0, 24, 35, 0)];
    let rows = trial::Row::all(&hits, &masks, text);
    assert_eq!(rows.iter().map(|row| (row.mask, row.line)).collect::<Vec<_>>(), [("iban", 1), ("ssn", 2), ("iban", 4)]);
}

#[test]
fn a_text_is_read_from_its_file() {
    let files = Files::new(MASKS);
    assert_eq!(read(Some(&files.dir.path().join("masks.toml"))).unwrap(), MASKS.as_bytes());
    assert!(read(Some(Path::new("/nonexistent/x"))).unwrap_err().to_string().contains("cannot read /nonexistent/x"));
}

#[test]
fn what_cannot_be_kept_for_clients_is_told() {
    let files = Files::new("[mask.card]\napply = 'wire'\n[mask.iban]\napply = 'wire'\nwire_targets = ['orders-db']\n");
    std::fs::write(
        files.dir.path().join("t.toml"),
        "[target.orders-db]\nmatch = { host = ['db.internal'] }\nprotocol = 'postgres'\n\
         [target.bastion]\nmatch = { host = ['bastion.internal'] }\nprotocol = 'ssh'\n",
    )
    .unwrap();
    let (is_right, said) = files.checked(&UTC);
    assert!(is_right, "{said}");
    assert!(
        said.contains("note: `apply = \"wire\"` of card cannot be kept for [target.bastion], which speaks ssh"),
        "{said}"
    );
    let (masks, catalog) = files.parsed();
    let (_, said) = printed(&UTC, |screen| list::print(&masks, &catalog, None, screen));
    assert!(said.contains("wire for orders-db") && said.contains("where http and postgres is spoken"), "{said}");
}
