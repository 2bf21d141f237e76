//! The trust overlay's base: real clients under `crewtap run` take the certificates of crewtap's authority, and nobody
//! else does.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crewtap_tests::host::{Host, succeeded, text};

/// Where the server listens, on loopback of the host's own namespace.
pub const ADDRESS: &str = "10.55.0.1";

/// A host with a TLS server whose certificate is of an authority that crewtap knows and its captured processes do not.
pub struct Ground {
    pub host: Host,
    server: Option<Child>,
}

fn openssl(arguments: &[&str], directory: &Path) {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

impl Ground {
    pub fn new() -> Self {
        let host = Host::new();
        host.address(ADDRESS);
        let tls = host.path("tls");
        std::fs::create_dir_all(&tls).unwrap();
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let authority = ["-subj", "/O=crewtap tests/CN=overlay authority", "-keyout", "ca.key", "-out", "ca.pem"];
        openssl(&[&["req", "-x509", "-days", "2"], &curve[..], &authority].concat(), &tls);
        let leaf = ["-subj", "/CN=target.test", "-keyout", "leaf.key", "-out", "leaf.csr"];
        openssl(&[&["req"], &curve[..], &leaf].concat(), &tls);
        std::fs::write(tls.join("names"), format!("subjectAltName=DNS:target.test,DNS:localhost,IP:{ADDRESS}"))
            .unwrap();
        let sign = ["x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        openssl(&[&sign[..], &["-days", "2", "-extfile", "names", "-out", "leaf.pem"]].concat(), &tls);
        let settings = format!("tls_authorities = ['{}']\n", tls.join("ca.pem").display());
        std::fs::write(host.path("crewtap.toml"), settings).unwrap();
        let mut ground = Self { host, server: None };
        ground.serve(&tls);
        ground
    }

    fn serve(&mut self, tls: &Path) {
        let mut command = self.host.command("openssl");
        command.args(["s_server", "-accept", &format!("{ADDRESS}:443"), "-www", "-quiet"]);
        command.args(["-cert", "leaf.pem", "-key", "leaf.key"]).current_dir(tls).stdout(Stdio::null());
        self.server = Some(command.stderr(Stdio::null()).spawn().unwrap());
        let up = self.host.inside(|| {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while std::time::Instant::now() < deadline {
                if TcpStream::connect((ADDRESS, 443)).is_ok() {
                    return true;
                }
                std::thread::yield_now();
            }
            false
        });
        assert!(up.join().unwrap(), "openssl s_server does not listen");
    }

    /// The server's page.
    pub fn url() -> String {
        format!("https://{ADDRESS}/")
    }

    /// A command under `crewtap run`, without what this machine may have in its environment.
    pub fn run(&self, command: &[&str]) -> Output {
        self.run_with(&[], command)
    }

    pub fn run_with(&self, environment: &[(&str, &str)], command: &[&str]) -> Output {
        self.crewtap(&["run", "--"]).envs(environment.iter().copied()).args(command).output().unwrap()
    }

    /// A crewtap command that knows the server's authority.
    pub fn crewtap(&self, arguments: &[&str]) -> Command {
        let settings = self.host.path("crewtap.toml").display().to_string();
        let mut command = self.host.crewtap(&["--config", &settings]);
        clean(&mut command);
        command.args(arguments);
        command
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.crewtap(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The file of the server's authority.
    pub fn authority(&self) -> PathBuf {
        self.host.path("tls").join("ca.pem")
    }
}

/// Machines with a company's own roots set such variables for everybody.
pub fn clean(command: &mut Command) {
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("HOME", "/root").env("LANG", "C.UTF-8");
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Mounts of the host that the overlay has made; there must never be any.
pub fn on_the_host() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/1/mountinfo").unwrap()
        + &std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains("crewtap-overlay")).map(str::to_owned).collect()
}

#[test]
fn clients_that_read_the_systems_roots_trust_the_authority_in_a_run_and_only_there() {
    let ground = Ground::new();
    let url = Ground::url();
    let curl = ["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let outside = ground.host.command("curl").args(&curl[1..]).env_clear().output().unwrap();
    assert_eq!(outside.status.code(), Some(60), "{}", text(&outside));
    assert_eq!(succeeded(&ground.run(&curl)), "200");

    let connect = format!("{ADDRESS}:443");
    let by_hash = ["openssl", "s_client", "-verify_return_error", "-CApath", "/etc/ssl/certs", "-connect", &connect];
    let verified = succeeded(&ground.run(&by_hash));
    assert!(verified.contains("Verify return code: 0 (ok)"), "{verified}");

    let script = "import ssl, socket, sys
context = ssl.create_default_context()
with socket.create_connection((sys.argv[1], 443)) as plain, context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:
    print(tls.version())";
    assert_eq!(succeeded(&ground.run(&["/usr/bin/python3", "-c", script, ADDRESS])).trim(), "TLSv1.3");
    let wget = ground.run(&["wget", "-q", "-O", "/dev/null", &url]);
    assert!(wget.status.success(), "{}", text(&wget));
    assert_eq!(on_the_host(), [""; 0]);
    let notes = ground.host.timeline(&ground.host.last_run());
    assert!(!notes.iter().any(|event| event.to_string().contains("overlay_failed")), "{notes:?}");
}

#[test]
fn what_is_laid_is_read_only_has_the_modes_of_the_original_and_names_no_place_of_the_store() {
    let ground = Ground::new();
    let script = "grep crewtap-overlay /proc/self/mountinfo
stat -c '%U %a' /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs
touch /etc/ssl/certs/x 2>&1; echo x 2>&1 >>/etc/ssl/certs/ca-certificates.crt
ls /etc/ssl/certs | wc -l";
    let output = ground.run(&["bash", "-c", script]);
    let shown = succeeded(&output) + &String::from_utf8_lossy(&output.stderr);
    let mounts: Vec<&str> = shown.lines().filter(|line| line.contains("crewtap-overlay")).collect();
    assert!(!mounts.is_empty(), "{shown}");
    for mount in mounts {
        assert!(mount.contains(" ro,nosuid,nodev,noexec"), "{mount}");
    }
    let modes =
        Command::new("stat").args(["-c", "%U %a", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs"]).output();
    assert!(shown.contains(&succeeded(&modes.unwrap())), "{shown}");
    assert_eq!(shown.matches("Read-only file system").count(), 2, "{shown}");
    let store = ground.host.data_dir().display().to_string();
    assert!(!shown.lines().any(|line| line.contains("crewtap-overlay") && line.contains(&store)), "{shown}");
}

#[test]
fn java_and_node_trust_the_authority_in_a_run() {
    let ground = Ground::new();
    let url = Ground::url();
    let fetch = format!(
        "fetch('{url}').then(r => console.log(r.status), e => {{ console.log(e.cause.code); process.exit(1) }})"
    );
    assert_eq!(succeeded(&ground.run(&["node", "-e", &fetch])).trim(), "200");

    let source = ground.host.path("Fetch.java");
    let program = "import java.net.*;
public class Fetch { public static void main(String[] words) throws Exception {
    System.out.println(((HttpURLConnection) new URL(words[0]).openConnection()).getResponseCode()); } }";
    std::fs::write(&source, program).unwrap();
    if !Path::new("/usr/bin/javac").exists() {
        let listed =
            succeeded(&ground.run(&["keytool", "-list", "-cacerts", "-storepass", "changeit", "-alias", "crewtap"]));
        assert!(listed.contains("trustedCertEntry"), "{listed}");
        return;
    }
    assert_eq!(succeeded(&ground.run(&["java", source.to_str().unwrap(), &url])).trim(), "200");
}

#[test]
fn a_run_without_roots_to_add_to_is_not_trusted_and_says_so() {
    let ground = Ground::new();
    // No certificates anywhere: neither Debian's directory nor what others link to it.
    let hidden = "mount -t tmpfs none /etc/ssl && mount -t tmpfs none /usr/lib/ssl && \
                  { ! test -d /usr/local/share/ca-certificates || mount -t tmpfs none /usr/local/share/ca-certificates; } && \
                  exec \"$@\"";
    let mut run = ground.host.command("unshare");
    clean(&mut run);
    run.args(["-m", "sh", "-c", hidden, "sh"]).arg(crewtap_tests::host::crewtap());
    run.arg("--data-dir").arg(ground.host.data_dir()).args(["run", "--", "openssl", "s_client", "-brief"]);
    run.arg("-connect").arg(format!("{ADDRESS}:443"));
    let shown = text(&run.output().unwrap());
    assert!(shown.contains("none of the system's certificates could be laid"), "{shown}");
    assert!(shown.contains("CONNECTION ESTABLISHED"), "{shown}");
    let timeline = ground.host.timeline(&ground.host.last_run());
    let told = |code: &str| timeline.iter().any(|event| event.to_string().contains(code));
    assert!(told("overlay_failed") && told("tls_untrusted"), "{timeline:?}");
}
