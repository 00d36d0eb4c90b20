"""Transcripts of the agent on five heads through a real local server: llama.cpp serving SmolLM2-135M on loopback.

    python -m tests.benchmarks.agent_transcripts [--heads 23.4,26.2,28.2,10.1,1.3] [--max-revisions 1] [--folder DIR]

The model is small: what it says of the heads is nonsense. It shows that proposals, tools, trials, revisions and records
work together on a real endpoint. Minutes: about one a head on an idle core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from agent.llm.options import ModelOptions
from agent.output.terminal.transcript import transcript_text
from agent.pipeline.one_head import describe_on
from agent.pipeline.request import DescribeRequest
from agent.pipeline.workbench import open_workbench
from maps_engine.results import EngineSettings
from tests.support.llama_server import llama_server

HEADS = "23.4,26.2,28.2,10.1,1.3"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", default=HEADS)
    parser.add_argument("--max-revisions", type=int, default=1)
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with llama_server(context=8192) as url, tempfile.TemporaryDirectory() as store:
        options = ModelOptions(
            base_url=f"{url}/v1", max_tokens=given.max_tokens, timeout=600.0, retry_seconds=600.0, use_cache=False
        )
        request = DescribeRequest(
            settings=EngineSettings("auto", top=given.top),
            describer="openai:smollm2",
            device="cpu",
            store_folder=Path(store),
            model_options=options,
            max_revisions=given.max_revisions,
        )
        bench = open_workbench(request)
        for name in given.heads.split(","):
            layer, head = map(int, name.split("."))
            started = time.monotonic()
            report = describe_on(bench, layer, head).report
            said, usage = report.description, report.trace.usage
            lines = [
                f"=== head {name}: {said.status} {said.operation!r} {said.reason}",
                f"final test: {report.test.verdict} {report.test.reason}",
                f"{time.monotonic() - started:.0f} s, {usage.read} tokens read, {usage.written} written",
                transcript_text(report.trace),
            ]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            if given.folder is not None:
                given.folder.mkdir(parents=True, exist_ok=True)
                (given.folder / f"head-{name}.txt").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
