//! SFTP packets that no client would send, many of them: the agent serves on, and what came of them is on record.

use crewtap_tests::host::succeeded;
use crewtap_tests::world::cache_dir;

use super::ground::{ADDRESS, Ground};

/// Sends what a generator makes of a seed over many channels: known packets with handles, numbers and paths that fit or do not, whole,
/// bent and cut; answers are taken as they come.
const RANDOM: &str = "
import paramiko, random, struct, sys
place, address, seed, channels = sys.argv[1].encode(), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = paramiko.SSHClient(); client.load_system_host_keys(); client.connect(address, 2222, 'root')
dice = random.Random(seed)
def text(value): return struct.pack('>I', len(value)) + value
def packet(kind, number, body): return struct.pack('>IBI', 5 + len(body), kind, number) + body
def path(): return place + dice.choice([b'/a', b'/b', b'/c/d', b'/.', b'/../x', b'/\\xff', b'/' + b'n' * 300])
def handle(): return dice.choice([bytes(4), b'\\0\\0\\0\\1', b'\\0\\0\\0\\2', b'', b'h' * 300])
def one(number):
    flags = struct.pack('>II', dice.choice([1, 2, 0x1a, 0x3f, 0]), 0)
    return dice.choice([
        lambda: packet(3, number, text(path()) + flags),
        lambda: packet(4, number, text(handle())),
        lambda: packet(5, number, text(handle()) + struct.pack('>QI', dice.choice([0, 7, 1 << 40]), dice.choice([0, 9, 1 << 20]))),
        lambda: packet(6, number, text(handle()) + struct.pack('>Q', dice.choice([0, 5])) + text(bytes(dice.randrange(2000)))),
        lambda: packet(8, number, text(handle())),
        lambda: packet(11, number, text(path())),
        lambda: packet(12, number, text(handle())),
        lambda: packet(dice.choice([7, 13, 14, 15, 16, 17, 19]), number, text(path()) + struct.pack('>I', 0)),
        lambda: packet(18, number, text(path()) + text(path())),
        lambda: packet(200, number, text(dice.choice([b'posix-rename@openssh.com', b'limits@openssh.com', b'new'])) + text(path()) * 2),
        lambda: packet(dice.randrange(256), number, bytes(dice.randrange(30))),
    ])()
told = 0
for _ in range(channels):
    channel = client.get_transport().open_session(); channel.settimeout(0.05)
    channel.invoke_subsystem('sftp')
    channel.sendall(struct.pack('>IBI', 5, 1, 3))
    packets = [one(dice.choice([n, n, n, 1])) for n in range(dice.randrange(40))]
    if dice.random() < 0.3 and packets:
        # Length, kind or number of one; never a path: the server has a real file system.
        at = dice.randrange(9); last = packets.pop(); packets.append(last[:at] + bytes([dice.randrange(256)]) + last[at + 1:])
    said = b''.join(packets)
    if dice.random() < 0.3: said = said[:dice.randrange(len(said) + 1)]
    try:
        # Behind the server's version, or nothing would be served.
        if dice.random() < 0.9: told += len(channel.recv(4096))
        while said: cut = dice.randrange(1, len(said) + 1); channel.sendall(said[:cut]); said = said[cut:]
        while more := channel.recv(65536): told += len(more)
    except OSError: pass
    channel.close()
_, out, _ = client.exec_command('echo alive'); print(out.read().decode().strip(), told > channels)
";

#[test]
fn whatever_comes_over_sftp_the_agent_serves_on_and_says_who_wrote() {
    let mut ground = Ground::new();
    ground.known_server();
    let place = ground.host.path("there");
    std::fs::create_dir(&place).unwrap();
    let file = ground.host.path("random_sftp.py");
    std::fs::write(&file, RANDOM).unwrap();
    let python = cache_dir().join("clients/.venv/bin/python");
    let seed = std::env::var("CREWTAP_SEED").unwrap_or_else(|_| "2201".into());
    let channels = std::env::var("CREWTAP_CHANNELS").unwrap_or_else(|_| "60".into());
    let command = format!("{} {} {} {ADDRESS} {seed} {channels}", python.display(), file.display(), place.display());
    let shown = succeeded(&ground.run(&command));
    assert!(shown.contains("alive True"), "seed {seed}: {shown}");
    let exchanges = ground.exchanges();
    // Every exchange has an end, and every file that is there has somebody who asked for it by that path.
    for row in &exchanges {
        assert!(row["outcome"].is_string(), "seed {seed}: {row}");
    }
    for entry in std::fs::read_dir(&place).unwrap() {
        let path = entry.unwrap().path().display().to_string();
        let is_asked = exchanges.iter().any(|row| {
            let verb = row["verb"].as_str().unwrap_or_default();
            !matches!(verb, "READ_FILE" | "LIST" | "STAT" | "LSTAT")
                && row["subject"].as_str().is_some_and(|all| all.contains(&path))
        });
        assert!(is_asked, "seed {seed}: nobody has asked for {path}");
    }
    ground.host.verify();
}
