"""What nginx does not say: events at a steady pace over TLS, and a sink for large bodies; and the client that reads events.

streams.py serve PORT CERT KEY      says `ready` when it listens
streams.py read URL STREAMS EVENTS  says the median delay of an event in microseconds, and how many came
"""

import socket
import ssl
import sys
import threading
import time

PACE = 0.02


def serve(port, cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(context, connection), daemon=True).start()


def answer(context, connection):
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(connection, server_side=True) as tls:
            lines = tls.makefile("rb")
            line = lines.readline().split()
            fields = {}
            while (field := lines.readline().strip()):
                name, _, value = field.partition(b":")
                fields[name.lower()] = value.strip()
            if line[:1] == [b"PUT"]:
                sink(tls, lines, int(fields[b"content-length"]), b"expect" in fields)
            elif line:
                events(tls, int(line[1].rpartition(b"/")[2]))
    except OSError:
        pass


def events(tls, count):
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    begin = time.monotonic()
    for at in range(count):
        time.sleep(max(0, begin + at * PACE - time.monotonic()))
        tls.sendall(b"data: %d\n\n" % time.monotonic_ns())


def sink(tls, lines, length, expects):
    if expects:
        tls.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    block, got = memoryview(bytearray(1 << 20)), 0
    while got < length:
        more = lines.readinto(block[: min(len(block), length - got)])
        if not more:
            return
        got += more
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def read(url, streams, count):
    scheme_host, _, path = url.partition("://")[2].partition("/")
    host, _, port = scheme_host.partition(":")
    context = ssl._create_unverified_context()
    delays, lock = [], threading.Lock()

    def stream():
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as tls:
            tls.sendall(f"GET /{path}/{count} HTTP/1.1\r\nHost: {scheme_host}\r\n\r\n".encode())
            held, mine = b"", []
            while more := tls.recv(65536):
                now = time.monotonic_ns()
                *whole, held = (held + more).split(b"\n\n")
                mine += [now - int(event.rpartition(b"data: ")[2]) for event in whole if b"data: " in event]
            with lock:
                delays.extend(mine)

    threads = [threading.Thread(target=stream) for _ in range(streams)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    delays.sort()
    print(delays[len(delays) // 2] / 1000 if delays else 0, len(delays))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3], sys.argv[4])
else:
    read(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
