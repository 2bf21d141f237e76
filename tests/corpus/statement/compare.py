#!/usr/bin/env python3
"""Compares postgres.txt with what a real server makes of each text: compare.py SOCKET-DIRECTORY PORT [DATABASE]

Each text is sent twice, in a transaction that is rolled back: as a Parse message, which the server refuses when it holds more
than one statement, and as a Query, whose command tags tell what ran. A text that the server cannot parse may be told as
anything. Run it against a server that can be thrown away: some statements reach outside of a transaction."""

import socket
import struct
import sys
from pathlib import Path

# What a command tag's first word is among our kinds, where it is another one.
KINDS = {"START": "BEGIN", "ABORT": "ROLLBACK", "END": "COMMIT", "MOVE": "FETCH", "SECURITY": "SECURITY_LABEL"}
NOT_RUN = ("set role", "set session auth", "reindex", "alter system", "vacuum", "discard", "alter role", "drop owned")
TABLES = "t u s x y a b c d orders secret"


class Session:
    def __init__(self, directory, port, database):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(f"{directory}/.s.PGSQL.{port}")
        self.socket.settimeout(20)
        body = struct.pack(">i", 196608) + f"user\0postgres\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack(">i", len(body) + 4) + body)
        self.until_ready()

    def take(self, count):
        taken = b""
        while len(taken) < count:
            piece = self.socket.recv(count - len(taken))
            if not piece:
                raise EOFError
            taken += piece
        return taken

    def until_ready(self):
        found = []
        while True:
            tag, length = struct.unpack(">ci", self.take(5))
            body = self.take(length - 4)
            found.append((tag, body))
            if tag == b"G":
                self.send(b"f", b"no\0")
            if tag == b"Z":
                return found

    def send(self, tag, body):
        self.socket.sendall(tag + struct.pack(">i", len(body) + 4) + body)

    def query(self, text):
        self.send(b"Q", text.encode() + b"\0")
        return self.until_ready()

    def parse(self, text):
        self.send(b"P", b"\0" + text.encode() + b"\0\0\0")
        self.send(b"S", b"")
        return self.until_ready()


def fault(messages):
    for tag, body in messages:
        if tag == b"E":
            fields = dict((chr(part[0]), part[1:].decode()) for part in body.split(b"\0") if part)
            return fields["C"], fields["M"]
    return None, ""


def entries(path):
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("#= "):
            kinds, _, _, count = line[3:].split("|")
            yield "\n".join(lines), set(kinds.split()), int(count.strip(" !?"))
            lines = []
        else:
            lines.append(line)


def main():
    directory, port, *database = sys.argv[1:]
    session = Session(directory, port, *(database or ["postgres"]))
    columns = "id int, a int, b int, c int, x int, y int, d int"
    for name in TABLES.split():
        session.query(f"create table if not exists {name} ({columns})")
    wrong, seen, unparsable, ran = [], 0, 0, 0
    for text, kinds, count in entries(Path(__file__).with_name("postgres.txt")):
        seen += 1
        session.query("begin")
        code, message = fault(session.parse(text))
        session.query("rollback")
        many = "multiple commands" in message
        lexed = code == "42601" or (code or "").startswith("22")
        if lexed and not many:
            unparsable += 1
            continue
        if "UNPARSED" not in kinds and many != (count > 1):
            wrong.append(f"{text!r}: {count} statements, the server says {'more than one' if many else 'one'}")
        if any(part in text.lower() for part in NOT_RUN):
            continue
        if not text.lower().startswith(("begin", "commit", "end", "abort", "rollback")):
            session.query("begin")
        answers = session.query(text)
        session.query("rollback")
        for tag, body in answers:
            if tag != b"C":
                continue
            ran += 1
            word = body.rstrip(b"\0").decode().split()[0]
            if "UNPARSED" not in kinds and KINDS.get(word, word) not in kinds and "EXECUTE" not in kinds:
                wrong.append(f"{text!r}: told as {sorted(kinds)}, the server ran {word}")
        if any(tag == b"I" for tag, _ in answers) and count:
            wrong.append(f"{text!r}: the server found it empty")
    print(f"{seen} texts, {unparsable} that the server cannot parse, {ran} command tags; {len(wrong)} wrong")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
