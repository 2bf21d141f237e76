"""A name server for the demo's names, over UDP and TCP. Every other name does not exist."""

import ipaddress
import json
import socket
import socketserver
import struct
import threading
import time

TYPES = {1: "A", 28: "AAAA"}
NO_ERROR, NAME_ERROR = 0, 3


class Zone:
    """Names and their addresses; writes one JSON line per question."""

    def __init__(self, names, log_path):
        self._names = {name.lower(): [ipaddress.ip_address(address) for address in found] for name, found in names.items()}
        self._log = open(log_path, "a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()

    def answer(self, query, transport, peer):
        """The response to one query message, or None for what is no query."""
        if len(query) < 12 or query[2] & 0x80:
            return None
        identifier, flags, questions = struct.unpack_from("!HHH", query)
        if questions != 1:
            return struct.pack("!HHHHHH", identifier, 0x8401, 0, 0, 0, 0)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
            at += query[at] + 1
        question = query[12 : at + 5]
        (kind,) = struct.unpack_from("!H", query, at + 1)
        name = ".".join(labels).lower()
        addresses = [a for a in self._names.get(name, []) if (a.version == 4) == (kind == 1) and kind in TYPES]
        with self._lock:
            self._log.write(json.dumps({
                "transport": transport, "peer": peer, "name": name, "type": TYPES.get(kind, str(kind)),
                "answers": [str(a) for a in addresses], "wall_ns": time.time_ns(),
            }) + "\n")
        code = NO_ERROR if name in self._names else NAME_ERROR
        header = struct.pack("!HHHHHH", identifier, 0x8580 | (flags & 0x0100) | code, 1, len(addresses), 0, 0)
        records = b"".join(
            struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(a.packed)) + a.packed for a in addresses
        )
        return header + question + records


def serve(zone, addresses, accepted):
    """Binds and starts the servers; returns when all of them listen."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self):
                message, replies = self.request
                answer = zone.answer(message, "udp", f"{self.client_address[0]}:{self.client_address[1]}")
                if answer:
                    replies.sendto(answer, self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self):
                accepted.note("dns", self.request, self.client_address)
                while len(length := self.rfile.read(2)) == 2:
                    message = self.rfile.read(int.from_bytes(length, "big"))
                    answer = zone.answer(message, "tcp", f"{self.client_address[0]}:{self.client_address[1]}") or b""
                    self.wfile.write(len(answer).to_bytes(2, "big") + answer)

        for base, kind in ((socketserver.ThreadingUDPServer, Datagram), (socketserver.ThreadingTCPServer, Stream)):
            server = type("Server", (base,), {
                "address_family": family, "allow_reuse_address": True, "daemon_threads": True,
            })((address, 53), kind)
            threading.Thread(target=server.serve_forever, daemon=True).start()
