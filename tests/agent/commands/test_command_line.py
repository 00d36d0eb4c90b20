"""Groups of options: a dataclass becomes options of a command, its instance what the command receives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from agent.commands.command_line import OptionGroup, command, command_line, group_of_commands, main_command, say
from agent.commands.options import LanguageModelOptions, ReadingOptions
from agent.llm.options import MAX_TOKENS, TIMEOUT, ModelOptions
from maps_engine.errors import UserMistake
from maps_engine.results import EngineSettings


@dataclass(frozen=True)
class Fruit(OptionGroup):
    title: ClassVar[str] = "Fruit"
    kind: Annotated[str, typer.Option("--kind", help="Which.", envvar="TEST_KIND")] = "plum"
    pieces: Annotated[int, typer.Option("--pieces", min=1, help="How many.")] = 2
    files: Annotated[list[Path] | None, typer.Option("--file", help="Repeatable.")] = None

    def __post_init__(self) -> None:
        if self.kind == "stone":
            raise UserMistake("not a fruit", got=self.kind)


@dataclass(frozen=True)
class Apples(Fruit):
    kind: Annotated[str, typer.Option("--sort", help="Which apple.")] = "boskoop"


app = command_line()
received: list[tuple[object, ...]] = []


@command(app)
def pick(
    fruit: Fruit,
    basket: Annotated[str, typer.Argument(help="Where to.")],
    quick: Annotated[bool, typer.Option("--quick", help="Without looking.")] = False,
) -> None:
    """Pick fruit."""
    received.append((fruit, basket, quick))


def run(app, *arguments, env=None):
    return CliRunner().invoke(app, list(arguments), env=env)


@pytest.mark.parametrize(
    ("arguments", "env", "fruit", "quick"),
    [
        (["b"], None, Fruit(), False),
        (["b", "--kind", "pear", "--pieces", "3", "--quick"], None, Fruit("pear", 3), True),
        (["--file", "x", "b", "--file", "y"], None, Fruit(files=[Path("x"), Path("y")]), False),
        (["b"], {"TEST_KIND": "fig"}, Fruit("fig"), False),
        (["b", "--kind", "pear"], {"TEST_KIND": "fig"}, Fruit("pear"), False),
    ],
)
def test_a_command_receives_an_instance(arguments, env, fruit, quick):
    received.clear()
    made = run(app, *arguments, env=env)
    assert made.exit_code == 0, made.output
    assert received == [(fruit, "b", quick)]


def test_help_lists_a_group_under_its_title():
    page = run(app, "--help").stdout
    own, _, group = page.partition("\nFruit:\n")
    assert all(name in own for name in ("Arguments:", "basket", "--quick", "--debug", "--help"))
    assert all(name in group for name in ("--kind", "TEST_KIND", "plum", "--pieces", "x>=1", "--file"))
    assert "--kind" not in own
    assert "--quick" not in group


def test_an_option_of_a_group_is_checked_as_any_other():
    made = run(app, "b", "--pieces", "0")
    assert (made.exit_code, "Invalid value for '--pieces'" in made.output) == (2, True)


def test_what_a_group_refuses_is_one_line_and_with_debug_a_traceback():
    made = run(app, "b", "--kind", "stone")
    assert (made.exit_code, made.output) == (2, "error: not a fruit: got stone\n")
    assert isinstance(run(app, "b", "--kind", "stone", "--debug").exception, UserMistake)


def test_a_derived_group_takes_the_place_of_a_field():
    apples = group_of_commands("Apples.")

    @command(apples, "pick", line="Picks apples.")
    def pick_apples(fruit: Apples) -> None:
        """Pick."""
        typer.echo(f"{fruit.pieces} {fruit.kind}")

    assert run(apples, "pick", "--sort", "cox").stdout == "2 cox\n"
    assert run(apples, "pick", "--kind", "pear").exit_code == 2
    assert "Picks apples" in run(apples, "--help").stdout
    assert run(apples, "--version").stdout.startswith("headscribe ")


def test_one_function_can_be_a_command_of_two_apps():
    other = group_of_commands("Other.")
    command(other, "pick")(pick)
    received.clear()
    assert run(other, "pick", "b", "--kind", "fig").exit_code == 0
    assert received == [(Fruit("fig"), "b", False)]


def test_a_main_command_runs_where_no_subcommand_is_named():
    both = command_line(help="Both.")

    @main_command(both)
    def whole(context: typer.Context, fruit: Fruit) -> None:
        if context.invoked_subcommand is None:
            typer.echo(f"whole {fruit.kind}")

    @command(both, "part")
    def part() -> None:
        """A part."""
        typer.echo("part")

    assert run(both, "--kind", "fig").stdout == "whole fig\n"
    assert run(both, "part").stdout == "part\n"


def test_two_groups_with_one_option_are_refused_at_once():
    def twice(one: Fruit, two: Apples) -> None:
        """Both have pieces."""

    with pytest.raises(ValueError, match="duplicate parameter name"):
        command(command_line())(twice)


def test_a_field_that_is_no_option_is_refused_at_once():
    @dataclass(frozen=True)
    class Bare(OptionGroup):
        title: ClassVar[str] = "Bare"
        kind: str = "plum"

    def bare(one: Bare) -> None:
        """Nothing says how the option is called."""

    bare.__annotations__ = {"one": Bare, "return": None}
    with pytest.raises(TypeError, match=r"Bare\.kind"):
        command(command_line())(bare)


def test_what_is_said_is_inert_or_json(capsys):
    say("a\x1b[31m", "b", value={"a": 1}, as_json=False)
    assert capsys.readouterr().out == "a␛[31m\nb\n"
    say("a", value={"a": 1}, as_json=True)
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'


def test_defaults_of_a_language_model_are_those_of_the_room_below():
    assert LanguageModelOptions().given(device="auto") == ModelOptions(max_tokens=MAX_TOKENS, timeout=TIMEOUT)


def test_options_of_a_language_model_as_the_room_below_takes_them():
    options = LanguageModelOptions(
        requests_per_minute=5, token_budget=9, budget=0.5, price="2,8", llm_mode="text", no_reply_cache=True
    )
    assert options.given(device="cuda:0,cuda:1", workers=3) == ModelOptions(
        mode="text", device="cuda:0", in_flight=3, requests_per_minute=5, token_budget=9, money_budget=0.5,
        price=(2.0, 8.0), use_cache=False,
    )  # fmt: skip
    assert not LanguageModelOptions().given(device="auto", no_cache=True).use_cache
    with pytest.raises(UserMistake, match="a money budget needs a price"):
        LanguageModelOptions(budget=1.0).given(device="auto")


def test_reading_options_as_the_engine_takes_them():
    assert ReadingOptions().settings() == EngineSettings(source="auto", words=None)
    assert ReadingOptions(words=0).settings().words == 0  # all tokens: unlike None, nothing is left to the source
    assert ReadingOptions(words=300, lead_in=["", " the"]).settings() == EngineSettings(
        source="auto", words=300, lead_in=("", " the")
    )
    assert ReadingOptions(source="paper").settings() == EngineSettings(source="first-mlp")
    options = ReadingOptions(source="embedding", top=3, targets=2, normal_tokens_only=True, fold_norms=True)
    assert options.settings() == EngineSettings(
        source="embedding", top=3, targets=2, include_special=False, fold_norms=True
    )
