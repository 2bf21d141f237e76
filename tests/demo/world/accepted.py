"""The servers' own records, in JSON lines: who connected (written at accept), and what was asked and answered."""

import json
import threading
import time


class Log:
    """Appends to one file; safe to use from all servers' threads."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, line):
        with self._lock:
            self._file.write(json.dumps({**line, "wall_ns": time.time_ns()}) + "\n")


class Accepted(Log):
    """One line per accepted TCP connection."""

    def note(self, server, connection, peer):
        local = connection.getsockname()
        self.write({"server": server, "peer": spell(peer), "local": spell(local)})


def spell(address):
    """`1.2.3.4:5` and `[fd77::1]:5`, as Rust's SocketAddr prints them."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
