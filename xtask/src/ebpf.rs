//! `cargo xtask ebpf [--check]`: builds the kernel programs and writes the committed object, or compares with it.
//!
//! The toolchain is Debian's rustc-web (whose packages hold a core library for BPF), unpacked into a cache directory
//! without being installed, and bpf-linker by cargo install, linked with the same LLVM. Nothing else on the machine is
//! changed. A host build of crewtap needs none of it: it includes the committed object.

use anyhow::{Context, Result, bail, ensure};
use object::{
    Object, ObjectSection, ObjectSymbol,
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// The compiler packages that built the committed object. When a mirror has dropped this version, what it serves is
/// taken, and the comparison is only as strong as two compilers allow.
const PINNED_VERSION: &str = "1.96.0+dfsg1-1~deb12u2";
/// bpf-linker, from the registry of crates.
const LINKER_VERSION: &str = "0.13.0";
/// The target of the kernel programs.
const TARGET: &str = "bpfel-unknown-none";
/// The committed object and what built it.
const OBJECT: &str = "agent-ebpf/crewtap.bpf.o";
const RECORD: &str = "agent-ebpf/crewtap.bpf.txt";

/// Options of `cargo xtask ebpf`.
#[derive(clap::Args)]
pub struct Options {
    /// Compare the committed object with a rebuilt one and change nothing
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let Some(toolchain) = Toolchain::find_or_fetch()? else {
        if options.check {
            println!("ebpf: NOT CHECKED: no BPF toolchain can be had here; the committed object is used as it is");
            return Ok(());
        }
        bail!(
            "no BPF toolchain can be had here; it needs Debian's package rustc-web, and bpf-linker from the registry of crates"
        );
    };
    let built = toolchain.build(root)?;
    let record = format!("sha256 {}\n{}", hex(&built), toolchain.versions()?);
    if options.check {
        return check(root, &built, &record);
    }
    fs::write(root.join(OBJECT), &built)?;
    fs::write(root.join(RECORD), &record)?;
    print!("wrote {OBJECT} ({} bytes)\n{record}", built.len());
    Ok(())
}

fn check(root: &Path, built: &[u8], record: &str) -> Result<()> {
    let committed = fs::read(root.join(OBJECT)).with_context(|| format!("read {OBJECT}"))?;
    let recorded = fs::read_to_string(root.join(RECORD)).with_context(|| format!("read {RECORD}"))?;
    ensure!(
        recorded.lines().next() == Some(&format!("sha256 {}", hex(&committed))),
        "{OBJECT} is not the file that {RECORD} describes; run: cargo xtask ebpf"
    );
    if committed == built {
        println!("ebpf: the committed object is the rebuilt one, byte for byte");
        return Ok(());
    }
    let (committed, rebuilt) = (contents(&committed)?, contents(built)?);
    if committed == rebuilt {
        println!("ebpf: the committed object has the rebuilt one's instructions, maps, relocations and BTF");
        return Ok(());
    }
    let differing: Vec<&String> =
        committed.keys().chain(rebuilt.keys()).filter(|key| committed.get(*key) != rebuilt.get(*key)).collect();
    if recorded.lines().skip(1).eq(record.lines().skip(1)) {
        bail!("{OBJECT} differs from its source in {differing:?}; run: cargo xtask ebpf");
    }
    ensure!(
        committed.keys().eq(rebuilt.keys()),
        "{OBJECT} has other programs or maps than its source: {differing:?}; run: cargo xtask ebpf"
    );
    println!("ebpf: COMPARED IN PART: the compiler that built the committed object is not served any more.");
    println!("Programs and maps are the same by name; their instructions come from two compilers:");
    println!("committed:\n{recorded}rebuilt:\n{record}");
    Ok(())
}

/// What the kernel gets of an object: each section with its bytes and relocations, and the symbols.
fn contents(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let file = object::File::parse(bytes)?;
    let mut contents = BTreeMap::new();
    for section in file.sections() {
        let name = section.name()?.to_owned();
        if name.contains("strtab") || name.contains("symtab") {
            continue;
        }
        let mut value = section.data()?.to_vec();
        for (offset, relocation) in section.relocations() {
            let target = match relocation.target() {
                object::RelocationTarget::Symbol(index) => file.symbol_by_index(index)?.name()?.to_owned(),
                other => format!("{other:?}"),
            };
            value.extend(format!("{offset} {target} {}\n", relocation.addend()).bytes());
        }
        contents.insert(format!("section {name}"), value);
    }
    for symbol in file.symbols().filter(object::ObjectSymbol::is_global) {
        contents.insert(format!("symbol {}", symbol.name()?), symbol.size().to_le_bytes().to_vec());
    }
    Ok(contents)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    Sha256::digest(bytes).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The BPF toolchain, in a directory of its own.
struct Toolchain {
    prefix: PathBuf,
}

impl Toolchain {
    /// Finds it in the cache directory, or puts it there. None: it cannot be had.
    fn find_or_fetch() -> Result<Option<Self>> {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
        let toolchain = Self { prefix: cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("crewtap/bpf") };
        if toolchain.versions().is_ok() {
            return Ok(Some(toolchain));
        }
        let Some(packages) = packages()? else { return Ok(None) };
        // Whatever is missing (a package that a mirror has dropped, a registry): the caller says that nothing was built.
        if let Err(error) = toolchain.fetch(&packages).and_then(|()| toolchain.versions()) {
            println!("ebpf: {error:#}");
            return Ok(None);
        }
        Ok(Some(toolchain))
    }

    fn rustc(&self) -> PathBuf {
        self.prefix.join("bin/rustc-bpf")
    }

    fn linker(&self) -> PathBuf {
        self.prefix.join("bin/bpf-linker")
    }

    /// One line for each tool; an error where one does not run.
    fn versions(&self) -> Result<String> {
        let compiler = output(Command::new(self.rustc()).arg("-vV"))?;
        let of = |key: &str| {
            let line = compiler.lines().find_map(|line| line.strip_prefix(key));
            line.map(str::to_owned).with_context(|| format!("rustc says nothing about {key}"))
        };
        let linker = output(Command::new(self.linker()).arg("--version"))?;
        Ok(format!("rustc {}\nllvm {}\n{}\n", of("release: ")?, of("LLVM version: ")?, linker.trim()))
    }

    fn fetch(&self, packages: &Packages) -> Result<()> {
        println!(
            "ebpf: fetching {} and LLVM {} into {}",
            packages.names.join(" "),
            packages.llvm,
            self.prefix.display()
        );
        let downloads = self.prefix.join("debs");
        let root = self.prefix.join("root");
        fs::create_dir_all(&downloads)?;
        fs::create_dir_all(self.prefix.join("bin"))?;
        output(Command::new("apt-get").args(["-q", "download"]).args(&packages.names).current_dir(&downloads))?;
        for package in fs::read_dir(&downloads)? {
            output(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(&root))?;
        }
        fs::remove_dir_all(&downloads)?;
        for unused in ["usr/share", "usr/libexec", "usr/lib/rustlib/bpfeb-unknown-none"] {
            let _ = fs::remove_dir_all(root.join(unused));
        }
        let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH));
        self.link_llvm(&libraries, &packages.llvm)?;
        let script = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
            libraries.display(),
            root.join("usr/bin/rustc").display()
        );
        fs::write(self.rustc(), script)?;
        fs::set_permissions(self.rustc(), fs::Permissions::from_mode(0o755))?;
        println!("ebpf: building bpf-linker {LINKER_VERSION} (about a minute)");
        let feature = format!("llvm-{}", packages.llvm);
        let mut install = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        install.args(["install", "-q", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force"]);
        install.args([
            "--no-default-features",
            "--features",
            &feature,
            "--config",
            "profile.release.debug=0",
            "--root",
        ]);
        install.arg(&self.prefix).env("LLVM_PREFIX", self.prefix.join("llvm")).current_dir("/");
        output(install.env("CARGO_TARGET_DIR", self.prefix.join("target")))?;
        let _ = fs::remove_dir_all(self.prefix.join("target"));
        Ok(())
    }

    /// bpf-linker's build looks for libLLVM.so in `$LLVM_PREFIX/lib`.
    fn link_llvm(&self, libraries: &Path, major: &str) -> Result<()> {
        let directory = self.prefix.join("llvm/lib");
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(libraries)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.starts_with(&format!("libLLVM.so.{major}")) {
                for link in [name.as_str(), "libLLVM.so"] {
                    let _ = fs::remove_file(directory.join(link));
                    symlink(&path, directory.join(link))?;
                }
            }
        }
        Ok(())
    }

    /// Builds the object. Every path is remapped, so that it is the same from any clone and any `CARGO_HOME`.
    fn build(&self, root: &Path) -> Result<Vec<u8>> {
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
        let sources = cargo_home.context("neither CARGO_HOME nor HOME is set")?.join("registry/src");
        let mut flags = vec![format!("-Clinker={}", self.linker().display())];
        flags.extend(["-Cdebuginfo=2", "-Clink-arg=--btf"].map(str::to_owned));
        flags.push(format!("--remap-path-prefix={}=/crewtap", root.display()));
        // One directory for each registry address; its name is a hash of it.
        output(Command::new(cargo()).args(["fetch", "-q", "--locked"]).current_dir(root))?;
        for registry in fs::read_dir(&sources)? {
            flags.push(format!("--remap-path-prefix={}=/registry", registry?.path().display()));
        }
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("ebpf");
        let status = Command::new(cargo())
            .args(["build", "-q", "--locked", "--release", "--target", TARGET, "-p", "crewtap-ebpf"])
            .args(["--bin", "crewtap-ebpf", "--features", "bpf", "--target-dir"])
            .arg(&target)
            .current_dir(root)
            .env("RUSTC", self.rustc())
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTUP_TOOLCHAIN")
            .status()?;
        ensure!(status.success(), "the kernel programs do not compile");
        without_debug(&fs::read(target.join(TARGET).join("release/crewtap-ebpf"))?)
    }
}

/// Drops DWARF, which holds paths and is of no use to the kernel. BTF stays.
fn without_debug(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(bytes)?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug") || name.starts_with(".rel.debug");
    }
    // LLVM keeps the names of sections and symbols in one table; the writer wants two.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    builder.delete_orphans();
    builder.delete_unused_versions();
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The Debian packages to fetch.
struct Packages {
    names: Vec<String>,
    llvm: String,
}

/// Finds the pinned compiler, or else the newest one that is served. None: there is none.
fn packages() -> Result<Option<Packages>> {
    let show = |package: &str| output(Command::new("apt-cache").args(["show", package]));
    let known = if let Ok(known) = show("rustc-web") {
        known
    } else {
        let _ = output(Command::new("apt-get").args(["-q", "update"]));
        let Ok(known) = show("rustc-web") else { return Ok(None) };
        known
    };
    let mut served = known.lines().filter_map(|line| line.strip_prefix("Version: "));
    let version = if known.contains(PINNED_VERSION) { Some(PINNED_VERSION) } else { served.next() };
    let Some(version) = version else { return Ok(None) };
    // The package of the compiler's own libraries carries the release in its name: libstd-rust-web-1.96.
    let release: Vec<&str> = version.split('.').take(2).collect();
    let library = format!("libstd-rust-web-{}", release.join("."));
    let Ok(depends) = show(&library) else { return Ok(None) };
    let llvm = depends.lines().filter(|line| line.starts_with("Depends: ")).find_map(|line| {
        let rest = line.split_once("libllvm")?.1;
        Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
    });
    let llvm = llvm.with_context(|| format!("{library} depends on no libllvm"))?;
    let compiler = ["rustc-web", &library, "libstd-rust-web-dev", "libstd-rust-web-dev-bpf"];
    let mut names: Vec<String> = compiler.iter().map(|name| format!("{name}={version}")).collect();
    names.push(format!("libllvm{llvm}"));
    Ok(Some(Packages { names, llvm }))
}

/// What a tool prints; an error with its words when it fails.
fn output(command: &mut Command) -> Result<String> {
    let result = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    if !result.status.success() {
        bail!("{}: {}", command.get_program().display(), String::from_utf8_lossy(&result.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}
