//! Look-ups: a question is judged before the resolver sees it, over UDP and TCP.

use crewtap_tests::host::{Host, text};

use super::{decisions, rule, run};
use crate::names::{QUERY, RESOLVER, counting};

const POLICIES: &str = "@id(\"resolver\")\npermit (principal, action == Action::\"connect\", resource) when { context.port == 53 };\n\
    @id(\"ours\")\npermit (principal, action == Action::\"resolve\", resource)\n\
    when { context.name like \"*.internal\" && context.record == \"A\" };\n";

/// Prints the answer's code for each of the names in the arguments; `none` where there is no answer.
const ASK: &str = "
def over_udp(message):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect(resolver)
    s.send(message)
    return s.recv(512)
def over_tcp(message):
    s = socket.create_connection(resolver, 20)
    framed = struct.pack('!H', len(message)) + message
    for at in range(len(framed)):
        s.sendall(framed[at:at + 1])
    answer = s.recv(512)
    return answer[2:] if answer else b''
for way in over_udp, over_tcp:
    for name, record in (('api.internal', 1), ('API.Internal', 1), ('api.internal', 16), ('secret.exfil.test', 1)):
        try:
            print(way.__name__, name, record, way(query(7, name, record))[3] & 15)
        except OSError as e:
            print(way.__name__, name, record, type(e).__name__)
two = query(7, 'api.internal')
two = two[:4] + b'\\0\\2' + two[6:] + query(7, 'secret.exfil.test')[12:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(resolver)
s.send(two)
# Nobody can say what it asks for, so nobody answers; what is asked afterwards shows that it was looked at.
print('after', over_udp(query(8, 'api.internal'))[3] & 15)
s.setblocking(False)
try:
    print('two', s.recv(512)[3] & 15)
except BlockingIOError:
    print('two unanswered')
";

#[test]
fn only_permitted_names_reach_the_resolver() {
    let host = Host::new();
    host.address(RESOLVER);
    let asked = counting(&host);
    rule(&host, "", POLICIES);
    let said = text(&run(&host, &["python3", "-c", &format!("{QUERY}{ASK}"), RESOLVER]));
    for line in [
        "over_udp api.internal 1 3",
        "over_udp API.Internal 1 3",
        "over_udp api.internal 16 5",
        "over_udp secret.exfil.test 1 5",
        "over_tcp api.internal 1 3",
        "over_tcp API.Internal 1 3",
        "over_tcp api.internal 16 ConnectionResetError",
        "over_tcp secret.exfil.test 1 ConnectionResetError",
        "after 3",
        "two unanswered",
    ] {
        assert!(said.contains(&format!("{line}\n")), "{line}: {said}");
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 5, "{asked:?}");
    let leaked = |message: &Vec<u8>| message.windows(5).any(|word| word == b"exfil");
    assert!(!asked.iter().any(leaked), "{asked:?}");
    let told = decisions(&host);
    assert!(told.contains(&"resolve A api.internal allow ours".to_owned()), "{told:?}");
    assert!(told.contains(&"resolve TXT api.internal deny".to_owned()), "{told:?}");
    assert!(told.contains(&"resolve UNPARSED UNPARSED deny".to_owned()), "{told:?}");
    host.verify();
}
