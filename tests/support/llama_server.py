"""llama.cpp's own OpenAI-compatible server on loopback, serving the built-in model with one thread.

It runs in a process of its own: in the tests' process its end would wait for replies that a client has given up.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def llama_server(*, context: int = 4096) -> Iterator[str]:
    """Its address without `/v1`, until the block ends."""
    command = [sys.executable, "-m", "tests.support.llama_server", str(context)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http"), f"the server did not start: exit status {process.poll()}"
            yield address
        finally:
            process.kill()


def _serve(context: int) -> None:
    """Print the address, then serve until the process that started this one ends or closes its pipe."""
    import xllamacpp

    from maps_engine.checkpoints.builtin_models import fetch_package_model

    params = xllamacpp.CommonParams()
    params.model.path = str(fetch_package_model("smollm2-135m"))
    params.n_ctx, params.n_parallel, params.port = context, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity = False, -1
    params.hostnames = ["127.0.0.1"]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
