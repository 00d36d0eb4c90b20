"""An OpenAI-compatible endpoint on loopback that answers, or misbehaves, as a queue of acts says.

Real HTTP through the real client: no transport is patched. The last act is repeated when the queue runs out. With
`upstream` it is a proxy in front of a real server: acts that `forward` pass its answer on, whole or spoilt.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
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
    calls: Sequence[tuple[str, dict[str, Any] | str]] = ()  # tools called, with arguments
    usage: tuple[int, int] | None = (10, 5)
    forward: bool = False
    kept: float = 1.0  # share of the body that is sent
    honest: bool = False  # whether content-length then tells the truth

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        if self.body is not None:
            return json.dumps(self.body).encode()
        if self.status != 200:
            return json.dumps({"error": {"message": f"made error {self.status}", "type": "made"}}).encode()
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{i}",
                    "type": "function",
                    "function": {"name": name, "arguments": a if isinstance(a, str) else json.dumps(a)},
                }
                for i, (name, a) in enumerate(self.calls)
            ]
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        whole: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        whole["choices"] = [choice]
        if self.usage is not None:
            read, written = self.usage
            whole["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return json.dumps(whole).encode()


@dataclass
class Endpoint:
    """Where it listens and what it was asked."""

    url: str
    requests: list[dict[str, Any]]


@contextmanager
def endpoint(acts: Sequence[Act], *, upstream: str = "") -> Iterator[Endpoint]:
    """Serve `acts` one request each until the block ends."""
    queue = list(acts)
    turn = threading.Lock()
    seen = Endpoint("", [])
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.requests.append(json.loads(body))
            with turn:
                act = queue.pop(0) if len(queue) > 1 else queue[0]
            if act.wait:
                stop.wait(act.wait)
            if act.cut:
                self.connection.close()
                return
            status, content = _forwarded(upstream, self.path, body) if act.forward else (act.status, act.payload())
            self._answer(act, status, content)

        def _answer(self, act: Act, status: int, content: bytes) -> None:
            sent = content[: int(len(content) * act.kept)]
            self.send_response(status)
            for name, value in ({"content-type": "application/json"} | act.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(sent if act.honest else content)))
            self.end_headers()
            try:
                self.wfile.write(sent)
            except (BrokenPipeError, ConnectionResetError):
                time.sleep(0)  # the client gave up first
            if len(sent) < len(content) and not act.honest:
                self.connection.shutdown(socket.SHUT_RDWR)

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


def _forwarded(upstream: str, path: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(upstream + path, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
