"""Captures what OpenSSH's sftp and its server say to each other, as recordings of both sides: `C` or `S`, a length of two bytes, and
so many bytes. Nothing of it touches a network: `sftp -D` speaks to the server through pipes.

    python3 capture_sftp.py      in this directory; writes sftp/
"""

import os
import subprocess
import sys
import tempfile
import threading

SERVER = "/usr/lib/openssh/sftp-server"
BATCHES = {
    "files": "put small a\nput -p small b\nget a got\nchmod 600 a\nreget a got\nrename a c\nln -s c d\nrm b\nrm c\n",
    "directories": "mkdir x\ncd x\nput small y\nls -la\nls\ndf\ncd ..\n-rmdir x\nrm x/y\nrmdir x\npwd\n",
    "refused": "-get none\n-put small /proc/none\n-rm none\n-rename none other\n-mkdir /proc/x\n-ls none\n",
}


def relay(out):
    """Stands between both, as the server that sftp starts."""
    server = subprocess.Popen([SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lock, said = threading.Lock(), open(out, "wb")

    def move(side, source, sink):
        while more := os.read(source, 60000):
            with lock:
                said.write(side + len(more).to_bytes(2, "big") + more)
                said.flush()
            while more:
                more = more[os.write(sink, more) :]
        os.close(sink)

    up = threading.Thread(target=move, args=(b"C", 0, server.stdin.fileno()))
    up.start()
    move(b"S", server.stdout.fileno(), 1)
    os._exit(server.wait())


def main():
    for name, batch in BATCHES.items():
        out = os.path.abspath(f"sftp/{name}.bin")
        with tempfile.TemporaryDirectory() as place:
            with open(f"{place}/small", "w", encoding="ascii") as file:
                file.write("a line\n" * 20)
            wrapper = f"{place}/server"
            with open(wrapper, "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\nexec {sys.executable} {os.path.abspath(__file__)} {out}\n")
            os.chmod(wrapper, 0o755)
            subprocess.run(["sftp", "-q", "-D", wrapper, "-b", "-"], input=batch.encode(), cwd=place, check=False)


if len(sys.argv) > 1:
    relay(sys.argv[1])
else:
    main()
