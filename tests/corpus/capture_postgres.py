#!/usr/bin/env python3
"""Records sessions of a real PostgreSQL server, both sides in the order in which they came, into the folder postgres/.

Usage: capture_postgres.py PORT, of a server on 127.0.0.1 that trusts user "me" and has wal_level=logical.
Needs psql and pgbench, and Python's psycopg, psycopg2 and asyncpg. A recording begins behind AuthenticationOk; it is a row
of `C` or `S`, a length of two bytes, and so many bytes of the client or the server.
"""
import asyncio, os, pathlib, select, socket, struct, subprocess, sys, threading

HERE = pathlib.Path(__file__).parent / "postgres"
PORT = int(sys.argv[1])
BIN = "/usr/lib/postgresql/15/bin/"


class Relay:
    """Takes one connection, and keeps what both sides said."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(4)
        self.port = self.listener.getsockname()[1]
        self.sessions = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            self.sessions.append([])
            thread = threading.Thread(target=self.serve, args=(client, self.sessions[-1]), daemon=True)
            thread.start()
            self.thread = thread

    def serve(self, client, records):
        server = socket.create_connection(("127.0.0.1", PORT))
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(65535)
                other = server if ready is client else client
                if not data:
                    client.close(), server.close()
                    return
                records.append((b"C" if ready is client else b"S", data))
                other.sendall(data)

    def keep(self, name, which=-1):
        self.thread.join(5)
        records = self.sessions[which]
        # The first packet, and the letters that answer SSLRequest and GSSENCRequest, are not part of the conversation.
        while records[0][1][4:8] != b"\0\3\0\0":
            records = records[2:]
        records = records[1:]
        assert records[0][1].startswith(b"R\0\0\0\x08\0\0\0\0"), records[0]
        records[0] = (b"S", records[0][1][9:])
        data = b"".join(side + struct.pack(">H", len(piece)) + piece for side, piece in records if piece)
        (HERE / name).write_bytes(data)
        print(name, len(data))


def program(name, *argv, stdin=None, env=None):
    relay = Relay()
    environment = {**os.environ, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "LANG": "C", "TZ": "UTC", **(env or {})}
    argv = [word.replace("PORT", str(relay.port)) for word in argv]
    subprocess.run(argv, env=environment, input=stdin, timeout=20, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    relay.keep(name)


class Raw:
    """A client that says exactly what a test needs."""

    def __init__(self, name, **settings):
        self.name, self.relay = name, Relay()
        self.socket = socket.create_connection(("127.0.0.1", self.relay.port))
        self.rest = b""
        settings = {"user": "me", "database": "postgres", **settings}
        body = struct.pack(">I", 0x30000) + b"".join(f"{k}\0{v}\0".encode() for k, v in settings.items()) + b"\0"
        self.socket.sendall(struct.pack(">I", len(body) + 4) + body)
        self.until("Z")

    def say(self, *messages):
        self.socket.sendall(b"".join(messages))

    def until(self, tag):
        """Reads up to a message of this type; the end of the connection ends it too."""
        while True:
            while len(self.rest) >= 5 and len(self.rest) > (size := struct.unpack(">I", self.rest[1:5])[0]):
                told, self.rest = self.rest[:1].decode(), self.rest[size + 1:]
                if told == tag:
                    return
            piece = self.socket.recv(65535)
            if not piece:
                return
            self.rest += piece

    def end(self, terminate=True):
        if terminate:
            self.say(message("X"))
        self.socket.close()
        self.relay.keep(self.name)


def message(tag, body=b""):
    return tag.encode() + struct.pack(">I", len(body) + 4) + body


def text(value):
    return value.encode() + b"\0"


def Q(sql): return message("Q", text(sql))
def P(name, sql): return message("P", text(name) + text(sql) + b"\0\0")
def B(portal, name, *values, binary=False):
    cells = b"".join(struct.pack(">I", len(v)) + v.encode() for v in values)
    return message("B", text(portal) + text(name) + b"\0\0" + struct.pack(">H", len(values)) + cells +
                   (b"\0\1\0\1" if binary else b"\0\0"))
def D(kind, name): return message("D", kind.encode() + text(name))
def E(portal, rows=0): return message("E", text(portal) + struct.pack(">I", rows))
def C(kind, name): return message("C", kind.encode() + text(name))
def d(data): return message("d", data.encode())
S, H, c = message("S"), message("H"), message("c")


def raw():
    one = Raw("raw-error-skips-query.rec")
    one.say(P("", "select 1/0"), B("", ""), E(""), Q("select 'skipped'"), P("a", "select 2"), S, Q("select 3"))
    one.until("Z"), one.until("Z")
    one.end()

    one = Raw("raw-failed-parse-ends-unnamed.rec")
    one.say(P("", "select 1"), S)
    one.until("Z")
    one.say(P("", "refused by crewtap"), S)
    one.until("Z")
    one.say(B("", ""), E(""), S)
    one.until("Z")
    one.say(P("", "select 2"), S)
    one.until("Z")
    one.say(P("crewtap_refused", "refused by crewtap"), S)
    one.until("Z")
    one.say(B("", ""), E(""), S)
    one.until("Z")
    one.end()

    long = "n" * 63
    one = Raw("raw-names-are-cut.rec")
    one.say(P(long + "x", "select 1"), S)
    one.until("Z")
    one.say(C("S", long + "y"), P(long + "z", "select 2"), S)
    one.until("Z")
    one.say(B("", long + "x"), E(""), S)
    one.until("Z")
    one.end()

    one = Raw("raw-portals.rec")
    one.say(Q("begin"))
    one.until("Z")
    one.say(P("s", "select g from generate_series(1, 7) g"), B("p", "s", binary=True), D("P", "p"), E("p", 3), S)
    one.until("Z")
    one.say(E("p", 3), S)
    one.until("Z")
    one.say(E("p", 3), C("P", "p"), S)
    one.until("Z")
    one.say(B("p", "s"), B("p", "s"), E("p"), S)
    one.until("Z")
    one.say(Q("rollback"))
    one.until("Z")
    one.say(D("S", "s"), B("", "s", binary=True), E(""), S)
    one.until("Z")
    one.end()

    one = Raw("raw-copy.rec")
    one.say(Q("create temp table t (a int, b text); create temp view v as select * from t"))
    one.until("Z")
    one.say(Q("copy t from stdin"))
    one.until("G")
    one.say(d("1\tone\n"), d("2\ttwo\n3\tth"), d("ree\n"), c)
    one.until("Z")
    # libpq's way: Sync before it knows.
    one.say(P("", "copy t from stdin"), B("", ""), E(""), S)
    one.until("G")
    one.say(d("4\tfour\n"), c, S)
    one.until("Z")
    # All at once.
    one.say(P("", "copy t from stdin"), B("", ""), E(""), S, d("5\tfive\n"), H, S, c, S)
    one.until("Z")
    # It fails before it reads: the early Sync is answered.
    one.say(P("", "copy v from stdin"), B("", ""), E(""), S)
    one.until("Z")
    one.say(d("6\tsix\n"), c, S)
    one.until("Z")
    # It fails in the middle, and the rest is dropped.
    one.say(P("", "copy t from stdin"), B("", ""), E(""), S)
    one.until("G")
    one.say(d("no number\n"), *[d("7\tseven\n")] * 3000, c, S)
    one.until("Z")
    one.say(Q("copy t from stdin"))
    one.until("G")
    one.say(d("8\teight\n"), message("f", text("no more")))
    one.until("Z")
    one.say(Q("copy t to stdout; select 1; copy t to stdout (format binary)"))
    one.until("Z")
    one.say(P("", "copy t to stdout"), B("", ""), E(""), S)
    one.until("Z")
    one.end()

    one = Raw("raw-copy-violated.rec")
    one.say(Q("create temp table t (a int)"))
    one.until("Z")
    one.say(P("", "copy t from stdin"), B("", ""), E(""), S)
    one.until("G")
    one.say(P("", "select 1"), S)
    one.until("never")
    one.end(terminate=False)

    one = Raw("raw-function-call.rec")
    call = lambda oid, *args: message("F", struct.pack(">IHHH", oid, 1, 1, len(args)) + b"".join(
        struct.pack(">I", len(arg)) + arg for arg in args) + b"\0\1")
    one.say(call(1397, struct.pack(">i", -5)), call(1397), call(1, b""))
    one.until("Z"), one.until("Z"), one.until("Z")
    one.end()

    one = Raw("raw-late-error.rec")
    one.say(Q("create temp table t (a int unique deferrable initially deferred)"))
    one.until("Z")
    one.say(P("", "insert into t values (1), (1)"), B("", ""), E(""), S, Q("do $$ begin raise notice 'n'; end $$"), Q(""))
    one.until("Z"), one.until("Z"), one.until("Z")
    one.say(P("", ""), B("", ""), D("P", ""), E(""), S, Q("listen x; notify x, 'load'; select 1; insert into t values (3)"))
    one.until("Z"), one.until("Z")
    one.end()

    one = Raw("raw-unknown-tag.rec")
    one.say(Q("select 1"), message("y", b"abc"))
    one.until("never")
    one.end(terminate=False)

    one = Raw("raw-wide.rec")
    one.say(Q("select repeat('x', 34000), 1 union all select 'a', 2"))
    one.until("Z")
    one.say(P("", "select $1::text || '!'"), D("S", ""), B("", "", "z" * 33000), E(""), S)
    one.until("Z")
    one.end()

    one = Raw("raw-replication.rec", replication="database")
    one.say(Q("IDENTIFY_SYSTEM"))
    one.until("Z")
    one.say(Q('CREATE_REPLICATION_SLOT "s" TEMPORARY LOGICAL test_decoding'))
    one.until("Z")
    one.say(Q('START_REPLICATION SLOT "s" LOGICAL 0/0'))
    one.until("W")
    one.say(d("r" + "\0" * 33), c)
    one.until("c")
    one.end()


def clients():
    at = ["-h", "127.0.0.1", "-p", "PORT", "-U", "me", "postgres"]
    script = b"""select 1, 'two' as b;
create temp table t (a int, b text);
\\copy t from program 'printf "1\\\\tx\\\\n2\\\\ty\\\\n"'
\\copy t to '/dev/null'
select * from t \\gdesc
select broken;
\\set FETCH_COUNT 1
select * from t;
select $1::int + $2 \\bind 3 4 \\g
"""
    program("psql.rec", BIN + "psql", "-X", *at, stdin=script)
    folder = HERE.parent
    query = folder / "bench.sql"
    query.write_text("\\startpipeline\nselect 1 as a;\nselect 2.5 as b;\n\\endpipeline\n")
    for mode in ("extended", "prepared"):
        program(f"pgbench-{mode}-pipeline.rec", BIN + "pgbench", "-n", "-t", "3", "-M", mode, "-f", str(query), *at)
    query.write_text("\\set a random(1, 9)\nselect :a * 2;\n")
    for mode in ("simple", "extended", "prepared"):
        program(f"pgbench-{mode}.rec", BIN + "pgbench", "-n", "-t", "3", "-M", mode, "-f", str(query), *at)
    query.unlink()

    import asyncpg, psycopg, psycopg2
    dsn = lambda relay: f"host=127.0.0.1 port={relay.port} user=me dbname=postgres sslmode=disable gssencmode=disable"

    relay = Relay()
    with psycopg.connect(dsn(relay), prepare_threshold=1) as connection:
        cursor = connection.cursor()
        for n in range(3):
            cursor.execute("select %s::int, %b::bytea, now() > now()", (n, b"\0\1"))
        connection.execute("create temp table t (a int, b text)")
        with cursor.copy("copy t from stdin") as copy:
            copy.write_row((1, "x")), copy.write_row((2, None))
        with cursor.copy("copy t to stdout (format binary)") as copy:
            list(copy)
        connection.commit()
        with connection.pipeline():
            cursor.executemany("insert into t values (%s, %s)", [(n, str(n)) for n in range(5)])
            connection.execute("select count(*) from t")
        try:
            with connection.pipeline():
                connection.execute("select 1/0")
                connection.execute("select 'skipped'")
        except psycopg.Error:
            connection.rollback()
        with connection.cursor("named") as named:
            named.execute("select g from generate_series(1, 5) g")
            named.fetchmany(2)
    connection.close()
    relay.keep("psycopg3.rec")

    relay = Relay()
    connection = psycopg2.connect(dsn(relay))
    cursor = connection.cursor()
    cursor.execute("select %s, %s", (1, "a'b"))
    cursor.execute("create temp table t (a int); insert into t values (1)")
    connection.commit()
    connection.close()
    relay.keep("psycopg2.rec")

    async def ask(relay):
        connection = await asyncpg.connect(host="127.0.0.1", port=relay.port, user="me", database="postgres", ssl=False)
        for n in range(2):
            await connection.fetch("select $1::int as n, $2::text as t", n, "x")
        await connection.execute("create temp table t (a int, b text)")
        await connection.executemany("insert into t values ($1, $2)", [(n, str(n)) for n in range(20)])
        await connection.copy_records_to_table("t", records=[(1, "r"), (2, "s")])
        async with connection.transaction():
            async for _ in connection.cursor("select a from t", prefetch=7):
                pass
        try:
            await connection.fetch("select $1::int / 0", 1)
        except asyncpg.PostgresError:
            pass
        await connection.close()

    relay = Relay()
    asyncio.run(ask(relay))
    relay.keep("asyncpg.rec")


HERE.mkdir(exist_ok=True)
raw()
clients()
