"""A scripted stand-in for api.openai.com: chat completions with tool calls, streamed and not, and token counts.

It plays a fixed script: which task is being worked on is read from the prompt, and how far it is from the number of
tool calls that the conversation already holds.
"""

import itertools
import json
import time

from web import Exchange

# For each task, by a phrase of its description: the turns of tool calls, then the final answer.
SCRIPT = {
    "Collect the open orders": (
        [
            [("query_orders", {"sql": "SELECT id, customer_id, article, amount, paid_with FROM orders"
                                      " WHERE status = 'open' AND amount > 1000 ORDER BY id"})],
            [("customer_register", {"customer_id": 7731}), ("customer_register", {"customer_id": 7740})],
        ],
        "1001: 1840.00 EUR, Anders Tooling; 1004: 2215.50 EUR, Brandt and Sons",
    ),
    "Check the stock of the ordered articles": (
        [
            [("stock_level", {"article": "A-100"}), ("stock_level", {"article": "B-200"})],
            [("run_on_warehouse_host", {"command": "df -P / | tail -n 1; cat /proc/loadavg"})],
            [("run_on_warehouse_host", {"command": "rm -f picking.lock; echo the lock is gone"})],
        ],
        "A-100: 12 in stock; B-200: none. The host is healthy.",
    ),
    "File a report": (
        [
            [("query_orders", {"sql": "DELETE FROM reports WHERE order_id = 1004"})],
            [("file_report", {"order_id": 1004, "finding": "B-200 is out of stock"})],
        ],
        "Report 1 is filed: order 1004 cannot be delivered.",
    ),
}

counter = itertools.count(1)


def next_turn(messages):
    """(tool calls, text): exactly one of them is set."""
    prompt = " ".join(str(m.get("content")) for m in messages if m.get("role") == "user")
    tasks = [task for task in SCRIPT if f"Current Task: {task}" in prompt]
    if not tasks:
        return None, "I have nothing to do."
    turns, final = SCRIPT[tasks[-1]]
    done = sum(1 for m in messages if m.get("role") == "assistant" and m.get("tool_calls"))
    return (turns[done], None) if done < len(turns) else (None, final)


def tool_calls(calls):
    return [
        {"id": f"call_{next(counter):04}", "type": "function",
         "function": {"name": name, "arguments": json.dumps(arguments)}}
        for name, arguments in calls
    ]


class OpenAi(Exchange):
    # The one key that is taken; any is where the file is not there.
    key_file = ""

    def is_known(self):
        try:
            with open(self.key_file, encoding="utf-8") as file:
                return self.headers.get("Authorization") == f"Bearer {file.read()}"
        except FileNotFoundError:
            return True

    def respond(self):
        body = self.read_body()
        if not self.is_known():
            self.send(401, {"error": {"message": "Incorrect API key provided", "type": "invalid_request_error"}})
            return
        if self.path == "/v1/responses/input_tokens":
            self.send(200, {"object": "response.input_tokens", "input_tokens": len(body) // 4})
        elif self.path == "/v1/models":
            self.send(200, {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]})
        elif self.path != "/v1/chat/completions":
            self.send(404, {"error": {"message": f"unknown url {self.path}", "type": "invalid_request_error"}})
        else:
            self.complete(json.loads(body))

    def complete(self, request):
        calls, text = next_turn(request["messages"])
        calls = tool_calls(calls) if calls else None
        head = {"id": f"chatcmpl-{next(counter):06}", "created": int(time.time()), "model": request["model"]}
        reason = "tool_calls" if calls else "stop"
        usage = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
        if request.get("stream"):
            self.stream(head, calls, text, reason, usage)
            return
        message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        self.send(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def stream(self, head, calls, text, reason, usage):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas = [{"role": "assistant", "content": None if calls else ""}]
        for index, call in enumerate(calls or []):
            function = call["function"]
            deltas.append({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
            # Arguments arrive in pieces, as they do from the real service.
            for piece in pieces(function["arguments"], 12):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        deltas.extend({"content": piece} for piece in pieces(text or "", 16))
        for delta in deltas:
            self.event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self.event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        self.event({**head, "choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, value):
        self.chunk(b"data: " + json.dumps({**value, "object": "chat.completion.chunk"}).encode() + b"\n\n")


def pieces(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]
