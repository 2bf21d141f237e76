# Appended to raw.py: what a client tries that wants something run which is not what was judged. Arguments: port, case.
port, case = int(sys.argv[1]), sys.argv[2]


def codes(said):
    """Tags, and the SQLSTATE of an error."""
    return [tag.decode() + (body.split(b"\0C", 1)[1][:5].decode() if tag == b"E" else "") for tag, body in said]


def flat(said):
    return " ".join(codes(said))


# Read with standard_conforming_strings as it is now on, it ends the string and drops a table; read with it off, it is one string.
HIDDEN = r"SELECT '\'; DROP TABLE orders; --'"

if case == "setting":
    client = Client(port)
    print(flat(client.ask(query("SET standard_conforming_strings = off"))))
    print(flat(client.ask(query(HIDDEN))))
    # On again, and the text behind it before the server could say so.
    client.say(query("SET standard_conforming_strings = on"), query(HIDDEN))
    print(flat(client.until(b"Z")), "|", flat(client.until(b"Z")))
elif case == "rollback":
    client = Client(port)
    client.ask(query("BEGIN"))
    client.ask(query("SET standard_conforming_strings = off"))
    # What fails ends the transaction, and takes the setting back.
    client.say(parse("SELECT nothing"), SYNC, query("ROLLBACK"), query(HIDDEN))
    print(" | ".join(flat(client.until(b"Z")) for _ in range(3)))
elif case == "portal":
    client = Client(port)
    client.ask(query("BEGIN"))
    client.ask(parse("SET standard_conforming_strings = off", "s"), bind((), "s", "p"), SYNC)
    # Everything is answered. One string as strings are read now; behind the SET it ends at the second quote.
    client.say(message(b"E", b"p\0\0\0\0\0"), query(r"SELECT '\''; DROP TABLE orders; --'"))
    print(flat(client.until(b"Z")))
elif case == "settings":
    for words in ({"search_path": "public"}, {"role": "postgres"}, {"options": "-c role=postgres"}, {"options": "-c a=b\\ c"}, {}):
        connection = connect(port)
        connection.sendall(startup(**words))
        said = b""
        while b"Z\0\0\0\5" not in said and (more := connection.recv(65536)):
            said += more
        print(said[said.index(b"\0C") + 2:][:5].decode() if said[:1] == b"E" else "in")
elif case == "unknown":
    client = Client(port)
    client.say(message(b"y", b"DROP TABLE orders"))
    print(flat(client.until(b"Z")))
elif case == "large":
    client = Client(port)
    client.say(message(b"y", b"DROP TABLE orders" * 4000))
    print(flat(client.until(b"Z")))
elif case == "slow":
    with connect(port) as connection:
        packet = startup()
        for part in (packet[:3], packet[3:7], packet[7:]):
            connection.sendall(part)
            time.sleep(0.4)
        said = b""
        while b"Z\0\0\0\5" not in said and (more := connection.recv(65536)):
            said += more
        connection.sendall(query("SELECT 'slowly'") + END)
        while connection.recv(65536):
            pass
elif case == "cancel":
    with connect(port) as connection:
        connection.sendall(struct.pack(">III", 16, 80877102, 1) + b"word")
        connection.shutdown(socket.SHUT_WR)
        print(connection.recv(1))
elif case == "turns":
    for code, size in ((80877103, 8), (80877104, 8), (80877103, 9)):
        with connect(port) as connection:
            request, said = struct.pack(">II", size, code) + b"\0" * (size - 8), b""
            # Letters, then the last word, whole.
            while b"E" not in said:
                connection.sendall(request)
                said += connection.recv(4096)
            while b"\0M" not in said:
                said += connection.recv(4096)
            print(said[:said.index(b"E")].decode(), said[said.index(b"\0C") + 2:][:5].decode())
elif case == "version":
    with connect(port) as connection:
        body = struct.pack(">I", 0x00030001) + b"user\0trusted\0database\0shop\0\0"
        connection.sendall(struct.pack(">I", len(body) + 4) + body)
        said = b""
        while b"Z\0\0\0\5" not in said and (more := connection.recv(65536)):
            said += more
        connection.sendall(query("SELECT 'in version 3.1'") + END)
        while connection.recv(65536):
            pass
