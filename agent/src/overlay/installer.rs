//! Commands that replace bundles: renaming or removing a file over which something is mounted fails with EBUSY, so what
//! is laid in their way is lifted while they work.
//!
//! Only judges command lines. Knows each installer's verbs and where it will write.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::execution::Execution;

/// Directories above the working directory in which a project's environment is looked for.
const PARENTS_MAX: usize = 32;

/// Words of a command line that are looked at.
const WORDS_MAX: usize = 512;

/// Verbs of uv, and of those that are made like it, that change an environment.
const UV_VERBS: [&[u8]; 7] = [b"sync", b"add", b"remove", b"run", b"pip", b"venv", b"tool"];

/// Verbs of everybody else.
const VERBS: [&[u8]; 11] = [
    b"install",
    b"uninstall",
    b"sync",
    b"add",
    b"remove",
    b"update",
    b"upgrade",
    b"reinstall",
    b"create",
    b"env",
    b"lock",
];

/// Programs that work like uv: they are no part of the environment that they change.
const OTHERS: [&str; 11] =
    ["poetry", "pdm", "pipenv", "hatch", "conda", "mamba", "micromamba", "rye", "pipx", "virtualenv", "crewai"];

/// Programs that take away or replace what their words name.
const REPLACERS: [&str; 6] = ["rm", "mv", "cp", "rsync", "install", "ln"];

/// Options whose value is a place to install into.
const PLACE_OPTIONS: [&[u8]; 9] =
    [b"--python", b"-p", b"--prefix", b"--target", b"-t", b"--project", b"--directory", b"--root", b"--path"];

/// What an installer is about to change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Work {
    /// Everything that is laid below these is in its way.
    pub(super) places: Vec<PathBuf>,
    /// It is Python, works in its own environment, and needs the roots that it brings along (pip's own).
    pub(super) keeps_own_roots: bool,
    /// It hands over to a program of the environment, which needs what was lifted.
    pub(super) hands_over: bool,
}

/// Judges a command. `environment` is the prefix of the interpreter that will run it, where it is Python.
pub(super) fn work(execution: &Execution, environment: Option<&Path>) -> Option<Work> {
    let program = execution.name.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let words: Vec<&[u8]> = execution.words.iter().skip(1).take(WORDS_MAX).map(Vec::as_slice).collect();
    if REPLACERS.contains(&program) {
        let named = words.iter().filter(|word| !word.starts_with(b"-"));
        return Some(Work { places: named.map(|word| execution.path(word)).collect(), ..Work::default() });
    }
    if program == "uv" {
        return of_uv(execution, &words);
    }
    if is_pip(program) {
        return of_pip(execution, environment, &words);
    }
    // `pip` of an environment is a script: its words begin with the script's name, as the kernel passes them.
    match module(&words) {
        Some((module, rest)) if is_pip(module) => of_pip(execution, environment, rest),
        Some(("uv", rest)) => of_uv(execution, rest),
        Some(("venv" | "virtualenv", rest)) => Some(Work { places: named_places(execution, rest), ..Work::default() }),
        Some(("ensurepip", _)) => Some(Work { places: own(environment), ..Work::default() }),
        Some((module, rest)) if OTHERS.contains(&module) => of_other(execution, rest),
        _ if OTHERS.contains(&program) => of_other(execution, &words),
        _ => None,
    }
}

fn own(environment: Option<&Path>) -> Vec<PathBuf> {
    environment.map(Path::to_path_buf).into_iter().collect()
}

/// `pip`, `pip3`, `pip3.11`.
fn is_pip(name: &str) -> bool {
    name.strip_prefix("pip").is_some_and(|rest| rest.chars().all(|letter| letter.is_ascii_digit() || letter == '.'))
}

/// `python [options] -m MODULE rest`.
fn module<'a>(words: &'a [&'a [u8]]) -> Option<(&'a str, &'a [&'a [u8]])> {
    let at = words.iter().position(|word| *word == b"-m" || !word.starts_with(b"-"))?;
    let (option, rest) = words.get(at..)?.split_first()?;
    if *option != b"-m" {
        return None;
    }
    let (name, rest) = rest.split_first()?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

fn has(words: &[&[u8]], verbs: &[&[u8]]) -> bool {
    words.iter().any(|word| verbs.contains(word))
}

fn of_pip(execution: &Execution, environment: Option<&Path>, words: &[&[u8]]) -> Option<Work> {
    if !has(words, &[b"install", b"uninstall"]) {
        return None;
    }
    // With itself it replaces the roots that it brings along.
    let itself = |word: &&[u8]| {
        word.strip_prefix(b"pip").is_some_and(|rest| rest.first().is_none_or(|next| b"=<>~![".contains(next)))
    };
    let mut places = own(environment);
    places.extend(option_places(execution, words));
    Some(Work { places, keeps_own_roots: !words.iter().any(itself), hands_over: false })
}

fn of_uv(execution: &Execution, words: &[&[u8]]) -> Option<Work> {
    let verb = words.iter().find(|word| UV_VERBS.contains(word))?;
    let stays =
        words.contains(&&b"--no-sync"[..]) || execution.variable("UV_NO_SYNC").is_some_and(|value| value != b"0");
    let pip_reads = *verb == b"pip" && !has(words, &[b"install", b"uninstall", b"sync"]);
    if pip_reads || *verb == b"run" && stays {
        return None;
    }
    let mut places = named_places(execution, words);
    if *verb == b"tool" {
        places = home(execution).map(|home| home.join(".local/share/uv/tools")).into_iter().collect();
    }
    if has(words, &[b"--system", b"--break-system-packages"]) {
        places.extend(["/usr", "/usr/local"].map(PathBuf::from));
    }
    Some(Work { places, keeps_own_roots: false, hands_over: *verb == b"run" })
}

fn of_other(execution: &Execution, words: &[&[u8]]) -> Option<Work> {
    if !has(words, &VERBS) {
        return None;
    }
    let mut places = named_places(execution, words);
    let kept = [".cache/pypoetry/virtualenvs", ".local/share/virtualenvs", ".local/share/pipx", ".local/pipx"];
    places.extend(home(execution).into_iter().flat_map(|home| kept.map(|directory| home.join(directory))));
    Some(Work { places, ..Work::default() })
}

fn home(execution: &Execution) -> Option<PathBuf> {
    execution.variable("HOME").filter(|home| !home.is_empty()).map(|home| execution.path(home))
}

/// Environments that a command line, its variables and its working directory point to.
fn named_places(execution: &Execution, words: &[&[u8]]) -> Vec<PathBuf> {
    let mut places = option_places(execution, words);
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"] {
        places.extend(execution.variable(name).filter(|value| !value.is_empty()).map(|value| execution.path(value)));
    }
    places.extend(execution.directory.ancestors().take(PARENTS_MAX).map(|directory| directory.join(".venv")));
    // `uv venv NAME`, `conda env remove -p`: a path among the words.
    let paths = words.iter().filter(|word| !word.starts_with(b"-") && !UV_VERBS.contains(word));
    places.extend(paths.map(|word| execution.path(word)));
    places
}

fn option_places(execution: &Execution, words: &[&[u8]]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let value = PLACE_OPTIONS.iter().find_map(|option| {
            let rest = word.strip_prefix(*option)?;
            if rest.is_empty() { words.get(at + 1).copied() } else { rest.strip_prefix(b"=") }
        });
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let path = execution.path(value);
        // An interpreter stands for its environment, a project for the one inside.
        if path.parent().is_some_and(|directory| directory.file_name() == Some(OsStr::from_bytes(b"bin"))) {
            places.extend(path.parent().and_then(Path::parent).map(Path::to_path_buf));
        }
        places.push(path);
    }
    places
}

/// Whether an interpreter was started by uv only to be asked what it is: nothing is to be laid for it.
pub(super) fn is_probe(execution: &Execution) -> bool {
    let asks = |word: &Vec<u8>| {
        let mark = b"get_interpreter_info";
        word.windows(mark.len()).any(|window| window == mark)
    };
    let flags = execution.words.iter().skip(1).take_while(|word| word.starts_with(b"-"));
    flags.into_iter().any(|word| word == b"-I") || execution.words.iter().any(asks)
}

/// Whether an environment lives only as long as a build: it is removed with everything in it.
pub(super) fn is_of_a_build(prefix: &Path) -> bool {
    let parts = prefix.components().map(|part| part.as_os_str().as_bytes());
    parts.into_iter().any(|part| part == b"builds-v0" || part.starts_with(b"pip-build-env-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(name: &str, words: &[&str], environment: &[&str]) -> Execution {
        let bytes = |list: &[&str]| list.iter().map(|word| word.as_bytes().to_vec()).collect();
        let (words, environment) = (bytes(words), bytes(environment));
        Execution { name: name.into(), directory: "/srv/sub".into(), words, environment }
    }

    fn places(name: &str, words: &[&str], environment: &[&str], own: Option<&str>) -> Option<Vec<PathBuf>> {
        work(&execution(name, words, environment), own.map(Path::new)).map(|work| work.places)
    }

    fn lifts(name: &str, words: &[&str], environment: &[&str], place: &str) -> bool {
        let places = places(name, words, environment, Some("/v"));
        places.is_some_and(|places| places.iter().any(|above| Path::new(place).starts_with(above)))
    }

    #[test]
    fn pip_lifts_its_own_environment_but_for_the_roots_that_it_needs() {
        let pip = |words: &[&str]| work(&execution("/v/bin/pip", words, &[]), Some(Path::new("/v")));
        let own = Work { places: vec!["/v".into()], keeps_own_roots: true, hands_over: false };
        assert_eq!(pip(&["pip", "install", "-U", "certifi"]), Some(own.clone()));
        assert_eq!(pip(&["pip", "list"]), None);
        assert!(!pip(&["pip", "install", "pip==24.2"]).unwrap().keeps_own_roots);
        let module = execution("/v/bin/python", &["python", "-I", "-m", "pip", "install", "certifi"], &[]);
        assert_eq!(work(&module, Some(Path::new("/v"))), Some(own));
        assert!(is_pip("pip3.11") && !is_pip("pipenv"));
        assert_eq!(places("/v/bin/python", &["python", "x.py", "-m", "pip", "install"], &[], Some("/v")), None);
    }

    #[test]
    fn uv_lifts_the_environments_that_it_may_mean() {
        let sync = |place| lifts("/bin/uv", &["uv", "sync"], &["VIRTUAL_ENV=/other"], place);
        assert!(sync("/srv/.venv/lib/x") && sync("/srv/sub/.venv/x") && sync("/other/x") && !sync("/else/.venv/x"));
        let install = ["uv", "pip", "install", "--reinstall", "certifi", "--python", "/p/bin/python"];
        assert!(lifts("/bin/uv", &install, &[], "/p/lib/x"));
        assert_eq!(places("/bin/uv", &["uv", "pip", "list"], &[], None), None);
        assert_eq!(places("/bin/uv", &["uv", "run", "x"], &["UV_NO_SYNC=1"], None), None);
        assert_eq!(places("/bin/uvx", &["uvx", "server"], &[], None), None);
        assert!(work(&execution("/bin/uv", &["uv", "run", "run_crew"], &[]), None).unwrap().hands_over);
    }

    #[test]
    fn whoever_removes_a_tree_finds_nothing_mounted_in_it() {
        assert!(lifts("/bin/rm", &["rm", "-rf", "../.venv"], &[], "/srv/.venv/lib/x"));
        assert!(!lifts("/bin/rm", &["rm", "-rf", "x"], &[], "/srv/.venv/lib/x"));
        assert!(lifts("/bin/python3", &["python3", "-m", "venv", "--clear", "/n"], &[], "/n/lib/x"));
        assert_eq!(places("/bin/ls", &["ls"], &[], None), None);
    }

    #[test]
    fn questions_of_uv_are_told_from_programs() {
        let probe = ["python", "-I", "-B", "-c", "from python.get_interpreter_info import main"];
        assert!(is_probe(&execution("/v/bin/python", &probe, &[])));
        assert!(!is_probe(&execution("/v/bin/python", &["python", "-c", "import crew"], &[])));
        assert!(is_of_a_build(Path::new("/home/a/.cache/uv/builds-v0/.tmpX")) && !is_of_a_build(Path::new("/v")));
    }
}
