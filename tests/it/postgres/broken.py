# Sessions that end as none should. Arguments: the port, and what is to go wrong.
import signal

port, case = int(sys.argv[1]), sys.argv[2]


def last(said):
    """The end of what came, and that it was the end."""
    return seen(said[-1:]) if said else "nothing"


def count(said, tag):
    return sum(1 for came, _ in said if came == tag)


def ended(client):
    """What comes to the end; a reset is one."""
    try:
        return client.until(b"none")
    except ConnectionResetError:
        return []


def started(sql):
    """A client that has some of the answer."""
    client = Client(port)
    client.say(query(sql))
    said = [client.message() for _ in range(50)]
    print(client.pid, flush=True)
    return client, said


SLOW = "SELECT i, pg_sleep(0.001), repeat('row ', 100) FROM generate_series(1, 1000000) i"
LARGE = "SELECT i, repeat('row ', 300) FROM generate_series(1, 1000000) i"


def terminated():
    client, _ = started(SLOW)
    print(last(ended(client)))


def terminated_idle():
    client = Client(port)
    client.ask(query("SELECT 'long ago'"))
    print(client.pid, flush=True)
    print(last(ended(client)))


def killed():
    client, _ = started(LARGE)
    wait()
    said = ended(client)
    print(count(said, b"D") > 0, count(said, b"C"), count(said, b"E"))


def gone_in_copy():
    client = Client(port)
    client.ask(query("CREATE TABLE copied (line text)"))
    client.say(query("COPY copied FROM STDIN"))
    client.until(b"G")
    for number in range(1000):
        client.say(message(b"d", b"line %d\n" % number))
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def stalled_row():
    client, _ = started(SLOW)
    wait()
    client.socket.settimeout(1)
    try:
        while client.message():
            pass
    except TimeoutError:
        print("stalled")


# What no client says behind a log-in, and what comes of it.
MALFORMED = {
    "too short": b"Q\0\0\0\3",
    "far too long": b"Q\x7f\xff\xff\xffSELECT",
    "no end": message(b"Q", b"SELECT 1"),
    "more than a text": message(b"Q", b"SELECT 1\0SELECT 2\0"),
    "values that are not there": parse("SELECT $1::int") + message(b"B", b"\0\0\0\0\0\2\0\0\0\1") + EXECUTE + SYNC,
    "a negative count": message(b"B", b"\0\0\xff\xff") + SYNC,
    "nobody's portal": message(b"E", b"nobody's\0\0\0\0\0") + SYNC,
    "describe of what": message(b"D", b"Xwhat\0") + SYNC,
    "copy data without copy": message(b"d", b"data") + message(b"c") + query("SELECT 3"),
}


def unknown():
    """What is no message at all: the server's last word is about it."""
    client = Client(port)
    client.ask(query("SELECT 'long ago'"))
    client.say(message(b"z", b"what?"))
    print(last(ended(client)))


def malformed():
    for name, said in MALFORMED.items():
        client = Client(port)
        client.say(query("SELECT 1"))
        client.until(b"Z")
        client.say(said)
        client.socket.shutdown(socket.SHUT_WR)
        print(name, seen(ended(client)), sep=": ", flush=True)


def half():
    client = Client(port)
    client.ask(query("SELECT 1"))
    client.say(query("SELECT 'never seen'")[:12])
    client.socket.close()


def half_startup():
    connection = connect(port)
    connection.sendall(startup()[:20])
    connection.close()


def after():
    """Another session of the same run, as soon as the server has any."""
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        try:
            if seen(Client(port).ask(query("SELECT 'after all'"), END)) == "T 'after all' SELECT 1 Z":
                print("after all")
                return
        except OSError:
            pass  # It is not there again yet.


globals()[case]()
if case != "after":
    after()
