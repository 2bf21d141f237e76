//! `cargo xtask install`: crewtap on this machine, and off it again. Never overwrites a configuration file, never removes
//! evidence, and starts nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::unistd::Group;

use crate::shell::{clone_root, find, is_root, loudly, quietly};

/// Where policies are that are not in force: who wants one copies it.
const POLICY_SAMPLES: &str = "policy-samples";

/// The group whose members may read evidence.
const GROUP: &str = "crewtap";

/// What the user may choose.
#[derive(Args)]
pub struct Options {
    /// Take off what was installed; evidence and changed configuration stay
    #[arg(long)]
    uninstall: bool,
    /// Where programs, completions and the systemd unit go
    #[arg(long, default_value = "/usr/local", value_name = "DIR")]
    prefix: PathBuf,
    /// Install below DIR, as for a package: no group is made
    #[arg(long, value_name = "DIR")]
    destdir: Option<PathBuf>,
    /// A crewtap that is built already
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Where each thing goes.
struct Layout {
    staged: bool,
    program: PathBuf,
    unit: PathBuf,
    settings: PathBuf,
    evidence: PathBuf,
    completions: [(&'static str, PathBuf); 3],
    manual: PathBuf,
}

/// Installs or uninstalls.
///
/// # Errors
/// When the build fails, a file cannot be written, or the agent is still running at `--uninstall`.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.prefix.is_absolute(), "--prefix must be an absolute path");
    let program = match (&options.program, options.uninstall) {
        (Some(program), _) => program.clone(),
        (None, true) => PathBuf::new(),
        (None, false) => build()?,
    };
    if !is_root() && options.destdir.is_none() {
        return through_sudo(options, &program);
    }
    let layout = Layout::new(options);
    if options.uninstall { layout.uninstall() } else { layout.install(options, &program) }
}

fn build() -> Result<PathBuf> {
    loudly(Command::new("cargo").args(["build", "--release", "-p", "crewtap"]).current_dir(clone_root()))?;
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).context("this program is in no target directory")?;
    Ok(target.join("release/crewtap"))
}

fn through_sudo(options: &Options, program: &Path) -> Result<()> {
    let mut command = Command::new("sudo");
    command.arg(std::env::current_exe()?).arg("install").arg("--prefix").arg(&options.prefix);
    if options.uninstall {
        command.arg("--uninstall");
    } else {
        command.arg("--program").arg(program);
    }
    loudly(&mut command)
}

impl Layout {
    fn new(options: &Options) -> Self {
        let below = |path: &Path| match &options.destdir {
            Some(destdir) => destdir.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        };
        let prefix = |path: &str| below(&options.prefix.join(path));
        Self {
            staged: options.destdir.is_some(),
            program: prefix("bin/crewtap"),
            unit: prefix("lib/systemd/system/crewtap.service"),
            settings: below(Path::new("/etc/crewtap")),
            evidence: below(Path::new("/var/lib/crewtap")),
            completions: [
                ("bash", prefix("share/bash-completion/completions/crewtap")),
                ("zsh", prefix("share/zsh/site-functions/_crewtap")),
                ("fish", prefix("share/fish/vendor_completions.d/crewtap.fish")),
            ],
            manual: prefix("share/man/man1"),
        }
    }

    fn install(&self, options: &Options, program: &Path) -> Result<()> {
        place(&fs::read(program).with_context(|| format!("cannot read {}", program.display()))?, &self.program, 0o755)?;
        let group = if self.staged { None } else { Some(group()?) };
        make_directory(&self.settings, 0o755, None)?;
        for (name, sample) in samples()? {
            let file = self.settings.join(name);
            if let Some(directory) = file.parent() {
                make_directory(directory, 0o755, None)?;
            }
            if file.exists() {
                println!("kept      {}", file.display());
            } else {
                place(&sample, &file, 0o644)?;
            }
        }
        make_directory(&self.evidence, 0o750, group)?;
        let prefix = options.prefix.to_string_lossy();
        let unit = fs::read_to_string(clone_root().join("config/crewtap.service"))?.replace("@PREFIX@", &prefix);
        place(unit.as_bytes(), &self.unit, 0o644)?;
        for (shell, file) in &self.completions {
            match Command::new(&self.program).args(["completions", shell]).output() {
                Ok(output) if output.status.success() => place(&output.stdout, file, 0o644)?,
                _ => println!("skipped   {} (this crewtap prints no completions)", file.display()),
            }
        }
        if quietly(Command::new(&self.program).args(["man", "--dir"]).arg(&self.manual)).is_ok() {
            println!("installed {}/crewtap*.1", self.manual.display());
        }
        self.reload_units()?;
        println!("\nTry it:            sudo crewtap run -- COMMAND");
        println!("Read as yourself:  sudo usermod -aG {GROUP} $USER, and log in again");
        Ok(())
    }

    fn uninstall(&self) -> Result<()> {
        let active = quietly(Command::new("systemctl").args(["is-active", "crewtap.service"])).is_ok();
        let runs = !self.staged && active;
        ensure!(!runs, "the agent is running: systemctl disable --now crewtap.service, then run this again");
        let completions = self.completions.iter().map(|(_, file)| file);
        for file in [&self.program, &self.unit].into_iter().chain(completions) {
            remove(file)?;
        }
        for page in fs::read_dir(&self.manual).into_iter().flatten().filter_map(Result::ok) {
            let name = page.file_name().to_string_lossy().into_owned();
            if name == "crewtap.1" || name.starts_with("crewtap-") {
                remove(&page.path())?;
            }
        }
        for (name, sample) in samples()? {
            let file = self.settings.join(name);
            if fs::read(&file).is_ok_and(|found| found == sample) {
                remove(&file)?;
            }
        }
        for directory in [&self.settings.join(POLICY_SAMPLES), &self.settings, &self.evidence] {
            // Only an empty directory goes; what somebody wrote or recorded stays.
            if directory.exists() && fs::remove_dir(directory).is_err() {
                println!("kept      {} (it is not empty)", directory.display());
            }
        }
        if self.staged {
            return Ok(());
        }
        if self.evidence.exists() {
            println!("kept      group {GROUP}, which may read the evidence");
        } else if Group::from_name(GROUP)?.is_some() {
            quietly(Command::new("groupdel").arg(GROUP))?;
            println!("removed   group {GROUP}");
        }
        self.reload_units()
    }

    fn reload_units(&self) -> Result<()> {
        // A machine that was not booted with systemd has nothing to reload.
        if self.staged || !Path::new("/run/systemd/system").is_dir() || find("systemctl").is_none() {
            return Ok(());
        }
        quietly(Command::new("systemctl").arg("daemon-reload")).map(drop)
    }
}

/// The commented samples, by the name of the file that they become.
fn samples() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let config = clone_root().join("config");
    let mut found = Vec::new();
    for (directory, kind, becomes) in
        [(config.clone(), "toml", Path::new("")), (config.join("policy"), "cedar", Path::new(POLICY_SAMPLES))]
    {
        let entries = fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("the clone has no {}", directory.display()))? {
            let path = entry?.path();
            if let (Some(name), Some(true)) = (path.file_name(), path.extension().map(|extension| extension == kind)) {
                found.push((becomes.join(name), fs::read(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The group's number; made first where there is none.
fn group() -> Result<u32> {
    if Group::from_name(GROUP)?.is_none() {
        quietly(Command::new("groupadd").args(["--system", GROUP]))?;
        println!("made      group {GROUP}");
    }
    let found = Group::from_name(GROUP)?.context("the group crewtap was made, but is not there")?;
    Ok(found.gid.as_raw())
}

fn make_directory(path: &Path, mode: u32, group: Option<u32>) -> Result<()> {
    if !path.exists() {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        println!("made      {}", path.display());
    }
    if let Some(group) = group {
        chown(path, Some(0), Some(group)).with_context(|| format!("cannot give {} to its group", path.display()))?;
    }
    Ok(())
}

/// Writes a file beside its place and moves it there, so that a program that runs is not in the way.
fn place(content: &[u8], file: &Path, mode: u32) -> Result<()> {
    let directory = file.parent().context("a file needs a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let fresh = directory.join(format!(".{name}.new"));
    fs::write(&fresh, content).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(&fresh, file).with_context(|| format!("cannot write {}", file.display()))?;
    println!("installed {}", file.display());
    Ok(())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Ok(()) => println!("removed   {}", file.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot remove {}", file.display())),
    }
    Ok(())
}
