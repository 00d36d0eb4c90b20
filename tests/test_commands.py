"""What all commands have in common: help, version, `--json`, `--debug`, and completion by a real shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer

from agent.commands.completion import SOURCES
from eval.commands.headscribe import ORDER, app
from maps_engine.ov.sources import SourceName
from tests.support import command_pages

SCRIPTS = ("headscribe", "describe-head", "label-heads", "map-relations", "rate-heads", "serve-heads")
SERVING = {
    "headscribe serve-heads",
    "headscribe rate-heads serve",
}  # serve until they are stopped
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


def test_the_scripts_are_these_and_no_common_word_is_one():
    assert command_pages.scripts() == SCRIPTS


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


@pytest.mark.parametrize("context", command_pages.commands(), ids=lambda context: context.command_path)
def test_every_command_has_help_debug_and_json(context):
    command = context.command
    options = {name for one in command.params for name in one.opts}
    assert command.get_short_help_str()
    assert all(one.help for one in command.params if one.param_type_name == "option")
    if command.callback.__name__ != "with_version":  # a group of commands does nothing by itself
        assert "--debug" in options
        assert ("--json" in options) != (context.command_path in SERVING)


def test_the_pages_of_commands_are_up_to_date():
    renew = f"docs/commands.md is out of date; renew it: {command_pages.RENEW} (or make docs)"
    assert command_pages.PAGES.read_text("utf-8") == command_pages.pages(), renew


def test_the_pages_hold_every_command_and_option():
    pages = command_pages.pages()
    for context in command_pages.commands():
        page = pages.partition(f"\n## {context.command_path}\n")[2].partition("\n## ")[0]
        assert page, context.command_path
        for one in context.command.params:
            assert one.param_type_name == "argument" or one.opts[0] in page


def test_the_sources_a_shell_offers_are_the_engines():
    assert {*SOURCES} == {"auto", "paper", *get_args(SourceName)}


@pytest.mark.parametrize("command", SCRIPTS)
def test_version(command):
    assert re.fullmatch(r"headscribe \d+\.\d+\.\d+\n", said(str(BIN / command), "--version"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("describe-head", "--sou"), ["--source"]),
        (("describe-head", "--source", "f"), ["first-mlp"]),
        (("describe-head", "--describer", "l"), ["lexical", "local:"]),
        (("label-heads", "--model", "smol"), ["smollm2-135m"]),
        (("label-heads", "--device", "cu"), ["cuda"]),
        (("map-relations", "--relations", "antonyms,copyi"), ["antonyms,copying"]),
        (("headscribe", "sc"), ["score"]),
        (("headscribe", "describe-head", "--source", "f"), ["first-mlp"]),
        (("headscribe", "check", "corr"), ["correlation"]),
        (("headscribe", "check", "desc"), ["descriptions"]),
        (("headscribe", "check", "fin"), ["final-logits"]),
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


def test_an_environment_variable_means_one_thing() -> None:
    """Whoever sets it must not give one command a value that is meant for another."""
    meant: dict[str, set[tuple[str, bool]]] = {}
    for context in command_pages.commands():
        for param in context.command.params:
            for name in [param.envvar] if isinstance(param.envvar, str) else param.envvar or ():
                meant.setdefault(name, set()).add((param.name, bool(getattr(param, "is_bool_flag", False))))
    assert len(meant) > 20
    assert {name: sorted(uses) for name, uses in meant.items() if len(uses) > 1} == {}
