"""HTTP and HTTPS listeners for the demo's scripted services."""

import base64
import gzip
import http.server
import json
import socket
import socketserver
import threading


class Exchange(http.server.BaseHTTPRequestHandler):
    """One request; subclasses answer by `reply(method, path, body) -> (status, value)`."""

    protocol_version = "HTTP/1.1"
    # Headers and body would otherwise wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    # What was asked and answered goes here.
    requests = None
    name = ""

    def log_message(self, *_):
        pass

    def served(self):
        self.asked, self.answered, self.status = b"", bytearray(), 0
        self.respond()
        self.requests.write({
            "server": self.name, "method": self.command, "path": self.path, "status": self.status,
            "request": base64.b64encode(self.asked).decode(), "response": base64.b64encode(self.answered).decode(),
        })

    def send_response(self, code, message=None):
        self.status = code
        super().send_response(code, message)

    def read_body(self):
        body = self.read_coded_body()
        self.asked = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        return self.asked

    def read_coded_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, status, value, media_type="application/json"):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.answered += body

    def chunk(self, data):
        """One chunk of a streamed answer, sent at once; an empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
        self.answered += data

    def respond(self):
        self.send(*self.reply(self.command, self.path, self.read_body()))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = served


def listen(name, addresses, port, exchange, logs, tls=None):
    """Binds `addresses` and serves `exchange` there, over TLS where a context is given."""

    accepted, requests = logs
    exchange = type("Named", (exchange,), {"name": name, "requests": requests})

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def server_bind(self):
            # HTTPServer's own would look the address up, in the log of our own name server.
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = self.server_address[:2]

        def get_request(self):
            connection, peer = super().get_request()
            accepted.note(name, connection, peer)
            if tls:
                # The handshake happens at the first read, in the connection's own thread.
                connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, peer

        def handle_error(self, request, client_address):
            # A client that hangs up, or does not trust our CA, is no error of this server.
            pass

    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = type("Bound", (Server,), {"address_family": family})((address, port), exchange)
        threading.Thread(target=server.serve_forever, daemon=True).start()
