"""The servers' own record of who connected: one JSON line per accepted TCP connection, written at accept."""

import json
import threading
import time


class Accepted:
    """Appends to one file; safe to use from all servers' threads."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()

    def note(self, server, connection, peer):
        local = connection.getsockname()
        line = {"server": server, "peer": spell(peer), "local": spell(local), "wall_ns": time.time_ns()}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")


def spell(address):
    """`1.2.3.4:5` and `[fd77::1]:5`, as Rust's SocketAddr prints them."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
