//! The matrix of clients: each unchanged and with nothing configured, each through crewtap, each on record in clear where
//! it speaks HTTP/1.1.
//!
//! | client | where its roots are | on record |
//! |---|---|---|
//! | openai, anthropic, litellm, httpx, requests | certifi of its environment | in clear |
//! | boto3 | botocore's or certifi's bundle | in clear |
//! | aiohttp, urllib, urllib3, websockets | OpenSSL's directory and bundle | in clear; after the upgrade as bytes |
//! | curl, git, wget, pip | the system's bundle, or pip's own | in clear |
//! | uv, node | inside the program; by variables that the overlay fills in | in clear |
//! | Java | its key store | in clear |
//! | grpcio | inside of the package | passes unopened (HTTP/2 alone), and is marked so |
//!
//! Go is not here: its compiler has 450 MiB, more than a test's machine should need.

use std::path::{Path, PathBuf};
use std::process::Command;

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::{cache_dir, clients_project};
use serde_json::json;

use super::ground::{ADDRESS, Ground, NAME, Running, clean, notes};
use super::pki::valid;

/// Names that the clients call without having been told any.
const NAMES: [&str; 6] =
    [NAME, "api.openai.com", "api.anthropic.com", "sts.eu-west-1.amazonaws.com", "pypi.org", "git.target.test"];

fn ground() -> Ground {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&NAMES));
    let files = ground.host.path("files");
    std::fs::create_dir(&files).unwrap();
    ground.add(NAME, 443, &shown, "api", &json!({"files": files}));
    NAMES[1..].iter().for_each(|name| ground.name(name, ADDRESS));
    ground.serve();
    ground
}

fn program(name: &str) -> String {
    let path = clients_project(&cache_dir()).join(".venv/bin").join(name);
    assert!(path.exists(), "{} is not there: run `cargo xtask setup`", path.display());
    path.display().to_string()
}

/// Runs a client, which must print `said`; exactly one of its exchanges is with this path, and its record holds `recorded`.
fn client(ground: &Ground, name: &str, command: &[&str], path: &str, (said, recorded): (&str, &str)) {
    let mut run = ground.crewtap_run();
    run.args(command).env("PYTHONUNBUFFERED", "1").env("OPENAI_API_KEY", "sk-test").env("ANTHROPIC_API_KEY", "sk-ant");
    run.env("AWS_ACCESS_KEY_ID", "AKIATEST").env("AWS_SECRET_ACCESS_KEY", "secret").env("PIP_CONFIG_FILE", "/dev/null");
    let output = run.current_dir(ground.host.path("")).output().unwrap();
    let shown = text(&output);
    assert!(output.status.success() && shown.contains(said), "{name}: {}\n{shown}", output.status);
    let rows = crate::rows::Rows::of_last_run(&ground.host);
    let sessions = rows.table("sessions");
    let exchanges = rows.table("exchanges");
    let ours: Vec<_> =
        exchanges.iter().filter(|exchange| exchange["subject"].as_str().is_some_and(|s| s.contains(path))).collect();
    assert!(!ours.is_empty(), "{name}: {path} is not among {exchanges:#?}\nof {sessions:#?}");
    assert!(sessions.iter().any(|session| session["tls"] == "verified"), "{name}: {sessions:#?}");
    let passed: Vec<_> = sessions.iter().filter(|session| session["tls"] == "passed").collect();
    assert!(passed.is_empty(), "{name}: {passed:#?}");
    let on_record = ours.iter().any(|exchange| ground.show(exchange["id"].as_str().unwrap()).contains(recorded));
    assert!(on_record, "{name}: {recorded} is not on record of {ours:#?}");
    assert!(rows.table("reconciliations")[0]["complete"] == true, "{name}: {:?}", rows.table("reconciliations"));
}

fn python(ground: &Ground, name: &str, script: &str, path: &str, recorded: &str) {
    client(ground, name, &[&program("python"), "-c", script], path, ("answer to", recorded));
}

#[test]
fn the_libraries_of_model_providers_work_and_their_prompts_are_on_record() {
    let ground = ground();
    let openai = "import openai
asked = [{'role': 'user', 'content': 'prompt of openai'}]
print(openai.OpenAI().chat.completions.create(model='gpt-4o', messages=asked).choices[0].message.content)";
    python(&ground, "openai", openai, "/v1/chat/completions", "answer to prompt of openai");
    let anthropic = "import anthropic
asked = [{'role': 'user', 'content': 'prompt of anthropic'}]
print(anthropic.Anthropic().messages.create(model='claude', max_tokens=9, messages=asked).content[0].text)";
    python(&ground, "anthropic", anthropic, "/v1/messages", "answer to prompt of anthropic");
    let litellm = "import litellm
asked = [{'role': 'user', 'content': 'prompt of litellm'}]
print(litellm.completion(model='openai/gpt-4o', messages=asked).choices[0].message.content)";
    python(&ground, "litellm", litellm, "/v1/chat/completions", "answer to prompt of litellm");
    let boto3 = "import boto3
print(boto3.client('sts', region_name='eu-west-1').get_caller_identity()['Arn'].replace('-', ' '))";
    python(&ground, "boto3", boto3, "/", "answer-to-boto3");
    ground.host.verify();
}

#[test]
fn the_http_clients_of_python_work_and_are_on_record() {
    let ground = ground();
    let say = |name: &str| format!("https://{NAME}/say/{name}");
    let scripts = [
        ("httpx", format!("import httpx; print(httpx.get('{}').text)", say("httpx"))),
        ("requests", format!("import requests; print(requests.get('{}').text)", say("requests"))),
        ("urllib", format!("import urllib.request as u; print(u.urlopen('{}').read().decode())", say("urllib"))),
        ("urllib3", format!("import urllib3; print(urllib3.PoolManager().request('GET', '{}').data)", say("urllib3"))),
        (
            "aiohttp",
            format!(
                "import aiohttp, asyncio
async def ask():
    async with aiohttp.ClientSession() as session, session.get('{}') as answer: print(await answer.text())
asyncio.run(ask())",
                say("aiohttp")
            ),
        ),
    ];
    for (name, script) in &scripts {
        python(&ground, name, script, &format!("/say/{name}"), &format!("answer to {name}"));
    }
    // After the upgrade it is no HTTP any more: bytes of a WebSocket, those of the client under its mask.
    let script = format!(
        "from websockets.sync.client import connect
with connect('wss://{NAME}/socket') as socket:
    socket.send('websockets')
    print(socket.recv())"
    );
    client(&ground, "websockets", &[&program("python"), "-c", &script], "/socket", ("answer to websockets", "101"));
}

#[test]
fn command_line_clients_work_and_are_on_record() {
    let ground = ground();
    let say = |name: &str| format!("https://{NAME}/say/{name}");
    client(&ground, "curl", &["curl", "-sS", &say("curl")], "/say/curl", ("answer to curl", "answer to curl"));
    let wget = ["wget", "-q", "-O", "-", &say("wget")];
    client(&ground, "wget", &wget, "/say/wget", ("answer to wget", "answer to wget"));
    let fetch = format!("fetch('{}').then(a => a.text()).then(console.log)", say("node"));
    client(&ground, "node", &["node", "-e", &fetch], "/say/node", ("answer to node", "answer to node"));
    let source = ground.host.path("Say.java");
    let java = "import java.net.*; import java.net.http.*;
public class Say { public static void main(String[] words) throws Exception {
    var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    var request = HttpRequest.newBuilder(URI.create(words[0])).build();
    System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    System.out.println(new String(new URL(words[0] + \"2\").openStream().readAllBytes())); } }";
    std::fs::write(&source, java).unwrap();
    let java = ["java", source.to_str().unwrap(), &say("java")];
    client(&ground, "java", &java, "/say/java2", ("answer to java2", "answer to java2"));
}

#[test]
fn git_clones_and_is_on_record() {
    let ground = ground();
    let files = ground.host.path("files");
    let script = "git init -q work && cd work && echo kept >file && git add file && \
        git -c user.name=n -c user.email=e@e commit -q -m first && cd .. && \
        git clone -q --bare work repository.git && cd repository.git && git update-server-info";
    let mut make = Command::new("sh");
    clean(&mut make);
    let _made = succeeded(&make.args(["-ec", script]).current_dir(&files).output().unwrap());
    let url = "https://git.target.test/repository.git";
    let clone = ["sh", "-ec", "git clone -q \"$0\" cloned; cat cloned/file", url];
    client(&ground, "git", &clone, "/repository.git/info/refs", ("kept", "refs/heads/"));
}

/// A package index with one package, as `pypi.org`.
fn package(files: &Path) {
    let script = "import sys, zipfile, os
base = sys.argv[1] + '/simple/answering'
os.makedirs(base)
with zipfile.ZipFile(base + '/answering-1.0-py3-none-any.whl', 'w') as wheel:
    for name, text in {
        'answering.py': 'text = \"answer to an import\"',
        'answering-1.0.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: answering\\nVersion: 1.0\\n',
        'answering-1.0.dist-info/WHEEL': 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',
        'answering-1.0.dist-info/RECORD': 'answering.py,,\\nanswering-1.0.dist-info/METADATA,,\\nanswering-1.0.dist-info/WHEEL,,\\nanswering-1.0.dist-info/RECORD,,\\n',
    }.items(): wheel.writestr(name, text)
open(base + '/index.html', 'w').write('<a href=\"answering-1.0-py3-none-any.whl\">answering-1.0-py3-none-any.whl</a>')";
    let made = Command::new("/usr/bin/python3").args(["-c", script]).arg(files).output();
    let _made = succeeded(&made.unwrap());
}

#[test]
fn installers_work_and_are_on_record() {
    let ground = ground();
    package(&ground.host.path("files"));
    let pip = "\"$0\" -m pip install --disable-pip-version-check -q --no-cache-dir --target by-pip answering; cat by-pip/answering.py";
    let pip = ["sh", "-ec", pip, &program("python")];
    client(&ground, "pip", &pip, "/simple/answering/", ("answer to an import", "answering-1.0-py3-none-any.whl"));
    let uv = "\"$0\" pip install -q --no-cache --no-config --python /usr/bin/python3 --target by-uv answering; cat by-uv/answering.py";
    let uv = ["sh", "-ec", uv, &program("uv")];
    client(&ground, "uv", &uv, "/simple/answering/", ("answer to an import", "answering-1.0-py3-none-any.whl"));
}

/// A gRPC server with one method, which answers with what it is asked.
const GRPC_SERVER: &str = "import sys, grpc
from concurrent import futures
class Answers(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(lambda asked, context: b'answer to ' + asked)
server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Answers()])
chain, key = (open(path, 'rb').read() for path in sys.argv[2:])
server.add_secure_port(sys.argv[1], grpc.ssl_server_credentials([(key, chain)]))
server.start()
print('ready', flush=True)
server.wait_for_termination()";

const GRPC_CLIENT: &str = "import sys, grpc
roots = open(sys.argv[2], 'rb').read()
with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(roots)) as channel:
    print(channel.unary_unary('/test.Test/Say')(b'grpc', timeout=30).decode())";

#[test]
fn grpc_works_unopened_and_is_marked_so() {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME]));
    ground.name(NAME, ADDRESS);
    let mut server = ground.host.command(program("python"));
    clean(&mut server);
    server.args(["-c", GRPC_SERVER, &format!("{ADDRESS}:443")]).args([&shown.chain, &shown.key]);
    let _server = Running::start(server, "ready");
    let root: PathBuf = ground.pki.root_file();
    let command = [&program("python"), "-c", GRPC_CLIENT, &format!("{NAME}:443"), root.to_str().unwrap()];
    assert_eq!(succeeded(&ground.run(&command)), "answer to grpc\n");
    let rows = ground.rows(1);
    let session = rows.session();
    assert_eq!((&session["tls"], &session["exchanges"]), (&json!("passed"), &json!(0)), "{session}");
    assert!(session["tls_facts"]["why"].as_str().unwrap().starts_with("tls_alpn"), "{session}");
    assert_eq!(notes(&rows), ["tls_alpn"]);
}
