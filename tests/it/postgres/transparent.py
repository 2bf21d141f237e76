# Sends what clients once said, in pieces, and prints what the server says to it, in messages. Arguments: port, then files.
import pathlib, re


def client_bytes(path):
    """What the client of a recording said: rows of a side, a length of two bytes, and so many bytes."""
    recorded, said = path.read_bytes(), b""
    while recorded:
        side, (length,) = recorded[:1], struct.unpack(">H", recorded[1:3])
        said += recorded[3 : 3 + length] if side == b"C" else b""
        recorded = recorded[3 + length :]
    # The time is another one each time.
    return said.replace(b"now()", b"  1  ")


def clean(said):
    """Without what two sessions never have in common: the key, process numbers, numbers of new
    tables, and the name of the schema for temporary ones."""
    line = []
    for tag, body in said:
        if tag == b"K":
            body = b"key of %d" % len(body)
        elif tag == b"A":
            body = body[4:]
        elif tag == b"T":
            body = columns(body)
        elif tag == b"E":
            body = re.sub(rb"pg_temp_\d+", b"pg_temp", body)
        line.append(tag.decode("latin-1") + body.hex())
    return " ".join(line)


def columns(body):
    (count,), rest, out = struct.unpack(">H", body[:2]), body[2:], b""
    for _ in range(count):
        name, rest = rest.split(b"\0", 1)
        table, kind = struct.unpack(">I", rest[:4])[0], rest[4:18]
        out += name + (b"new" if table >= 16384 else rest[:4]) + kind
        rest = rest[18:]
    return body[:2] + out


def replay(port, pieces):
    """The whole answer to what is sent in these pieces."""
    client = Client(port)
    entered = [(b"K", client.key)]

    def send():
        try:
            for piece in pieces:
                client.socket.sendall(piece)
                # Not for the test's being right: so that pieces come as pieces.
                time.sleep(0.0003)
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # A server that has ended the session reads no more.

    sender = threading.Thread(target=send)
    sender.start()
    said = []
    try:
        while (came := client.message()) is not None:
            said.append(came)
    except ConnectionResetError:
        pass  # What the server did not read before it ended the session is answered so, at times.
    sender.join()
    return clean(entered + said)


def chops(said):
    """Ways of cutting it: once at every byte for what is short, else at random places; and every byte alone."""
    yield [said]
    if len(said) <= 2500:
        yield [said[at : at + 1] for at in range(len(said))]
    if len(said) <= 120:
        for at in range(1, len(said)):
            yield [said[:at], said[at:]]
    dice = random.Random(len(said))
    for _ in range(4):
        places = sorted(dice.randrange(len(said) + 1) for _ in range(12))
        yield [said[start:end] for start, end in zip([0, *places], [*places, len(said)])]


port = int(sys.argv[1])
for path in map(pathlib.Path, sys.argv[2:]):
    said = client_bytes(path)
    for number, pieces in enumerate(chops(said)):
        print(path.name, number, replay(port, pieces))
