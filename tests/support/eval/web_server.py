"""The web app as a process of its own, for browser, load and kill tests.

By hand: `python -m tests.support.eval.web_server DB PORT`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(database: str, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers."""
    command = [sys.executable, "-m", "tests.support.eval.web_server", database, str(port), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
            return process
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    process.kill()
    raise RuntimeError("the server did not come up")


@contextmanager
def served(database: str, *options: str) -> Iterator[str]:
    """The address of a running server."""
    port = free_port()
    process = start(database, port, *options)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    """Serve the database named on the command line, with a stand-in for the describer."""
    from agent.results.reports import HeadReport
    from eval.web.serve import serve
    from tests.support.believable import a_mapping, a_report

    def describe(_model: str, layer: int, head: int) -> HeadReport:
        return a_report(a_mapping(layer, head, operation="antonym"), "antonym")

    database, port, *options = sys.argv[1:]
    serve(database=database, port=int(port), accounts="--accounts" in options, describe=describe)


if __name__ == "__main__":
    main()
