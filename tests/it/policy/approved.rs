//! What waits for a person, from the policy's file to the target: approved, denied, asked again, and let through by an override.

use std::process::Child;
use std::process::Stdio;

use super::{crewtap, crewtap_run, decisions, question, rule, write};
use crate::postgres::captured::{Captured, plain, python};
use crewtap_tests::host::{Host, succeeded, text};
use crewtap_tests::postgres::Release;

const POLICIES: &str = "@id(\"all\")\npermit (principal, action, resource);\n\
    @id(\"deletes\")\n@approval(\"os:root\")\nforbid (principal, action == Action::\"query\", resource)\n\
    when { context.kinds.contains(\"DELETE\") } unless { context.approved };\n\
    @id(\"posts\")\n@approval(\"os:root\")\nforbid (principal, action == Action::\"http_request\", resource)\n\
    when { context.method == \"POST\" } unless { context.approved };\n";

/// Deletes with a value, then says what came of it.
const DELETE: &str = "
import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    try:
        print('deleted', connection.execute('DELETE FROM orders WHERE id = %s', [1003]).rowcount)
    except psycopg.Error as error:
        print(error.sqlstate, error.diag.message_primary)
    print('left', connection.execute('SELECT count(*) FROM orders WHERE id = 1003').fetchone()[0])
";

/// Whoever has started a run as root is root for whoever approves, too: four eyes would never agree here.
const TWO_EYES: &str = "[approvals]\nfour_eyes = false";

fn captured(more: &str) -> Captured {
    let captured = Captured::new();
    std::fs::create_dir_all(captured.host.path("policy")).unwrap();
    write(&captured.host.path("policy/test.cedar"), POLICIES);
    captured.configure(&format!("policy = 'policy'\n{more}"));
    captured
}

fn deleting(captured: &Captured, place: &str) -> Child {
    let mut command = captured.crewtap_run(&[&python(), "-c", DELETE, place]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_delete_waits_for_a_person_and_happens_or_does_not() {
    let captured = captured(TWO_EYES);
    let host = &captured.host;
    let server = captured.server(Release::Debian);
    let place = plain(&server);
    let child = deleting(&captured, &place);
    let asked = question(host);
    assert_eq!(asked["subject"], "DELETE FROM orders WHERE id = $1");
    assert_eq!(asked["policies"][0], "deletes");
    let id = asked["id"].as_str().unwrap();
    let shown = text(&crewtap(host, &["approvals", "show", id]));
    assert!(shown.contains("1003"), "the value of its parameter: {shown}");
    assert_eq!(server.query("SELECT count(*) FROM orders WHERE id = 1003"), "1", "it has not happened yet");
    let _ = succeeded(&crewtap(host, &["approvals", "deny", id, "--reason", "not this one"]));
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("42501 crewtap: ") && said.contains("left 1"), "{said}");
    let child = deleting(&captured, &place);
    let asked = question(host);
    let _ = succeeded(&crewtap(host, &["approvals", "approve", asked["id"].as_str().unwrap()]));
    let said = text(&child.wait_with_output().unwrap());
    assert!(said.contains("deleted 1") && said.contains("left 0"), "{said}");
    let told = decisions(host);
    assert!(told.contains(&"query DELETE FROM orders WHERE id = $1 ask deletes".to_owned()), "{told:?}");
    let timeline = text(&crewtap(host, &["timeline", host.last_run()["id"].as_str().unwrap()]));
    assert!(timeline.contains("approved"), "{timeline}");
    host.verify();
}

#[test]
fn nobody_approves_what_runs_on_their_own_behalf() {
    let captured = captured("");
    let host = &captured.host;
    let server = captured.server(Release::Debian);
    let child = deleting(&captured, &plain(&server));
    let asked = question(host);
    let id = asked["id"].as_str().unwrap();
    let refused = crewtap(host, &["approvals", "approve", id]);
    assert!(!refused.status.success() && text(&refused).contains("four_eyes"), "{}", text(&refused));
    assert_eq!(question(host)["id"], asked["id"], "it waits on");
    let _ = succeeded(&crewtap(host, &["approvals", "deny", id]));
    assert!(text(&child.wait_with_output().unwrap()).contains("left 1"));
}

#[test]
fn a_request_that_was_told_to_come_again_passes_once_it_is_approved_and_only_once() {
    let host = Host::new();
    let peer = super::connects::web(&host, "127.0.0.1:0");
    rule(&host, "[approvals]\nfour_eyes = false\nwait = '1s'", POLICIES);
    let script = "import http.client, sys
for line in sys.stdin:
    c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=60)
    c.request('POST', '/pay', line.strip())
    r = c.getresponse()
    print(r.status, r.getheader('Retry-After'), r.read()[:400], flush=True)
";
    let mut command = crewtap_run(&host, &["python3", "-u", "-c", script, &peer.port()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut post = |body: &str| {
        std::io::Write::write_all(&mut input, format!("{body}\n").as_bytes()).unwrap();
        lines.next().unwrap().unwrap()
    };
    let said = post("100 EUR");
    assert!(said.starts_with("403 15 ") && said.contains("approval-pending"), "{said}");
    let asked = question(&host);
    assert!(said.contains(asked["id"].as_str().unwrap()), "the operation: {said}");
    let _ = succeeded(&crewtap(&host, &["approvals", "approve", asked["id"].as_str().unwrap()]));
    let changed = post("900 EUR");
    assert!(changed.starts_with("403 "), "what was not approved: {changed}");
    let other = question(&host);
    assert_ne!(other["digest"], asked["digest"]);
    let _ = succeeded(&crewtap(&host, &["approvals", "deny", other["id"].as_str().unwrap()]));
    assert!(post("100 EUR").starts_with("200 None b'ok'"));
    let again = post("100 EUR");
    assert!(again.starts_with("403 "), "a grant is used once: {again}");
    drop(input);
    assert!(child.wait().unwrap().success());
    let seen = peer.seen();
    let paid = seen.iter().map(|seen| String::from_utf8_lossy(seen).into_owned());
    let paid: Vec<String> = paid.filter(|seen| !seen.is_empty()).collect();
    assert!(paid.len() == 1 && paid[0].ends_with("100 EUR"), "{paid:?}");
    host.verify();
}

#[test]
fn an_override_lets_it_pass_and_cannot_be_missed() {
    let captured = captured("[override]\ngroups = ['os:root']");
    let host = &captured.host;
    let server = captured.server(Release::Debian);
    let place = plain(&server);
    let waiting = deleting(&captured, &place);
    let asked = question(host);
    let target = asked["target"].as_str().unwrap().to_owned();
    let _ = succeeded(&crewtap(host, &["override", "--reason", "the plant is on fire", "--for", "5m", &target]));
    let _ = succeeded(&crewtap(host, &["approvals", "deny", asked["id"].as_str().unwrap()]));
    assert!(text(&waiting.wait_with_output().unwrap()).contains("left 1"), "what was denied stays denied");
    let said = text(&deleting(&captured, &place).wait_with_output().unwrap());
    assert!(said.contains("deleted 1"), "{said}");
    let run = host.last_run()["id"].as_str().unwrap().to_owned();
    for view in [&["timeline", &run][..], &["show", &run]] {
        let told = text(&crewtap(host, view)).to_lowercase();
        assert!(told.contains("override") && told.contains("passed"), "{view:?}: {told}");
    }
    host.verify();
}
