//! Credentials of the catalog: the captured process has none.

use crewtap_tests::host::text;
use crewtap_tests::world::cache_dir;

use super::ground::{ADDRESS, Ground, PORT, new_key, ssh_keygen};

/// Somebody else's server: asks for a password, by itself or with a prompt.
const SERVER: &str = "
import asyncio, asyncssh, sys
class Server(asyncssh.SSHServer):
    def begin_auth(self, user): return True
    def password_auth_supported(self): return sys.argv[3] == 'password'
    def validate_password(self, user, password): return (user, password) == ('crew', 'only-the-vault-knows')
    def kbdint_auth_supported(self): return sys.argv[3] == 'prompt'
    def get_kbdint_challenge(self, user, lang, submethods): return 'who', 'say it', '', [('Password: ', False)]
    def validate_kbdint_response(self, user, responses): return (user, responses) == ('crew', ['only-the-vault-knows'])
def session(process):
    process.stdout.write(f'hello {process.get_extra_info(\"username\")}\\n'); process.exit(5)
async def main():
    await asyncssh.create_server(Server, sys.argv[1], 2223, server_host_keys=[sys.argv[2]], process_factory=session)
    print('ready', flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
";

fn catalog(ground: &Ground, port: &str, credential: &str, key: &str) {
    let targets = format!(
        "[target.warehouse]\nmatch = {{ cidr = ['{ADDRESS}/32'], port = [{port}] }}\nprotocol = 'ssh'\n\
         credential = {{ {credential} }}\nssh = {{ hostkeys = ['{key}'] }}\n"
    );
    std::fs::write(ground.host.path("targets.toml"), targets).unwrap();
    ground.configure("targets = 'targets.toml'\n");
}

#[test]
fn a_client_without_a_key_is_in_with_the_catalogs_and_cannot_read_it() {
    let mut ground = Ground::new();
    let key = ground.known_server();
    let kept = ground.host.path("kept");
    std::fs::rename(ground.host.path("root/.ssh/id_ed25519"), &kept).unwrap();
    let line = ssh_keygen(&["-y", "-f", key.to_str().unwrap()]);
    let line = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    catalog(&ground, PORT, &format!("user = 'root', key = 'file:{}'", kept.display()), &line);
    let shown = text(&ground.run("ssh nobody@t 'id -un'; echo rc=$?; ls ~/.ssh"));
    assert!(shown.contains("root\nrc=0") && !shown.contains("id_ed25519\n"), "{shown}");
    let login = ground.exchanges().remove(0);
    assert_eq!((login["facts"]["method"].as_str(), login["facts"]["user"].as_str()), (Some("catalog"), Some("root")));
    let secret = std::fs::read_to_string(&kept).unwrap();
    assert!(!ground.holds(secret.lines().nth(2).unwrap()), "the private key is in the store");
    // Another host key than the pinned one gets nothing.
    let other = ground.host.path("other");
    new_key(&other, "ed25519");
    ground.serve(&[other], &[]);
    let shown = text(&ground.run("ssh -o StrictHostKeyChecking=no t true; echo rc=$?"));
    assert!(shown.contains("rc=255") && shown.contains("is refused"), "{shown}");
}

#[test]
fn passwords_of_the_catalog_answer_prompts_and_go_only_to_the_pinned_host() {
    let ground = Ground::new();
    let key = ground.host.path("theirs");
    let line = new_key(&key, "ed25519");
    let secret = ground.host.path("secret");
    std::fs::write(&secret, "only-the-vault-knows").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    catalog(&ground, "2223", &format!("user = 'crew', secret = 'file:{}'", secret.display()), &line);
    let python = cache_dir().join("clients/.venv/bin/python");
    for way in ["password", "prompt"] {
        let mut server = ground.host.command(&python);
        server.args(["-c", SERVER, ADDRESS]).arg(&key).arg(way);
        let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = server.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let shown = text(&ground.run(&format!("ssh -p 2223 -o BatchMode=yes anybody@{ADDRESS} hello; echo rc=$?")));
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(shown.contains("hello crew") && shown.contains("rc=5"), "{way}: {shown}");
    }
    assert!(!ground.holds("only-the-vault-knows"));
}

#[test]
fn an_address_behind_another_host_proves_nothing() {
    let mut ground = Ground::new();
    ground.known_server();
    let key = ground.host.path("theirs");
    let line = new_key(&key, "ed25519");
    let secret = ground.host.path("secret");
    std::fs::write(&secret, "only-the-vault-knows").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    catalog(&ground, "2223", &format!("user = 'crew', secret = 'file:{}'", secret.display()), &line);
    let python = cache_dir().join("clients/.venv/bin/python");
    let mut server = ground.host.command(&python);
    server.args(["-c", SERVER, ADDRESS]).arg(&key).arg("password");
    let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    let out = server.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut ready).unwrap();
    let ssh = |more: &str| {
        format!("ssh {more} -p 2223 -o BatchMode=yes -o StrictHostKeyChecking=no anybody@{ADDRESS} hello; echo rc=$?")
    };
    let direct = text(&ground.run(&ssh("")));
    let through = text(&ground.run(&ssh("-J j")));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(direct.contains("hello crew") && direct.contains("rc=5"), "{direct}");
    assert!(
        !through.contains("hello crew") && through.contains("rc=255"),
        "whoever is there would have got it: {through}"
    );
}
