"""An OpenAI-compatible endpoint on loopback that answers, or misbehaves, as a queue of acts says.

Real HTTP through the real client: no transport is patched. The last act is repeated when the queue runs out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Act:
    """One answer: a status with headers and a body, after a wait; or the connection cut instead."""

    content: str | None = None
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: bool = False
    refusal: str | None = None
    finish: str = "stop"

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if self.body is not None:
            return json.dumps(self.body).encode()
        if self.status != 200:
            return json.dumps({"error": {"message": f"made error {self.status}", "type": "made"}}).encode()
        message = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return json.dumps(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        ).encode()


@dataclass
class Endpoint:
    """Where it listens and what it was asked."""

    url: str
    requests: list[dict[str, Any]]
    authorization: list[str]


@contextmanager
def endpoint(acts: Sequence[Act]) -> Iterator[Endpoint]:
    """Serve `acts` one request each until the block ends."""
    queue = list(acts)
    seen = Endpoint("", [], [])
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.requests.append(json.loads(body))
            seen.authorization.append(self.headers.get("authorization", ""))
            act = queue.pop(0) if len(queue) > 1 else queue[0]
            if act.wait:
                stop.wait(act.wait)
            if act.cut:
                self.connection.close()
                return
            self._answer(act)

        def _answer(self, act: Act) -> None:
            content = act.payload()
            self.send_response(act.status)
            for name, value in ({"content-type": "application/json"} | act.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                time.sleep(0)  # the client gave up first

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A cut connection is part of the play."""

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield seen
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
