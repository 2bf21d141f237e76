"""The clients' side: commands and transfers over SSH, timed by themselves. One JSON object on standard output.

ssh.py exec COUNT -- SSH ...          commands one behind the other, each with an exit status of its own
ssh.py master COUNT SOCKET -- SSH ... the same through one connection that stays (ControlMaster)
ssh.py down|up FILE OUT -- SSH ...    a file through `cat`, compared afterwards
ssh.py get|put FILE OUT -- SFTP ...   the same by SFTP
"""

import filecmp
import json
import os
import subprocess
import sys
import time


def commands(count, words):
    times, lost = [], 0
    for number in range(count):
        wanted, begin = number % 100, time.monotonic()
        ended = subprocess.run([*words, f"exit {wanted}"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        times.append((time.monotonic() - begin) * 1e3)
        if ended.returncode != wanted:
            lost += 1
            print(f"exit {wanted} came as {ended.returncode}: {ended.stderr!r}", file=sys.stderr)
    times.sort()
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[len(times) * 99 // 100], "lost": lost}


def master(count, socket, words):
    with_socket = [words[0], "-S", socket, *words[1:]]
    stays = subprocess.Popen([words[0], "-M", "-N", "-S", socket, *words[1:]], stdin=subprocess.DEVNULL)
    while not os.path.exists(socket):
        assert stays.poll() is None, "the master has ended"
        time.sleep(0.005)
    said = commands(count, with_socket)
    subprocess.run([*with_socket, "-O", "exit"], capture_output=True, check=False)
    stays.wait()
    return said


def transfer(way, file, out, words):
    begin = time.monotonic()
    if way == "down":
        with open(out, "wb") as to:
            ended = subprocess.run([*words, f"cat {file}"], stdin=subprocess.DEVNULL, stdout=to, check=False)
    elif way == "up":
        with open(file, "rb") as source:
            ended = subprocess.run([*words, f"cat >{out}"], stdin=source, check=False)
    else:
        batch = f"{way} {file} {out}\n".encode()
        # Behind the options: a batch forbids questions where nothing has allowed them before.
        client = [*words[:-1], "-q", "-b", "-", words[-1]]
        ended = subprocess.run(client, input=batch, stdout=subprocess.DEVNULL, check=False)
    seconds = time.monotonic() - begin
    same = ended.returncode == 0 and filecmp.cmp(file, out, shallow=False)
    if os.path.exists(out):
        os.unlink(out)
    return {"bytes": os.path.getsize(file), "seconds": seconds, "same": same}


at = sys.argv.index("--")
what, arguments, client = sys.argv[1], sys.argv[2:at], sys.argv[at + 1 :]
if what == "exec":
    told = commands(int(arguments[0]), client)
elif what == "master":
    told = master(int(arguments[0]), arguments[1], client)
else:
    told = transfer(what, *arguments, client)
print(json.dumps(told))
