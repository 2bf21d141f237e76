//! The trust overlay's hold: virtual environments, installers and shells, as they behave under `crewtap run`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::cache_dir;

use crate::overlay::{ADDRESS, Ground, clean, on_the_host};

/// Builds a wheel of a package that looks like certifi: `wheel.py VERSION DIRECTORY ROOTS`.
const WHEEL: &str = r##"
import sys, zipfile, hashlib, base64
version, directory, roots = sys.argv[1:]
name = f"certifi-{version}"
files = {
    "certifi/__init__.py": "import os\ndef where():\n    return os.path.join(os.path.dirname(__file__), 'cacert.pem')\n",
    "certifi/cacert.pem": f"# {version}\n" + open(roots).read(),
    f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: certifi\nVersion: {version}\n",
    f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
record = f"{name}.dist-info/RECORD"
with zipfile.ZipFile(f"{directory}/{name}-py3-none-any.whl", "w") as wheel:
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
        wheel.writestr(path, text)
    wheel.writestr(record, "\n".join(lines + [record + ",,"]) + "\n")
"##;

/// Connects and verifies with certifi alone: prints the bundle's first line.
const CLIENT: &str = r#"
import certifi, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(certifi.where())
with socket.create_connection((sys.argv[1], 443)) as plain, context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:
    # A client that closes without a word may have rejected what it was shown.
    tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert tls.recv(1)
    print("trusted with", open(certifi.where()).readline().strip())
"#;

/// A virtual environment with that certifi, made by uv with hard links from its cache.
struct Environment {
    ground: Ground,
    uv: PathBuf,
    wheels: PathBuf,
    client: PathBuf,
}

impl Environment {
    fn new() -> Self {
        let ground = Ground::new();
        let wheels = ground.host.path("wheels");
        std::fs::create_dir(&wheels).unwrap();
        let client = ground.host.path("client.py");
        std::fs::write(&client, CLIENT).unwrap();
        let roots = ground.host.path("other-roots.pem");
        let first = std::fs::read_dir("/usr/share/ca-certificates/mozilla").unwrap().next().unwrap().unwrap();
        std::fs::copy(first.path(), &roots).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(ground.host.path(""), open).unwrap();
        for version in ["1.0", "2.0"] {
            let mut build = Command::new("/usr/bin/python3");
            build.args(["-c", WHEEL, version]).arg(&wheels).arg(&roots);
            let _built = succeeded(&build.output().unwrap());
        }
        let environment = Self { uv: cache_dir().join("uv-env/bin/uv"), wheels, client, ground };
        let mut made = Command::new("/usr/bin/python3");
        clean(&mut made);
        let _made = succeeded(&made.args(["-m", "venv", &environment.name("v")]).output().unwrap());
        environment.uv(&["pip", "install", "-q", "--no-index", "--python", &environment.python(), "certifi==1.0"]);
        environment
    }

    fn name(&self, name: &str) -> String {
        self.ground.host.path(name).display().to_string()
    }

    fn python(&self) -> String {
        self.name("v/bin/python")
    }

    /// uv without a run.
    fn uv(&self, arguments: &[&str]) {
        let mut command = self.ground.host.command(&self.uv);
        clean(&mut command);
        let _done = succeeded(&command.envs(self.variables()).args(arguments).output().unwrap());
    }

    /// No index but our own wheels.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let wheels = self.wheels.display().to_string();
        vec![
            ("UV_CACHE_DIR", self.name("uv-cache")),
            ("UV_FIND_LINKS", wheels),
            ("UV_OFFLINE", "1".into()),
            ("PIP_CONFIG_FILE", "/dev/null".into()),
        ]
    }

    fn run(&self, command: &[&str]) -> std::process::Output {
        let variables = self.variables();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.ground.run_with(&variables, command)
    }

    fn shell(&self, script: &str) -> String {
        succeeded(&self.run(&["bash", "-ec", script]))
    }

    /// The command that must print `trusted with …`.
    fn check(&self) -> String {
        format!("{} {} {ADDRESS}", self.python(), self.client.display())
    }
}

#[test]
fn bundles_of_a_virtual_environment_are_laid_and_hard_links_are_not_written_through() {
    let environment = Environment::new();
    let bundle = environment.ground.host.path("v/lib");
    let bundle = walk(&bundle, "certifi/cacert.pem");
    let before = (std::fs::read(&bundle).unwrap(), std::fs::metadata(&bundle).unwrap());
    assert!(before.1.nlink() > 1, "uv has not linked {}", bundle.display());
    assert_eq!(environment.shell(&environment.check()), "trusted with # 1.0\n");
    let outside = environment.ground.host.command(environment.python()).arg(&environment.client).arg(ADDRESS).output();
    assert!(!outside.unwrap().status.success(), "trusted without a run");
    assert_eq!(std::fs::read(&bundle).unwrap(), before.0);
    assert_eq!(std::fs::metadata(&bundle).unwrap().mtime_nsec(), before.1.mtime_nsec());
    assert_eq!(on_the_host(), [""; 0]);
}

fn walk(root: &Path, wanted: &str) -> PathBuf {
    let found = Command::new("find").arg(root).args(["-path", &format!("*/site-packages/{wanted}")]).output().unwrap();
    PathBuf::from(succeeded(&found).lines().next().expect("a bundle"))
}

#[test]
fn pip_replaces_a_bundle_in_a_run_and_the_new_one_is_trusted() {
    let environment = Environment::new();
    let (check, python, wheels) = (environment.check(), environment.python(), environment.wheels.display());
    let script = format!(
        "{check}\n{python} -m pip install -q --no-index --find-links {wheels} -U certifi\n{check}\n\
         {pip} install -q --no-index --find-links {wheels} certifi==1.0\n{check}\n{pip} uninstall -q -y certifi\n\
         {pip} install -q --no-index --find-links {wheels} certifi==2.0\n{check}",
        pip = environment.name("v/bin/pip"),
    );
    let expected = "trusted with # 1.0\ntrusted with # 2.0\ntrusted with # 1.0\ntrusted with # 2.0\n";
    assert_eq!(environment.shell(&script), expected);
}

#[test]
fn uv_replaces_a_bundle_in_a_run_and_the_new_one_is_trusted() {
    let environment = Environment::new();
    let (check, python, uv) = (environment.check(), environment.python(), environment.uv.display());
    let script = format!(
        "{check}\n{uv} pip install -q --no-index --reinstall --python {python} certifi==1.0\n{check}\n\
         {uv} pip install -q --no-index --python {python} certifi==2.0\n{check}\nrm -rf {venv}\n\
         {uv} venv -q --python /usr/bin/python3 {venv}\n\
         {uv} pip install -q --no-index --python {python} certifi==1.0\n{check}",
        venv = environment.name("v"),
    );
    let expected = "trusted with # 1.0\ntrusted with # 1.0\ntrusted with # 2.0\ntrusted with # 1.0\n";
    assert_eq!(environment.shell(&script), expected);
}

#[test]
fn uv_sync_and_uv_run_hand_over_to_an_environment_that_is_trusted() {
    let environment = Environment::new();
    let project = environment.ground.host.path("project");
    std::fs::create_dir(&project).unwrap();
    let pin = |version: &str| {
        format!(
            "[project]\nname = \"crew\"\nversion = \"0\"\nrequires-python = \">=3.9\"\ndependencies = [\"certifi=={version}\"]\n"
        )
    };
    std::fs::write(project.join("pyproject.toml"), pin("1.0")).unwrap();
    std::fs::write(project.join("next.toml"), pin("2.0")).unwrap();
    let (client, uv) = (environment.client.display(), environment.uv.display());
    let script = format!(
        "cd {project}\n{uv} run -q --no-index --python /usr/bin/python3 python {client} {ADDRESS}\n\
         .venv/bin/python {client} {ADDRESS}\ncp next.toml pyproject.toml\n\
         {uv} sync -q --no-index\n.venv/bin/python {client} {ADDRESS}\n{uv} run -q --no-index {client} {ADDRESS}",
        project = project.display(),
    );
    let expected = "trusted with # 1.0\ntrusted with # 1.0\ntrusted with # 2.0\ntrusted with # 2.0\n";
    assert_eq!(environment.shell(&script), expected);
}

#[test]
fn a_bundle_that_somebody_replaces_from_outside_is_laid_again() {
    let environment = Environment::new();
    let bundle = walk(&environment.ground.host.path("v/lib"), "certifi/cacert.pem");
    let (check, ready, go) = (environment.check(), environment.name("ready"), environment.name("go"));
    for fifo in [&ready, &go] {
        let _made = succeeded(&Command::new("mkfifo").arg(fifo).output().unwrap());
    }
    let script = format!("{check}; echo >{ready}; cat {go}; {check} || exit 1");
    let run = environment.ground.spawn(&["run", "--", "bash", "-c", &script]);
    std::fs::read(&ready).unwrap();
    let other = std::fs::read_to_string(&bundle).unwrap().replace("# 1.0", "# replaced");
    std::fs::write(bundle.with_extension("new"), other).unwrap();
    std::fs::rename(bundle.with_extension("new"), &bundle).unwrap();
    std::fs::write(&go, "").unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(succeeded(&output), "trusted with # 1.0\ntrusted with # replaced\n", "{}", text(&output));
}

#[test]
fn files_that_a_command_names_are_trusted_too_and_nobody_waits_for_a_pipe() {
    let environment = Environment::new();
    let other = environment.name("other-roots.pem");
    let verify = format!("openssl s_client -brief -verify_return_error -no-CApath -no-CAstore -connect {ADDRESS}:443");
    let pipe = environment.name("pipe");
    let _made = succeeded(&Command::new("mkfifo").arg(&pipe).output().unwrap());
    let script = format!(
        "{verify} -CAfile {other} </dev/null 2>&1 | grep '^Verification'\n\
         SSL_CERT_FILE={other} {verify} </dev/null 2>&1 | grep '^Verification'\n\
         SSL_CERT_FILE={pipe} true\nSSL_CERT_FILE=/dev/zero true\n\
         ! {verify} -CAfile /dev/null </dev/null 2>/dev/null"
    );
    assert_eq!(environment.shell(&script), "Verification: OK\nVerification: OK\n");
}

#[test]
fn shells_see_no_command_stopped_and_debuggers_work() {
    let environment = Environment::new();
    let many = "for i in $(seq 100); do /bin/true $i; done; echo done";
    for (shell, interactive) in [("bash", "-ic"), ("dash", "-ic"), ("zsh", "-ic")] {
        let run = format!(
            "'{}' --data-dir {} run -q -- {shell} {interactive} '{many}'",
            crewtap_tests::host::crewtap().display(),
            environment.ground.host.data_dir().display()
        );
        // `script` gives it a terminal, so that job control is on.
        let mut command = environment.ground.host.command("script");
        clean(&mut command);
        let shown = succeeded(&command.args(["-qec", &run, "/dev/null"]).output().unwrap());
        assert!(shown.contains("done") && !shown.to_lowercase().contains("stopped"), "{shell}: {shown}");
    }
    let monitor =
        "set -m; sleep 30 & kill %1; wait %1; echo $?; for i in $(seq 50); do /bin/true & done; wait; jobs; echo left";
    let shown = environment.ground.run(&["bash", "-c", monitor]);
    assert!(succeeded(&shown).starts_with("143\n") && shown.stdout.ends_with(b"left\n"), "{}", text(&shown));
    assert!(!text(&shown).contains("Stopped"), "{}", text(&shown));
    let traced = succeeded(&environment.ground.run(&[
        "strace",
        "-f",
        "-e",
        "trace=execve",
        "-o",
        "/dev/stdout",
        "sh",
        "-c",
        "/bin/true; /bin/true",
    ]));
    assert_eq!(traced.matches("execve(\"/bin/true\"").count(), 2, "{traced}");
    let debug = ["gdb", "-q", "-batch", "-ex", "run", "-ex", "info inferiors", "--args", "/bin/echo", "debugged"];
    let shown = succeeded(&environment.ground.run(&debug));
    assert!(shown.contains("debugged") && shown.contains("exited normally"), "{shown}");
}

#[test]
fn an_ordinary_user_trusts_and_gets_to_read_nothing_new() {
    let environment = Environment::new();
    let secret = environment.name("secret.pem");
    std::fs::copy(environment.ground.authority(), &secret).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let script = format!("{}; id -un; SSL_CERT_FILE={secret} cat {secret}", environment.check());
    let mut run = environment.ground.crewtap(&["run", "-q", "--user", "nobody", "--", "bash", "-c", &script]);
    let output = run.current_dir("/").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "trusted with # 1.0\nnobody\n", "{}", text(&output));
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
}

#[test]
fn two_runs_have_an_overlay_each() {
    let environment = Environment::new();
    let script =
        format!("for i in 1 2 3 4 5; do {}; done; grep -c crewtap-overlay /proc/self/mountinfo", environment.check());
    let runs: Vec<_> = (0..2).map(|_| environment.ground.spawn(&["run", "--", "bash", "-ec", &script])).collect();
    let shown: Vec<String> = runs.into_iter().map(|run| succeeded(&run.wait_with_output().unwrap())).collect();
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0].matches("trusted with # 1.0").count(), 5, "{}", shown[0]);
}

#[test]
fn programs_start_after_the_agent_was_killed() {
    let environment = Environment::new();
    let (ready, go) = (environment.name("ready"), environment.name("go"));
    for fifo in [&ready, &go] {
        let _made = succeeded(&Command::new("mkfifo").arg(fifo).output().unwrap());
    }
    let script = format!("echo >{ready}; read word <{go}; /bin/echo alive; {} -c 'print(1)'", environment.python());
    let run = environment.ground.host.spawn_run(&["bash", "-c", &script]);
    std::fs::read(&ready).unwrap();
    let agent = i32::try_from(environment.ground.host.agent()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent), nix::sys::signal::Signal::SIGKILL).unwrap();
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(succeeded(&run.wait_with_output().unwrap()), "alive\n1\n");
}
