"""What all commands have in common: help, version, `--json`, `--debug`, and completion by a real shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from agent.commands.completion import SOURCES
from eval.commands.headscribe import ORDER, app
from maps_engine.ov.sources import SourceName
from maps_engine.source_choice import CANDIDATES

SCRIPTS = ("headscribe", "describe-head", "label-heads", "map-relations", "rate-heads", "serve-heads")
SERVING = {("serve-heads",), ("rate-heads", "serve")}  # they print an address and serve until they are stopped
HEAVY = {"torch", "transformers", "numpy", "pandas", "matplotlib", "chromadb", "langchain", "fastapi", "jinja2"}
HEAVY |= {"sqlalchemy", "ray", "scipy"}
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


def commands(one: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of `headscribe`, with the words that name it."""
    one = one or typer.main.get_command(app)
    if path:
        yield path, one
    for name, inner in getattr(one, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_the_scripts_are_these_and_no_common_word_is_one():
    scripts = tomllib.loads(Path("pyproject.toml").read_text())["project"]["scripts"]
    assert tuple(scripts) == SCRIPTS


@pytest.mark.parametrize("command", SCRIPTS)
def test_help_names_version_and_completion_and_is_instant(command):
    code = f"import sys; from importlib.metadata import entry_points as e; sys.argv = ['{command}', '-h']\n"
    code += f"try: e(group='console_scripts')['{command}'].load()()\n"
    code += f"except SystemExit: pass\nprint({HEAVY} & set(sys.modules))"
    page = said(sys.executable, "-c", code)
    assert "--version" in page
    assert "--install-completion" in page
    assert page.endswith("set()\n")  # nothing heavy was imported


def test_headscribe_lists_all_commands_in_order_with_one_line_each():
    page = said(str(BIN / "headscribe"), "--help")
    listed = page.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert tuple(line.split()[0] for line in listed) == ORDER
    assert not any(line.endswith("...") for line in listed)


def test_no_command_is_left_out_of_the_order():
    assert set(ORDER) == set(typer.main.get_command(app).commands)


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda x: " ".join(x) if type(x) is tuple else "")
def test_every_command_has_help_debug_and_json(path, command):
    options = {name for one in command.params for name in one.opts}
    assert command.get_short_help_str()
    assert all(one.help for one in command.params if one.param_type_name == "option"), path
    if command.callback.__name__ != "with_version":  # a group of commands does nothing by itself
        assert "--debug" in options
        assert ("--json" in options) != (path in SERVING)


def test_the_sources_a_shell_offers_are_the_engines():
    assert {*SOURCES} == {"auto", *get_args(SourceName)} == {"auto", *CANDIDATES}


@pytest.mark.parametrize("command", SCRIPTS)
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
        (("headscribe", "sc"), ["score"]),
        (("headscribe", "describe-head", "--source", "f"), ["first-mlp", "first-block"]),
        (("headscribe", "check", "corr"), ["correlation"]),
        (("headscribe", "check", "causal", "--relations", "antonyms,copyi"), ["antonyms,copying"]),
        (("headscribe", "runs", "ex"), ["export"]),
        (("headscribe", "operations", "re"), ["remove", "rebuild"]),
    ],
    ids=" ".join,
)
def test_bash_completes(typed, offered):
    assert completed(*typed) == offered


def test_completion_can_be_installed(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [str(BIN / "headscribe"), "--install-completion", "bash"]
    subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    assert "headscribe" in (tmp_path / ".bashrc").read_text()
