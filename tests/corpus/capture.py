#!/usr/bin/env python3
"""Records the corpus: real programs talk to listeners on loopback, and their first bytes are kept.

Run it in a namespace without a route out, as root, from this directory:
    unshare -nm sh -c 'ip link set lo up && python3 capture.py'
Needs curl, openssl, wget, node, java, psql, postgres, uv and Python's dnslib; a program that is not there is named
and left out. All credentials in here are made up.
"""
import os, pathlib, shutil, socket, subprocess, sys, tempfile, threading, time

HERE = pathlib.Path(__file__).parent
NAME = "api.example.com"


def listener(answer=b""):
    """A listener that keeps what each client sends until it pauses; returns its port and the list."""
    seen, sock = [], socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(8)

    def serve():
        while True:
            peer, _ = sock.accept()
            peer.settimeout(0.5)
            data = b""
            try:
                while piece := peer.recv(65536):
                    data += piece
            except OSError:
                pass
            if answer:
                peer.sendall(answer)
            peer.close()
            seen.append(data)

    threading.Thread(target=serve, daemon=True).start()
    return sock.getsockname()[1], seen


def run(argv, **kw):
    if not shutil.which(argv[0]):
        print("left out, not installed:", argv[0], file=sys.stderr)
        return False
    try:
        subprocess.run(argv, timeout=20, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)
    except subprocess.TimeoutExpired:
        pass
    return True


def keep(folder, name, data):
    if data:
        (HERE / folder / name).write_bytes(data)
        print(folder, name, len(data))
    else:
        print("nothing came:", folder, name, file=sys.stderr)


def capture(folder, name, argv, answer=b"", **kw):
    port, seen = listener(answer)
    if run([word.replace("PORT", str(port)) for word in argv], **kw):
        time.sleep(0.7)
        keep(folder, name, seen[0] if seen else b"")


def tls():
    client = ["openssl", "s_client", "-connect", "127.0.0.1:PORT"]
    capture("tls", "openssl-sni.bin", [*client, "-servername", NAME])
    capture("tls", "openssl-alpn.bin", [*client, "-servername", NAME, "-alpn", "h2,http/1.1"])
    capture("tls", "openssl-tls12.bin", [*client, "-servername", NAME, "-tls1_2"])
    capture("tls", "openssl-no-sni.bin", [*client, "-noservername"])
    capture("tls", "openssl-capital.bin", [*client, "-servername", "API.Example.COM"])
    resolve = ["--resolve", f"{NAME}:PORT:127.0.0.1", "-k"]
    capture("tls", "curl.bin", ["curl", *resolve, f"https://{NAME}:PORT/"])
    capture("tls", "curl-http11.bin", ["curl", "--http1.1", *resolve, f"https://{NAME}:PORT/"])
    capture("tls", "curl-address.bin", ["curl", "-k", "https://127.0.0.1:PORT/"])
    code = "import socket,ssl,sys;c=ssl.create_default_context();c.check_hostname=False;c.verify_mode=0;ALPN" \
           f"c.wrap_socket(socket.create_connection(('127.0.0.1',PORT)),server_hostname='{NAME}')"
    capture("tls", "python.bin", ["python3", "-c", code.replace("ALPN", "")])
    capture("tls", "python-alpn.bin", ["python3", "-c", code.replace("ALPN", "c.set_alpn_protocols(['http/1.1']);")])
    node = f"require('tls').connect({{port:PORT,host:'127.0.0.1',servername:'{NAME}',rejectUnauthorized:false,ALPNProtocols:['h2']}}).on('error',()=>{{}})"
    capture("tls", "node.bin", ["node", "-e", node])
    capture("tls", "wget-gnutls.bin", ["wget", "-t1", "-T3", "--no-check-certificate", "-O-", "https://localhost:PORT/"])
    capture("tls", "uv-rustls.bin", ["uv", "pip", "install", "--no-cache", "--target", "/tmp/none", "--index-url", "https://localhost:PORT/simple", "x"])
    if shutil.which("java"):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, "C.java")
            source.write_text("public class C { public static void main(String[] a) throws Exception { "
                              "new java.net.URL(\"https://localhost:\" + a[0] + \"/\").openStream(); } }")
            capture("tls", "java.bin", ["java", str(source), "PORT"])


def http():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: session=made-up-cookie; HttpOnly\r\nConnection: close\r\n\r\nok"
    url = "http://127.0.0.1:PORT"
    curl = ["curl", "-s"]
    capture("http", "curl-basic.bin", [*curl, "-u", "me:made-up-pw", f"{url}/a"], answer)
    capture("http", "curl-bearer-post.bin", [*curl, "-H", "Authorization: Bearer made-up-token", "-d", '{"q":1}', f"{url}/v1/x?api_key=made-up-key&n=1"], answer)
    capture("http", "curl-cookie.bin", [*curl, "-b", "sid=made-up-cookie", "-H", "X-Api-Key: made-up-key", f"{url}/"], answer)
    capture("http", "curl-proxy.bin", [*curl, "-x", "http://me:made-up-pw@127.0.0.1:PORT", "http://h.example:8080/?token=made-up-token"], answer)
    capture("http", "curl-h2c.bin", [*curl, "-m", "2", "--http2-prior-knowledge", "-u", "me:made-up-pw", f"{url}/a"])
    capture("http", "wget-basic.bin", ["wget", "-q", "-O-", "--auth-no-challenge", "--user=me", "--password=made-up-pw", f"{url}/"], answer)
    code = f"import urllib.request as u;u.urlopen(u.Request('{url}/?access_token=made-up-token',headers={{'Authorization':'Token made-up-token'}})).read()"
    capture("http", "python-urllib.bin", ["python3", "-c", code], answer)
    capture("http", "node-fetch.bin", ["node", "-e", f"fetch('{url}/x?key=made-up-key',{{method:'POST',headers:{{'api-key':'made-up-key'}},body:'b'}})"], answer)
    keep("http", "server-answer.bin", answer)


def dns():
    import dnslib
    queries = {}
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))

    def serve():
        while True:
            data, peer = udp.recvfrom(65536)
            query = dnslib.DNSRecord.parse(data)
            name, kind = str(query.q.qname).rstrip("."), dnslib.QTYPE[query.q.qtype]
            reply = query.reply()
            if name.startswith("missing"):
                reply.header.rcode = dnslib.RCODE.NXDOMAIN
            elif kind in ("A", "AAAA"):
                zone = f"{name}. 60 CNAME edge.cdn.example.\nedge.cdn.example. 60 A 192.0.2.7\nedge.cdn.example. 60 A 192.0.2.8"
                if kind == "AAAA":
                    zone = f"{name}. 60 AAAA 2001:db8::7"
                reply.add_answer(*dnslib.RR.fromZone(zone))
            elif kind == "TXT":
                reply.add_answer(*dnslib.RR.fromZone(f'{name}. 60 TXT "v=spf1 -all"'))
            elif kind == "SRV":
                reply.add_answer(*dnslib.RR.fromZone(f"{name}. 60 SRV 1 2 5432 db.example."))
            queries.setdefault((name, kind), (data, reply.pack()))
            udp.sendto(reply.pack(), peer)

    threading.Thread(target=serve, daemon=True).start()
    with tempfile.NamedTemporaryFile("w") as conf:
        conf.write("nameserver 127.0.0.1\noptions edns0\n")
        conf.flush()
        os.chmod(conf.name, 0o644)
        subprocess.run(["mount", "--bind", conf.name, os.path.realpath("/etc/resolv.conf")], check=True)
        run(["getent", "ahosts", "glibc.example.com"])
        run(["getent", "hosts", "missing.example.com"])
        run(["node", "-e", "const d=require('dns');d.setServers(['127.0.0.1']);d.resolve4('cares.example.com',()=>{});d.resolveTxt('txt.example.com',()=>{});d.resolveSrv('_pg._tcp.example.com',()=>{})"])
        run(["curl", "-s", "-m", "1", "http://Curl.Example.Com:9/"])
        time.sleep(1)
        subprocess.run(["umount", os.path.realpath("/etc/resolv.conf")], check=True)
    for (name, kind), (query, reply) in sorted(queries.items()):
        keep("dns", f"{name.lower()}-{kind}.query.bin", query)
        keep("dns", f"{name.lower()}-{kind}.reply.bin", reply)


def relay(target):
    """A relay that keeps what the client sends."""
    sock, seen = socket.create_server(("127.0.0.1", 0)), []

    def copy(source, to, into):
        try:
            while piece := source.recv(65536):
                if into is not None:
                    into.extend(piece)
                to.sendall(piece)
        except OSError:
            pass
        try:
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve():
        while True:
            peer, _ = sock.accept()
            up, data = socket.create_connection(("127.0.0.1", target)), bytearray()
            seen.append(data)
            threading.Thread(target=copy, args=(peer, up, data), daemon=True).start()
            threading.Thread(target=copy, args=(up, peer, None), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return sock.getsockname()[1], seen


def pg():
    postgres = shutil.which("postgres")
    folder = tempfile.mkdtemp(prefix="corpus-pg-")
    shutil.chown(folder, "nobody")
    as_user = ["runuser", "-u", "nobody", "--"]
    found = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None) or shutil.which("initdb")
    if not found:
        print("left out, not installed: initdb", file=sys.stderr)
        return
    bin_folder = pathlib.Path(found).parent
    pw = pathlib.Path(folder, "pw")
    pw.write_text("made-up-pw\n")
    pw.chmod(0o644)
    subprocess.run([*as_user, bin_folder / "initdb", "-D", f"{folder}/d", "-U", "me", "-A", "scram-sha-256", f"--pwfile={pw}"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    server = subprocess.Popen([*as_user, bin_folder / "postgres", "-D", f"{folder}/d", "-p", "54999", "-k", folder, "-c", "listen_addresses=127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        for _ in range(100):
            if subprocess.run([bin_folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", "54999"]).returncode == 0:
                break
            time.sleep(0.1)
        for name, method in (("scram", "scram-sha-256"), ("cleartext", "password")):
            hba = pathlib.Path(folder, "d", "pg_hba.conf")
            hba.write_text(f"host all all 127.0.0.1/32 {method}\n")
            subprocess.run([*as_user, bin_folder / "pg_ctl", "reload", "-D", f"{folder}/d"], stdout=subprocess.DEVNULL, cwd="/")
            time.sleep(0.5)
            port, seen = relay(54999)
            for ssl in ("disable", "prefer"):
                seen.clear()
                run(["psql", f"host=127.0.0.1 port={port} user=me dbname=postgres password=made-up-pw sslmode={ssl}", "-c", "select 41 + 1"])
                time.sleep(0.3)
                keep("pg", f"psql-{name}-{ssl}.bin", bytes(seen[0]) if seen else b"")
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    for part in (tls, http, dns, pg):
        if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
            part()
