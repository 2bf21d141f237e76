# One session that does a bit of everything. Argument: the port.


def execute(portal="", rows=0):
    return message(b"E", portal.encode() + b"\0" + struct.pack(">I", rows))


def describe(name):
    return message(b"D", b"S" + name.encode() + b"\0")


def copy(data):
    return message(b"d", data)


def call(function, *arguments):
    """A function by its number: arguments and result in binary."""
    body = struct.pack(">IHHH", function, 1, 1, len(arguments))
    body += b"".join(struct.pack(">I", len(argument)) + argument for argument in arguments)
    return message(b"F", body + struct.pack(">H", 1))


def number(value):
    return struct.pack(">I", value)


COPY_DONE = message(b"c")
# Signature, flags, no extension; one row of one integer; the end.
BINARY = b"PGCOPY\n\xff\r\n\0" + number(0) + number(0) + struct.pack(">HII", 1, 4, 77) + b"\xff\xff"

client = Client(int(sys.argv[1]))


def step(name, *messages):
    said = client.ask(*messages)
    print(name, seen(said), sep=": ", flush=True)
    return said


def copy_in(name, sql, *messages):
    client.say(query(sql))
    client.until(b"G")
    step(name, *messages)


step("several", query("SELECT 1 AS one; SELECT id FROM customers ORDER BY id; UPDATE orders SET article = 'C' WHERE id > 1002"))
step("empty", query(""))
step("prepare", parse("SELECT name FROM customers WHERE id = $1", "named"), describe("named"), SYNC)
step("run", bind([b"1"], "named"), execute(), SYNC)
step("run again", bind([b"2"], "named"), execute(), SYNC)
step("describe", parse("SELECT article FROM orders WHERE amount > $1", "never"), describe("never"), SYNC)
step("begin", query("BEGIN"))
step("fetch", parse("SELECT id FROM orders ORDER BY id"), bind([], portal="part"), execute("part", 3), SYNC)
step("fetch more", execute("part", 3), SYNC)
step("commit", query("COMMIT"))
step("copy out", query("COPY (SELECT id, name FROM customers WHERE id < 3 ORDER BY id) TO STDOUT"))
step("copy out binary", query("COPY (SELECT 77) TO STDOUT (FORMAT binary)"))
step("table", query("CREATE TEMP TABLE target (id int)"))
copy_in("copy in", "COPY target FROM STDIN", copy(b"11\n1"), copy(b"2\n"), COPY_DONE)
copy_in("copy in binary", "COPY target FROM STDIN (FORMAT binary)", copy(BINARY), COPY_DONE)
copy_in("copy fails", "COPY target FROM STDIN", copy(b"13\n"), message(b"f", b"changed my mind\0"))
copy_in("copy is wrong", "COPY target FROM STDIN", copy(b"fourteen\n"), COPY_DONE)
step("count", query("SELECT sum(id) FROM target"))
step("listen", query("LISTEN news"))
step("notify", query("NOTIFY news, 'extra, extra'"))
step("notice", query("DO $$ BEGIN RAISE NOTICE 'read all about it'; END $$"))
step("function", call(177, number(40), number(2)))
made = step("large object", query("BEGIN; SELECT lo_from_bytea(0, 'a large object')"))
object_number = next(int(body[6:]) for tag, body in made if tag == b"D")
opened = step("open", call(952, number(object_number), number(0x40000)))
descriptor = next(body[4:] for tag, body in opened if tag == b"V")
print(next(body[4:] for tag, body in client.ask(call(954, descriptor, number(100))) if tag == b"V").decode())
step("end", query("COMMIT"))
step("failing bind", parse("SELECT 1 + $1::int AS first"), bind([b"1"]), execute(),
     parse("SELECT 2 + $1::int AS second", "second"), bind([b"two"], "second"), execute(),
     parse("SELECT 3 + $1::int AS third"), bind([b"3"]), execute(), SYNC)
step("after", query("SELECT 'still here'"))
step("latin", query("SET client_encoding = 'LATIN1'"))
step("umlaut", message(b"Q", "SELECT id FROM customers WHERE name LIKE 'Mü%'\0".encode("latin-1")))
client.say(END)
