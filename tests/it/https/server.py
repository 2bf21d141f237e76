"""TLS servers for the tests: each speaks one of the conversations below, and writes what it got to a log.

Its one argument is a JSON list of {"address", "port", "chain", "key", "talk", "log"} and, as wanted, {"minimum", "maximum",
"ciphers", "alpn", "files"}. It says `ready` when all listen.
"""

import base64
import hashlib
import http.server
import json
import signal
import socket
import ssl
import sys
import threading

LOCK = threading.Lock()


def note(server, entry):
    with LOCK, open(server["log"], "a") as log:
        log.write(json.dumps(entry) + "\n")


def context(server):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(server["chain"], server["key"])
    if "minimum" in server:
        made.minimum_version = ssl.TLSVersion[server["minimum"]]
    if "maximum" in server:
        made.maximum_version = ssl.TLSVersion[server["maximum"]]
    if "ciphers" in server:
        made.set_ciphers(server["ciphers"])
    if "alpn" in server:
        made.set_alpn_protocols(server["alpn"])

    def named(connection, name, _context):
        connection.asked_for = name

    made.sni_callback = named
    return made


def web(connection, server):
    """HTTP/1.1: says what it was asked."""

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            note(server, {"method": self.command, "path": self.path, "body": body,
                          "name": getattr(connection, "asked_for", None), "version": connection.version()})
            answer = json.dumps({"method": self.command, "path": self.path, "got": body}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_):
            pass

    Answers(connection, connection.getpeername(), None)


def model_answer(path, asked):
    """What OpenAI's and Anthropic's interfaces say, as far as their clients need it; None elsewhere."""
    if path == "/v1/chat/completions":
        message = {"role": "assistant", "content": "answer to " + asked["messages"][-1]["content"]}
        return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    if path == "/v1/messages":
        content = [{"type": "text", "text": "answer to " + asked["messages"][-1]["content"]}]
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": content,
                "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    return None


IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::1:user/answer-to-boto3</Arn><UserId>U</UserId><Account>1</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""


def api(connection, server):
    """The interfaces that crews call, files, and a WebSocket that answers."""

    class Answers(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def __init__(self, *words):
            super().__init__(*words, directory=server.get("files"))

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            self.note(body)
            if self.headers.get("Host", "").startswith("sts."):
                return self.send("text/xml", IDENTITY)
            answer = model_answer(self.path.partition("?")[0], json.loads(body)) or {"text": "answer to " + body}
            return self.send("application/json", json.dumps(answer))

        def do_GET(self):
            self.note("")
            if self.headers.get("Upgrade", "").lower() == "websocket":
                return self.web_socket()
            if self.path.startswith("/say/"):
                return self.send("text/plain", "answer to " + self.path.removeprefix("/say/"))
            if self.path.startswith("/mirror/"):
                return self.send("application/json", json.dumps({"path": self.path, "headers": self.headers.items()}))
            return super().do_GET()

        def send(self, media, text):
            self.send_response(200)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def web_socket(self):
            """RFC 6455: one short text message comes, and one goes."""
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            head = self.rfile.read(6)
            text = bytes(byte ^ head[2 + at % 4] for at, byte in enumerate(self.rfile.read(head[1] & 127)))
            answer = b"answer to " + text
            self.wfile.write(bytes([0x81, len(answer)]) + answer)
            self.wfile.write(bytes([0x88, 0]))
            self.close_connection = True
            self.rfile.read(1)

        def note(self, body):
            note(server, {"method": self.command, "host": self.headers.get("Host"), "path": self.path, "body": body,
                          "headers": {name.lower(): value for name, value in self.headers.items()}})

        def log_message(self, *_):
            pass

    Answers(connection, connection.getpeername(), None)


def kv(connection, server):
    """A secret of a store with the interface of Vault's KV version 2, for who has its token."""
    lines = connection.makefile("rb")
    asked = [line for line in iter(lambda: lines.readline().strip(), b"")]
    may = ("x-vault-token: " + server["token"]).encode() in asked
    note(server, {"asked": asked[0].decode() if asked else "", "may": may})
    answer = json.dumps({"data": {"data": {"key": server["secret"]}, "metadata": {"version": 1}}}) if may else "{}"
    status = "200 OK" if may else "403 Forbidden"
    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n{answer}".encode())
    ended(connection)


def bulk(connection, server):
    """Takes a large body, answers with one as large, and notes what both were."""
    lines, length = connection.makefile("rb"), 0
    while line := lines.readline().strip():
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    got, sent, block = hashlib.sha256(), hashlib.sha256(), bytes(range(255)) * 4096
    left = length
    while left:
        more = lines.read(min(1 << 20, left))
        if not more:
            raise OSError("the body ends before its end")
        got.update(more)
        left -= len(more)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
    while left < length:
        one = block[: length - left]
        sent.update(one)
        connection.sendall(one)
        left += len(one)
    note(server, {"got": got.hexdigest(), "sent": sent.hexdigest()})


def greets(connection, server):
    """Speaks first, as SMTP does, then echoes lines until it is told QUIT."""
    connection.sendall(b"220 mail.test ESMTP\r\n")
    lines = connection.makefile("rb")
    for line in lines:
        note(server, {"line": line.decode()})
        if line.startswith(b"QUIT"):
            connection.sendall(b"221 bye\r\n")
            return
        connection.sendall(b"235 welcome\r\n" if line.startswith(b"AUTH") else b"250 " + line)


def echo(connection, server):
    """Sends back what it got, with the ALPN that was agreed on before it."""
    got = connection.recv(65536)
    note(server, {"alpn": connection.selected_alpn_protocol(), "bytes": len(got)})
    connection.sendall(got)


def cut(connection, _server):
    """A body without a length, of which the end is the connection's: without close_notify."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhalf of it")
    socket.socket.shutdown(connection, socket.SHUT_WR)


def whole(connection, _server):
    """The same, with close_notify."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nall of it")
    ended(connection)


def after_end(connection, server):
    """Answers only when the client has said that it has no more to say."""
    got = b""
    while more := connection.recv(65536):
        got += more
    note(server, {"bytes": len(got)})
    connection.sendall(b"you said %d bytes" % len(got))
    ended(connection)


def ended(connection):
    try:
        connection.settimeout(20)
        connection.unwrap()
    except OSError:
        pass


TALKS = {talk.__name__: talk for talk in (web, api, kv, bulk, greets, echo, cut, whole, after_end)}


def serve(server, listener):
    shown = context(server)

    def one(plain):
        try:
            plain.settimeout(60)
            with shown.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as connection:
                TALKS[server["talk"]](connection, server)
        except OSError as error:
            note(server, {"error": str(error)})

    while True:
        plain, _ = listener.accept()
        threading.Thread(target=one, args=(plain,), daemon=True).start()


def main():
    for server in json.loads(sys.argv[1]):
        listener = socket.create_server((server["address"], server["port"]), backlog=64)
        threading.Thread(target=serve, args=(server, listener), daemon=True).start()
    print("ready", flush=True)
    signal.pause()


main()
