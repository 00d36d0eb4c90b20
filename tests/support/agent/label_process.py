"""`label-heads` in processes forked from one that has imported everything: a kill meets work, not imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
_LATE = ("chromadb", "alembic.command", "gguf", "tokenizers")  # what the command imports when needed
FORKS.set_forkserver_preload(
    [
        "agent.commands.label_heads",
        "agent.pipeline.worker",
        "agent.describers.lexical",
        "agent.pipeline.describing",
        *_LATE,
    ]
)


def _label(arguments: list[str], output: Path) -> None:
    with output.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["label-heads", *arguments]
    from agent.commands.label_heads import label_heads_main

    label_heads_main()


def forked(arguments: list[str], output: Path) -> multiprocessing.process.BaseProcess:
    """A started run of the command; what it prints is added to `output`."""
    process = FORKS.Process(target=_label, args=(arguments, output))
    process.start()
    return process
