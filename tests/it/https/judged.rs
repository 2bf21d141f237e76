//! Policy inside of TLS, in front of nginx: what a refusal is to the libraries that crews use, requests that wait for a person,
//! and requests whose host is not the one that their connection leads to.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Stdio};

use crewtap_tests::host::{succeeded, text};
use crewtap_tests::world::{cache_dir, clients_project};
use serde_json::{Value, json};

use super::ground::{ADDRESS, Ground, NAME, notes};
use super::pki::valid;
use crate::policy::{crewtap, question, write};

/// A name that the certificate has beside the target's own.
const ALSO: &str = "also.target.test";

const POLICIES: &str = "@id(\"all\")\npermit (principal, action, resource);\n\
    @id(\"no-admin\")\nforbid (principal, action == Action::\"http_request\", resource)\n\
    when { context.path == \"UNPARSED\" || context.path like \"/admin*\" };\n\
    @id(\"no-such-model\")\nforbid (principal, action == Action::\"llm_call\", resource) when { context.model == \"gpt-forbidden\" };\n\
    @id(\"dear\")\n@approval(\"os:root\")\nforbid (principal, action == Action::\"llm_call\", resource)\n\
    when { context.model == \"gpt-dear\" } unless { context.approved };\n";

/// What the libraries make of what they get, line by line, as they are told.
const CLIENT: &str = "
import httpx, openai, sys
base = sys.argv[1]
client = openai.OpenAI(api_key='any', base_url=base + '/v1', max_retries=3)
def model(name):
    try:
        asked = [{'role': 'user', 'content': 'x'}]
        print(client.chat.completions.create(model=name, messages=asked).choices[0].message.content, flush=True)
    except openai.PermissionDeniedError as error:
        told, retry = error.body, error.response.headers.get('retry-after')
        print('PermissionDeniedError', error.status_code, retry, told.get('operation'), *told['policies'], error, flush=True)
def path(name):
    answer = httpx.get(base + name)
    try:
        print(answer.raise_for_status().status_code, answer.text.strip(), flush=True)
    except httpx.HTTPStatusError as error:
        told = answer.json()
        print('HTTPStatusError', answer.headers['content-type'], *told['policies'], told['title'], str(error).splitlines()[0], flush=True)
for line in sys.stdin:
    word, name = line.split()
    {'model': model, 'path': path}[word](name)
";

/// nginx behind [`NAME`], under policies.
fn ground(more: &str) -> Ground {
    let mut ground = Ground::new();
    let shown = ground.pki.leaf(&valid(&[NAME, ALSO]));
    let answer = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "answer of nginx"}}]});
    ground.nginx(&format!(
        "server {{ listen {ADDRESS}:443 ssl; ssl_certificate {}; ssl_certificate_key {}; default_type application/json;\n\
         location /v1/ {{ return 200 '{answer}'; }} location / {{ return 200 'through nginx'; }} }}",
        shown.chain.display(),
        shown.key.display(),
    ));
    ground.name(NAME, ADDRESS);
    ground.name(ALSO, ADDRESS);
    std::fs::create_dir(ground.host.path("policy")).unwrap();
    write(&ground.host.path("policy/test.cedar"), POLICIES);
    ground.configure(&format!("policy = 'policy'\n{more}"));
    ground
}

/// The request lines that nginx has seen.
fn reached(ground: &Ground) -> Vec<String> {
    let log = std::fs::read_to_string(ground.host.path("nginx/access.log")).unwrap();
    log.lines().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

/// The libraries in one process, captured.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(ground: &Ground) -> Self {
        let python = clients_project(&cache_dir()).join(".venv/bin/python");
        let mut run = ground.crewtap_run();
        run.arg(python).args(["-c", CLIENT, &format!("https://{NAME}")]);
        let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn libraries_tell_a_refusal_in_their_own_words_and_go_on() {
    let ground = ground("");
    let mut client = Client::start(&ground);
    assert_eq!(client.ask("path /orders"), "200 through nginx");
    let told = client.ask("path /admin/users");
    let wanted =
        "HTTPStatusError application/problem+json no-admin crewtap: refused by policy Client error '403 Forbidden'";
    assert!(told.starts_with(wanted), "{told}");
    assert_eq!(client.ask("model gpt-4o"), "answer of nginx");
    let told = client.ask("model gpt-forbidden");
    assert!(told.starts_with("PermissionDeniedError 403 None None no-such-model Error code: 403"), "{told}");
    assert!(told.contains("refused by no-such-model"), "who reads the traceback reads the policy: {told}");
    assert_eq!(client.ask("model gpt-4o"), "answer of nginx");
    client.end();
    let call = "POST /v1/chat/completions HTTP/1.1";
    assert_eq!(reached(&ground), ["GET /orders HTTP/1.1", call, call], "a refused request was sent, or tried again");
    ground.host.verify();
}

#[test]
fn a_library_waits_for_a_person_as_for_a_slow_answer() {
    let ground = ground("[approvals]\nfour_eyes = false");
    let mut client = Client::start(&ground);
    client.say("model gpt-dear");
    let asked = question(&ground.host);
    assert_eq!(asked["policies"], json!(["dear"]));
    assert_eq!(reached(&ground), [""; 0], "it has not been sent yet");
    let _ = succeeded(&crewtap(&ground.host, &["approvals", "approve", asked["id"].as_str().unwrap()]));
    assert_eq!(client.hear(), "answer of nginx");
    client.say("model gpt-dear");
    let again = question(&ground.host);
    assert_ne!(again["id"], asked["id"], "a grant is used once");
    let denied = ["approvals", "deny", again["id"].as_str().unwrap(), "--reason", "too dear"];
    let _ = succeeded(&crewtap(&ground.host, &denied));
    let told = client.hear();
    assert!(told.starts_with("PermissionDeniedError 403 None None dear") && told.contains("too dear"), "{told}");
    client.end();
    assert_eq!(reached(&ground).len(), 1);
}

#[test]
fn a_library_that_is_told_to_come_again_finds_the_answer() {
    let ground = ground("[approvals]\nfour_eyes = false\nwait = '1s'");
    let mut client = Client::start(&ground);
    let told = client.ask("model gpt-dear");
    let asked = question(&ground.host);
    let wanted = format!("PermissionDeniedError 403 15 {} dear Error code: 403", asked["id"].as_str().unwrap());
    assert!(told.starts_with(&wanted), "{wanted}: {told}");
    let _ = succeeded(&crewtap(&ground.host, &["approvals", "approve", asked["id"].as_str().unwrap()]));
    assert_eq!(client.ask("model gpt-dear"), "answer of nginx", "the same request is the one that was approved");
    assert!(client.ask("model gpt-dear").starts_with("PermissionDeniedError 403 15 "), "and only once");
    client.end();
    assert_eq!(reached(&ground).len(), 1);
}

#[test]
fn a_host_that_the_certificate_does_not_cover_is_misdirected_and_one_that_it_covers_is_not() {
    let ground = ground("");
    let url = format!("https://{NAME}/orders");
    let ask = |host: &str| {
        let host = format!("Host: {host}");
        text(&ground.run(&["curl", "-sS", "-i", "--max-time", "30", "-H", &host, &url]))
    };
    for host in [NAME, ALSO, "ALSO.target.test:443"] {
        assert!(ask(host).contains("through nginx"), "{host}");
    }
    let before = reached(&ground).len();
    for host in ["evil.test", "api.target.test.evil.test", ADDRESS, "a~b"] {
        let told = ask(host);
        assert!(told.contains("421 Misdirected Request") && told.contains("urn:crewtap:misdirected"), "{host}: {told}");
        let rows = ground.rows(1);
        let exchange = rows.table("exchanges")[0];
        assert_eq!((&exchange["outcome"], &exchange["code"]), (&json!("blocked"), &json!("421")), "{exchange}");
        assert!(notes(&rows).contains(&"http_misdirected".to_owned()), "{:?}", notes(&rows));
    }
    // Fronting by the other door: the name in the hello is covered, too, and the one in the request decides.
    let front = format!("https://{ALSO}/admin");
    let told = text(&ground.run(&["curl", "-sS", "-i", "--max-time", "30", "-H", &format!("Host: {NAME}"), &front]));
    assert!(told.contains("403 Forbidden") && told.contains("no-admin"), "{told}");
    assert_eq!(reached(&ground).len(), before, "{:?}", reached(&ground));
    // In record mode it passes, and the claim is on record.
    crate::agent::wait_idle(&ground.host);
    ground.configure("policy = 'policy'\nmode = 'record'");
    assert!(ask("evil.test").contains("through nginx"));
    let claimed: Value = ground.rows(1).table("exchanges")[0]["facts"]["claimed_host"].clone();
    assert_eq!(claimed, "evil.test");
}
