//! Files -> Config, once.
//!
//! Owns `crewtap.toml` and its defaults. Never touches what the paths in it name.

pub mod approvals;
pub mod masks;
pub mod oidc;

use std::io;
use std::path::{Path, PathBuf, absolute};

use crewtap_core::limits::SFTP_CONTENT_BYTES;
use crewtap_core::mask::set::MaskFault;
use crewtap_core::policy::catalog::Catalog;
use crewtap_core::policy::keys::{self, Fault, Key, Value, one_of, text, texts};
use crewtap_core::run::Mode;

use crate::clock::Zone;
use approvals::{ApprovalsConfig, OverrideConfig};
use oidc::Provider;

/// Where the configuration is looked for when nobody names a file.
pub const DEFAULT_FILE: &str = "/etc/crewtap/crewtap.toml";

/// Where the store is when nobody names a directory.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/crewtap";

/// Keys of this version.
const KEYS: [&str; 14] = [
    "data_dir",
    "mode",
    "durability",
    "targets",
    "policy",
    "masks",
    "timezone",
    "tls",
    "tls_pass",
    "tls_authorities",
    "ssh",
    "approvals",
    "override",
    "oidc",
];

/// Keys of the plan that a later version understands; taking them silently would promise what is not done.
const LATER_KEYS: [&str; 2] = ["discover", "retention"];

/// When a request counts as being in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// It is written to the file: survives the agent's death.
    #[default]
    Process,
    /// It is also synced to the disk: survives a power cut.
    Disk,
}

/// What happens with the TLS of captured processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// It is opened where that is possible, and what is inside is recorded.
    #[default]
    Open,
    /// It passes as it is; only its bytes are recorded.
    Pass,
}

/// What the agent and the verbs work by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The file that it came from; none when there is none.
    pub file: Option<PathBuf>,
    /// Where the store is; absolute.
    pub data_dir: PathBuf,
    /// Mode in force unless a run or a target has another: where the file says none, enforce with policies and record without.
    pub mode: Mode,
    /// When a request counts as being in the journal.
    pub durability: Durability,
    /// The catalog of targets; none without one.
    pub targets: Option<PathBuf>,
    /// The directory of policies (`*.cedar`); none without them.
    pub policy: Option<PathBuf>,
    /// The masks; our own detectors as they are without a file.
    pub masks: Option<PathBuf>,
    /// What happens with TLS.
    pub tls: TlsMode,
    /// Names whose TLS is never opened: a host name, or `*.` and the domain above it; lower case.
    pub tls_pass: Vec<String>,
    /// Files of further certificate authorities that targets are verified with, beside the host's own.
    pub tls_authorities: Vec<PathBuf>,
    /// What of SSH is recorded.
    pub ssh: SshConfig,
    /// Where hours and days of the week are counted.
    pub zone: Zone,
    /// Who is asked, and how.
    pub approvals: ApprovalsConfig,
    /// Who may break the glass.
    pub overrides: OverrideConfig,
    /// Identity providers, in the order of the file.
    pub oidc: Vec<Provider>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            data_dir: DEFAULT_DATA_DIR.into(),
            mode: Mode::default(),
            durability: Durability::default(),
            targets: None,
            policy: None,
            masks: None,
            tls: TlsMode::default(),
            tls_pass: Vec::new(),
            tls_authorities: Vec::new(),
            ssh: SshConfig::default(),
            zone: Zone::default(),
            approvals: ApprovalsConfig::default(),
            overrides: OverrideConfig::default(),
            oidc: Vec::new(),
        }
    }
}

/// What of SSH is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SshConfig {
    /// Content of one file that is on record each way, in bytes; of the rest its length and keyed digest are.
    pub content_max: usize,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self { content_max: SFTP_CONTENT_BYTES }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("{path}:{line}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The masks cannot be used, or do not agree with the catalog.
    #[error("{}", self::masks::told(.masks.as_deref(), .catalog.as_deref(), .fault))]
    Masks {
        /// The file of the masks; none where our own are used as they are.
        masks: Option<PathBuf>,
        /// The file of the catalog.
        catalog: Option<PathBuf>,
        /// All that is wrong.
        fault: MaskFault,
    },
}

impl Config {
    /// The configuration of `file` (or of [`DEFAULT_FILE`], which need not exist), with `data_dir` put in.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown key or an impossible value.
    pub fn load(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let path = absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let mut config = match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => Self::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        if let Some(data_dir) = data_dir {
            config.data_dir = absolute(data_dir).unwrap_or_else(|_| data_dir.to_path_buf());
        }
        Ok(config)
    }

    /// The configuration that `text`, the content of `path`, says.
    ///
    /// # Errors
    /// When it has an unknown key or an impossible value.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let fault =
            |fault: Fault| ConfigError::Content { path: path.to_path_buf(), line: fault.line(text), what: fault.what };
        let table = keys::parse(text).map_err(fault)?;
        let mut config = Self { file: Some(path.to_path_buf()), ..Self::default() };
        for (key, value) in keys::in_order(table.get_ref()) {
            config.set(key, value, path).map_err(fault)?;
        }
        if config.policy.is_some() && !table.get_ref().contains_key("mode") {
            config.mode = Mode::Enforce;
        }
        Ok(config)
    }

    /// The catalog that [`Config::targets`] names; an empty one where none is named.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown key or an impossible value.
    pub fn catalog(&self) -> Result<Catalog, ConfigError> {
        let Some(path) = &self.targets else { return Ok(Catalog::default()) };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let beside = path.parent().unwrap_or(Path::new("/"));
        Catalog::parse(&text, beside).map_err(|malformed| ConfigError::Content {
            path: path.clone(),
            line: malformed.line,
            what: malformed.what,
        })
    }

    /// Variables of the agent's environment that are named as places of the providers' secrets.
    pub fn variables_of_providers(&self) -> impl Iterator<Item = &str> {
        self.oidc.iter().filter_map(Provider::variable)
    }

    fn set(&mut self, key: &Key<'_>, value: &Value<'_>, file: &Path) -> Result<(), Fault> {
        match key.get_ref().as_ref() {
            "data_dir" => {
                let beside = file.parent().unwrap_or(Path::new("/"));
                self.data_dir = beside.join(text("data_dir", value)?);
            }
            "mode" => {
                let modes = [("record", Mode::Record), ("shadow", Mode::Shadow), ("enforce", Mode::Enforce)];
                self.mode = one_of("mode", value, &modes)?;
            }
            "durability" => {
                let kinds = [("process", Durability::Process), ("disk", Durability::Disk)];
                self.durability = one_of("durability", value, &kinds)?;
            }
            "targets" => {
                let beside = file.parent().unwrap_or(Path::new("/"));
                self.targets = Some(beside.join(text("targets", value)?));
            }
            "policy" => {
                let beside = file.parent().unwrap_or(Path::new("/"));
                self.policy = Some(beside.join(text("policy", value)?));
            }
            "masks" => {
                let beside = file.parent().unwrap_or(Path::new("/"));
                self.masks = Some(beside.join(text("masks", value)?));
            }
            "timezone" => {
                let name = text("timezone", value)?;
                let what = || format!("`timezone`: this host's time zone database has no \"{name}\"");
                self.zone = Zone::named(name).ok_or_else(|| Fault::of(value, what()))?;
            }
            "tls" => self.tls = one_of("tls", value, &[("open", TlsMode::Open), ("pass", TlsMode::Pass)])?,
            "tls_pass" => self.tls_pass = texts("tls_pass", value, host_pattern)?,
            "tls_authorities" => {
                let beside = file.parent().unwrap_or(Path::new("/"));
                self.tls_authorities = texts("tls_authorities", value, |path| Ok(beside.join(path)))?;
            }
            "ssh" => self.ssh = ssh(value)?,
            "approvals" => self.approvals = approvals::approvals(value, file.parent().unwrap_or(Path::new("/")))?,
            "override" => self.overrides = approvals::overrides(value)?,
            "oidc" => self.oidc = oidc::providers(value, file.parent().unwrap_or(Path::new("/")))?,
            other => return Err(Fault { at: key.span(), what: unknown(other) }),
        }
        Ok(())
    }
}

fn ssh(value: &Value<'_>) -> Result<SshConfig, Fault> {
    let mut config = SshConfig::default();
    for (key, value) in keys::in_order(keys::table("ssh", value)?) {
        match key.get_ref().as_ref() {
            "content_max" => config.content_max = keys::bytes("content_max", value, u32::MAX)?,
            other => return Err(Fault { at: key.span(), what: keys::unknown(other, &["content_max"]) }),
        }
    }
    Ok(config)
}

/// A host name, or `*.` and the domain above it.
fn host_pattern(pattern: &str) -> Result<String, String> {
    let name = pattern.strip_prefix("*.").unwrap_or(pattern);
    match crewtap_core::wire::tls::host_name(name.as_bytes()) {
        Some(_) => Ok(pattern.to_ascii_lowercase()),
        None => Err(format!("\"{pattern}\" is neither a host name nor `*.` and the domain above it")),
    }
}

fn unknown(key: &str) -> String {
    if LATER_KEYS.contains(&key) {
        return format!("`{key}` is not built yet in crewtap {}: remove it", env!("CARGO_PKG_VERSION"));
    }
    keys::unknown(key, KEYS.iter().chain(&LATER_KEYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Config::parse(text, Path::new("/etc/crewtap/crewtap.toml")).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_says_the_defaults_and_every_key() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crewtap.toml"));
        let sample = Config::load(Some(path), None).unwrap();
        assert_eq!(Config { file: None, ..sample }, Config::default());
        let text = std::fs::read_to_string(path).unwrap();
        for key in KEYS {
            // What has no default stands there as a comment.
            let says = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} = "))
                    || line == format!("[{key}]")
                    || line.starts_with(&format!("[{key}."))
            };
            assert!(text.lines().any(says), "{key}");
        }
    }

    #[test]
    fn the_sample_of_the_catalog_has_every_key_and_the_samples_agree() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/targets.toml"));
        let installed = Config { targets: Some(path.to_path_buf()), ..Config::default() };
        assert_eq!(installed.catalog().unwrap(), Catalog::default(), "an example is in force");
        let dir = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let example =
            |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
        let path = dir.path().join("targets.toml");
        std::fs::write(&path, text.lines().map(example).collect::<Vec<_>>().join("\n")).unwrap();
        let catalog = Config { targets: Some(path.clone()), ..Config::default() }.catalog().unwrap();
        let names: Vec<&str> = catalog.entries().iter().map(|entry| entry.name.as_str()).collect();
        let wanted =
            ["orders-db", "reports-db", "billing-db", "openai", "tickets", "maps", "search", "build-host", "lab"];
        assert_eq!(names, wanted);
        let (build, lab) = (&catalog.entries()[7], &catalog.entries()[8]);
        assert!(build.ssh.pins.len() == 1 && build.credential.as_ref().unwrap().key.is_some());
        assert!(lab.ssh.trust_on_first_use && lab.credential.as_ref().unwrap().secret.is_some());
        let orders = &catalog.entries()[0];
        assert_eq!(orders.credential.as_ref().unwrap().user, "crew_ro");
        assert_eq!(orders.tls.ca.as_deref(), Some(path.with_file_name("pg-ca.pem").as_path()));
        assert_eq!((orders.ports.as_slice(), orders.database.as_deref()), ([5432, 6432].as_slice(), Some("orders")));
        assert_eq!(catalog.entries()[2].tls.pins.len(), 1);
        assert!(catalog.entries()[2].tls.client.is_some());
        let injections = catalog.entries().iter().flat_map(|entry| &entry.injections);
        let injections: Vec<String> = injections.map(|one| format!("{} {}", one.form, one.secret)).collect();
        let wanted = [
            "header authorization (bearer) systemd:openai",
            "crew (basic) cmd:/usr/bin/pass",
            "header x-tenant-key env:CREWTAP_TENANT",
            "query api_key vault:https://vault.internal:8200/v1/secret/data/crew/maps#key",
            "placeholder crewtap file:/etc/crewtap/secrets/search",
        ];
        assert_eq!(injections, wanted);
        assert_eq!(catalog.variables().collect::<Vec<_>>(), ["CREWTAP_REPORTS_PASSWORD", "CREWTAP_TENANT"]);
    }

    #[test]
    fn faults_of_the_catalog_name_its_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        std::fs::write(&file, "[target.a]\nmacth = {}\n").unwrap();
        let config = Config { targets: Some(file.clone()), ..Config::default() };
        let said = config.catalog().unwrap_err().to_string();
        assert_eq!(said, format!("{}:2: unknown key `macth`: did you mean `match`?", file.display()));
        assert_eq!(Config::default().catalog().unwrap(), Catalog::default());
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config =
            Config::parse("data_dir = 'store'\nmode = 'enforce'\ndurability = 'disk'", Path::new("/a/b/c.toml"));
        let config = config.unwrap();
        assert_eq!(config.data_dir, Path::new("/a/b/store"));
        assert_eq!((config.mode, config.durability), (Mode::Enforce, Durability::Disk));
    }

    #[test]
    fn with_policies_nothing_passes_that_none_permits_unless_the_file_says_otherwise() {
        let parse = |text: &str| Config::parse(text, Path::new("/a/c.toml")).unwrap();
        let named = parse("policy = 'rules'");
        assert_eq!((named.mode, named.policy.as_deref()), (Mode::Enforce, Some(Path::new("/a/rules"))));
        assert_eq!(parse("policy = 'rules'\nmode = 'shadow'").mode, Mode::Shadow);
        assert_eq!(parse("mode = 'record'\npolicy = 'rules'").mode, Mode::Record);
        assert_eq!(parse("timezone = 'UTC'").mode, Mode::Record);
        assert!(fault("timezone = 'Europe/Atlantis'").contains("has no \"Europe/Atlantis\""));
    }

    #[test]
    fn faults_name_the_line_and_what_to_do() {
        let unknown = fault("# a comment\nmode = \"record\"\ndurabilty = \"disk\"\n");
        assert_eq!(unknown, "/etc/crewtap/crewtap.toml:3: unknown key `durabilty`: did you mean `durability`?");
        assert!(fault("[retention]\ndays = 3").contains(":1: `retention` is not built yet"));
        assert!(fault("\nmode = 'recrod'").contains(":2: `mode` cannot be \"recrod\": it is one of \"record\", "));
        assert!(fault("\n\nmode = 3").contains(":3: `mode` must be a text in quotes, not of type integer"));
        assert!(fault("mode = 'record'\nmode =").contains(":2: "));
        assert!(
            fault("tls_pass = ['a.example', '*.b c']").contains(":1: `tls_pass`: \"*.b c\" is neither a host name")
        );
        assert!(fault("tls_pass = 'a.example'").contains(":1: `tls_pass` must be a list of texts"));
    }

    #[test]
    fn no_file_means_all_defaults_but_a_named_one_must_exist() {
        assert!(matches!(Config::load(Some(Path::new("/nonexistent/x.toml")), None), Err(ConfigError::Read { .. })));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "data_dir = 'there'").unwrap();
        let config = Config::load(Some(&file), Some(Path::new("/here"))).unwrap();
        assert_eq!(config.data_dir, Path::new("/here"));
    }
}
