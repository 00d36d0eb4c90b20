"""The agent through a real local server with a real small model: every step, whatever it says, ends in a record."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("xllamacpp")

from typer.testing import CliRunner

from agent.commands.describe_head import app
from tests.support.agent.queue_models import wordy_model
from tests.support.llama_server import llama_server

pytestmark = pytest.mark.llm


def test_a_head_of_a_tiny_model_from_the_command_line(tmp_path, monkeypatch):
    """Two heads' worth of protocol in seconds: the tiny model's rows are short, and so are the replies."""
    file = tmp_path / "transcript.txt"
    with llama_server() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        options = ["--layer", "1", "--head", "2", "--model", str(wordy_model(tmp_path / "tiny")), "--json"]
        options += ["--source", "embedding", "--top", "8", "--describer", "openai:smollm2", "--max-revisions", "1"]
        options += ["--max-tokens", "200", "--device", "cpu", "--transcript", str(file)]
        made = CliRunner().invoke(app, options)
        again = CliRunner().invoke(app, options)
    value = json.loads(made.stdout)
    assert made.exit_code == (1 if value["description"]["status"] == "failed" else 0)
    assert value["description"]["describer"] == "openai:smollm2"
    assert value["attempts"]
    assert value["intruder"] is None or value["intruder"]["n"] == 60
    assert value["usage"]["read"] > 0
    assert file.read_text().startswith("try 1")
    kept = json.loads(again.stdout)
    if value["description"]["status"] != "failed":
        assert kept["description"] == value["description"]
        assert kept["attempts"] == value["attempts"]
