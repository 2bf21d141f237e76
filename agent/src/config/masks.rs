//! The file of masks -> [`Masks`], held against the catalog.
//!
//! Owns how its faults are told with their files. Never looks at content.

use std::path::Path;

use crewtap_core::mask::set::{File, MaskFault, Masks};
use crewtap_core::policy::catalog::Catalog;

use super::{Config, ConfigError};

impl Config {
    /// The masks that [`Config::masks`] names, for this catalog; our own detectors as they are where none is named.
    ///
    /// # Errors
    /// When the file cannot be read, or has a fault; or when masks and catalog do not agree.
    pub fn masks(&self, catalog: &Catalog) -> Result<Masks, ConfigError> {
        let refused = |fault| ConfigError::Masks { masks: self.masks.clone(), catalog: self.targets.clone(), fault };
        let masks = match &self.masks {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Masks::parse(&text).map_err(refused)?
            }
            None => Masks::default(),
        };
        masks.check_catalog(catalog).map_err(refused)?;
        Ok(masks)
    }
}

/// Each flaw in a line, with its file.
pub(super) fn told(masks: Option<&Path>, catalog: Option<&Path>, fault: &MaskFault) -> String {
    let line = |flaw: &crewtap_core::mask::set::Flaw| {
        let file = if flaw.file == File::Masks { masks } else { catalog };
        let file = file.unwrap_or(Path::new("-")).display();
        format!("{file}:{}: {}", flaw.line, flaw.what)
    };
    fault.flaws.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crewtap_core::mask::set::Masks;

    use super::*;

    const TARGETS: &str = "[target.db]\nmatch = { host = ['db.internal'] }\nprotocol = 'postgres'\nmasks = ['note']\n";

    fn config(dir: &Path, masks: Option<&str>, targets: Option<&str>) -> Config {
        let file = |name: &str, text: Option<&str>| -> Option<PathBuf> {
            std::fs::write(dir.join(name), text?).unwrap();
            Some(dir.join(name))
        };
        Config { masks: file("m.toml", masks), targets: file("t.toml", targets), ..Config::default() }
    }

    /// What is said of two files, with their directory left out.
    fn said(masks: Option<&str>, targets: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), masks, targets);
        let said = config.masks(&config.catalog().unwrap()).unwrap_err().to_string();
        said.replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn faults_name_the_file_that_they_are_in() {
        let both = said(Some("[mask.a]\nregex = '('\n[mask.b]\n"), None);
        assert!(both.starts_with("m.toml:2: `regex` is malformed"), "{both}");
        assert!(both.contains("\nm.toml:3: [mask.b] needs a `regex`"), "{both}");
        let missing = said(None, Some(TARGETS));
        assert!(missing.starts_with("t.toml:4: `masks` of [target.db] names \"note\""), "{missing}");
        let twice = said(Some("[mask.c]\nregex = 'c'\ntargets = ['bd']\n"), Some(TARGETS));
        assert!(twice.starts_with("m.toml:3: `targets` of [mask.c]") && twice.contains("\nt.toml:4: "), "{twice}");
        let gone = Config { masks: Some("/nonexistent/m.toml".into()), ..Config::default() };
        assert!(matches!(gone.masks(&Catalog::default()), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn without_a_file_our_own_detectors_hold_and_with_one_what_it_says() {
        assert_eq!(Config::default().masks(&Catalog::default()).unwrap(), Masks::default());
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), Some("[mask.note]\nwhere = ['column:note']\nenabled = false\n"), Some(TARGETS));
        let masks = config.masks(&config.catalog().unwrap()).unwrap();
        assert!(masks.rules().any(|(_, rule)| rule.name == "note" && !rule.enabled));
    }

    /// The sample, with the examples that it has as comments in force.
    fn sample() -> (PathBuf, String) {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/masks.toml"));
        let text = std::fs::read_to_string(path).unwrap();
        let example =
            |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
        (path.to_path_buf(), text.lines().map(example).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_sample_says_the_defaults_and_its_examples_hold() {
        let (path, examples) = sample();
        let installed = Config { masks: Some(path), ..Config::default() }.masks(&Catalog::default()).unwrap();
        let rules = |masks: &Masks| masks.rules().map(|(_, rule)| rule.clone()).collect::<Vec<_>>();
        assert_eq!(rules(&installed), rules(&Masks::default()));
        let masks = Masks::parse(&examples).unwrap_or_else(|fault| panic!("{fault}"));
        let names: Vec<String> =
            masks.rules().skip(rules(&installed).len()).map(|(_, rule)| rule.name.clone()).collect();
        assert_eq!(names, ["customer-no", "patient", "session-header", "salary"]);
        for key in ["enabled", "regex", "check", "where", "apply", "keep_last", "targets", "tags"] {
            assert!(examples.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
        }
    }
}
