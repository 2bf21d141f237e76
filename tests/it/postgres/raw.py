# A client of PostgreSQL that says exactly what a test needs, and messages as they came. Trusted, in clear.
import os, random, select, socket, struct, sys, threading, time

TIMEOUT = 60


def message(tag, body=b""):
    return tag + struct.pack(">I", len(body) + 4) + body


def query(sql):
    return message(b"Q", sql.encode() + b"\0")


def parse(sql, name=""):
    return message(b"P", name.encode() + b"\0" + sql.encode() + b"\0\0\0")


def bind(values=(), name="", portal=""):
    body = portal.encode() + b"\0" + name.encode() + b"\0\0\0" + struct.pack(">H", len(values))
    return message(b"B", body + b"".join(struct.pack(">I", len(value)) + value for value in values) + b"\0\0")


EXECUTE = message(b"E", b"\0\0\0\0\0")
DESCRIBE = message(b"D", b"P\0")
SYNC = message(b"S")
END = message(b"X")


def startup(user="trusted", database="shop", **more):
    words = {"user": user, "database": database, **more}
    body = b"\0\3\0\0" + b"".join(f"{name}\0{value}\0".encode() for name, value in words.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Client:
    """One that is logged in."""

    def __init__(self, port, **more):
        self.port, self.socket, self.rest = port, connect(port), b""
        self.socket.sendall(startup(**more))
        for tag, body in self.until(b"Z"):
            if tag == b"K":
                self.pid, self.key = struct.unpack(">I", body[:4])[0], body[4:]

    def say(self, *messages):
        self.socket.sendall(b"".join(messages))

    def message(self):
        """The next one; none at the end."""
        while len(self.rest) < 5 or len(self.rest) < 1 + struct.unpack(">I", self.rest[1:5])[0]:
            more = self.socket.recv(65536)
            if not more:
                return None
            self.rest += more
        end = 1 + struct.unpack(">I", self.rest[1:5])[0]
        tag, body, self.rest = self.rest[:1], self.rest[5:end], self.rest[end:]
        return tag, body

    def until(self, tag):
        """What comes, up to one of this kind, or to the end."""
        said = []
        while not said or said[-1][0] != tag:
            came = self.message()
            if came is None:
                break
            said.append(came)
        return said

    def ask(self, *messages):
        self.say(*messages)
        return self.until(b"Z")


def cancel(port, pid, key):
    with connect(port) as connection:
        body = struct.pack(">II", 80877102, pid) + key
        connection.sendall(struct.pack(">I", len(body) + 4) + body)
        return connection.recv(1)


def code(body):
    """SQLSTATE of an error."""
    return next(field[1:].decode() for field in body.split(b"\0") if field[:1] == b"C")


def seen(said):
    """A line of what came: tags, SQLSTATEs, and rows of one text."""
    words = []
    for tag, body in said:
        if tag == b"E":
            words.append("E" + code(body))
        elif tag == b"C":
            words.append(body[:-1].decode())
        elif tag == b"D":
            words.append(repr(body[6:].decode("latin-1")))
        else:
            words.append(tag.decode("latin-1"))
    return " ".join(words)


def wait():
    """Until the test says go on."""
    print("ready", flush=True)
    sys.stdin.readline()
