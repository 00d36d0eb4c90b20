"""What all commands have in common: help, version, and completion by a real shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from agent.commands.command_line import SOURCES
from maps_engine.ov.sources import SourceName
from maps_engine.source_choice import CANDIDATES

COMMANDS = [
    *("describe-head", "label-heads", "known-operations", "runs", "map-relations"),
    *("score-descriptions", "check-faithfulness", "rate-heads", "serve-heads"),
]
HEAVY = {"torch", "transformers", "numpy", "pandas", "matplotlib", "chromadb", "langchain", "fastapi", "jinja2"}
BIN = Path(sys.executable).parent
TYPED = """
eval "$(env _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 {bin}/{command} --show-completion bash)"
COMP_WORDS=({words}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
PATH={bin}:$PATH _{function}_completion {command}
printf '%s\n' "${{COMPREPLY[@]}}"
"""


def said(*command: str) -> str:
    """Standard output of a command that must end well."""
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def completed(command: str, *typed: str) -> list[str]:
    """What bash offers after `command` and the words `typed`, the last of which is being written."""
    words = " ".join(f"'{word}'" for word in (command, *typed))
    script = TYPED.format(bin=BIN, command=command, function=command.replace("-", "_"), words=words)
    return said("bash", "-c", script).split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_version_and_completion_and_is_instant(command):
    code = f"import sys; from importlib.metadata import entry_points as e; sys.argv = ['{command}', '-h']\n"
    code += f"try: e(group='console_scripts')['{command}'].load()()\n"
    code += f"except SystemExit: pass\nprint({HEAVY} & set(sys.modules))"
    page = said(sys.executable, "-c", code)
    assert "--version" in page
    assert "--install-completion" in page
    assert page.endswith("set()\n")  # nothing heavy was imported


def test_the_sources_a_shell_offers_are_the_engines():
    assert {*SOURCES} == {"auto", *get_args(SourceName)} == {"auto", *CANDIDATES}


@pytest.mark.parametrize("command", COMMANDS)
def test_version(command):
    assert re.fullmatch(r"headscribe \d+\.\d+\.\d+\n", said(str(BIN / command), "--version"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("describe-head", "--sou"), ["--source"]),
        (("describe-head", "--source", "f"), ["first-mlp", "first-block"]),
        (("describe-head", "--describer", "l"), ["lexical", "local:"]),
        (("label-heads", "--model", "smol"), ["smollm2-135m"]),
        (("label-heads", "--device", "cu"), ["cuda"]),
        (("map-relations", "--relations", "antonyms,copyi"), ["antonyms,copying"]),
        (("check-faithfulness", "corr"), ["correlation"]),
        (("runs", "ex"), ["export"]),
    ],
    ids=" ".join,
)
def test_bash_completes(typed, offered):
    assert completed(*typed) == offered


def test_completion_can_be_installed(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [str(BIN / "describe-head"), "--install-completion", "bash"]
    subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    assert "describe-head" in (tmp_path / ".bashrc").read_text()
