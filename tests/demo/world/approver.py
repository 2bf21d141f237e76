"""A person of the company who approves what waits for it: reads what would run, by crewtap's HTTP interface, and says yes once.

Usage: approver.py ADDRESS TOKEN-FILE
"""

import json
import sys
import time
import urllib.error
import urllib.request


def ask(address, token, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", data, headers), timeout=20) as answer:
        return json.loads(answer.read() or "null")


def main():
    address, token = sys.argv[1], open(sys.argv[2], encoding="utf-8").read().strip()
    while True:
        try:
            waiting = ask(address, token, "/approvals")["approvals"]
        except (urllib.error.URLError, OSError):
            # The agent has not begun yet.
            waiting = []
        if waiting:
            break
        time.sleep(0.2)
    first = waiting[0]
    print(f"approver: {first['identity']['name']} wants to {first['verb']} on {first['target']}: {first['subject']}", flush=True)
    ask(address, token, f"/approvals/{first['id']}/approve", {"reason": "the old report is wrong"})
    print("approver: approved: the old report is wrong", flush=True)


main()
