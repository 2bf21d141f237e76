"""A person of the company who approves what waits for it: reads what would run, by crewtap's HTTP interface, and says yes to a
statement and to a command.

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
    answered = set()
    # The statement and the command that the company's policies hold.
    while len(answered) < 2:
        try:
            waiting = ask(address, token, "/approvals")["approvals"]
        except (urllib.error.URLError, OSError):
            # The agent has not begun yet.
            waiting = []
        for one in waiting:
            if one["id"] in answered:
                continue
            print(f"approver: {one['identity']['name']} wants to {one['verb']} on {one['target']}: {one['subject']}", flush=True)
            reason = "the old report is wrong" if one["verb"] == "query" else "nobody picks today"
            ask(address, token, f"/approvals/{one['id']}/approve", {"reason": reason})
            print(f"approver: approved: {reason}", flush=True)
            answered.add(one["id"])
        time.sleep(0.2)


main()
