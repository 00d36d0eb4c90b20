"""Heads put into the running model: pairs, choices, the plain computation, sums by hand, resuming, the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from eval.commands.check import app
from eval.faithfulness.correlation import PairLimits
from eval.faithfulness.final_logits import experiment as experiment_module
from eval.faithfulness.final_logits.asked import PROMPTS, PROMPTS_A_PAIR, AskedPair, asked_pairs, neutral_prompts
from eval.faithfulness.final_logits.chosen_heads import choices, union
from eval.faithfulness.final_logits.effects import Asked, Effect, head_effect, shift_of, source_values
from eval.faithfulness.final_logits.experiment import HEADS, final_logits
from eval.faithfulness.final_logits.summary import LogitsTable, operation_row
from eval.faithfulness.report.reading import read_final_logits
from eval.faithfulness.report.text import table_text
from eval.faithfulness.running.pair_choice import SourcePairs
from eval.faithfulness.running.transformers_model import hooked
from maps_engine.model import Checkpoint
from maps_engine.relations.format import Relation
from tests.support.eval.faithfulness_models import relation_of, tiny_bench, words
from tests.support.eval.named_runs import word_ids, wordy_bench
from tests.support.relation_files import format_relation

LIMITS = PairLimits(max_pairs=12)


def steps(checkpoint: Checkpoint, name: str, step: int) -> Relation:
    """Every word of the wordy model to the one `step` places on, and to the one behind that."""
    known = [checkpoint.vocabulary.text(i).strip() for i in word_ids(checkpoint)]
    pairs = [(one, (known[i + step], known[i + step + 1])) for i, one in enumerate(known[: -step - 1])]
    return relation_of(name, tuple(pairs))


# what is asked


def test_pairs_have_their_first_target_and_first_targets_of_others(tmp_path):
    bench = wordy_bench(tmp_path)
    a, b, c, d, e, f = word_ids(bench.checkpoint)[:6]
    pairs = SourcePairs(((a,), (b,), (c,)), ((d, e), (e, d), (f,)), 10)
    found = asked_pairs(pairs, neutral_prompts(bench.maker), bench.checkpoint.vocabulary)
    assert [(one.source, one.target) for one in found] == [(a, d), (b, e), (c, f)]
    assert set(found[0].dealt) == set(found[1].dealt) == {f}  # the others' own are accepted too
    assert set(found[2].dealt) <= {d, e}
    assert found[0].wanted == (d, *found[0].dealt)
    assert all(one.prompts == tuple(range(PROMPTS_A_PAIR)) for one in found)


def test_a_prompt_with_a_word_of_the_pair_is_not_used_and_pairs_without_any_fall_out(tmp_path):
    vocabulary = wordy_bench(tmp_path).checkpoint.vocabulary
    a, b, c, d, *more = word_ids(wordy_bench(tmp_path).checkpoint)[:8]
    pairs = SourcePairs(((a,), (b,)), ((c,), (d,)), 10)

    def used(*prompts: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [one.prompts for one in asked_pairs(pairs, prompts, vocabulary)]

    assert used((more[0], a), (more[1],), (more[2],)) == [(1, 2), (0, 1)]
    assert used((c,), (more[1],), (more[2],)) == [(1, 2), (1, 2)]  # a target, and for the other the dealt one
    assert used((a,)) == [(0,)]
    assert used((c, d)) == []


def test_the_prompts_share_no_word():
    said = [word for text in PROMPTS for word in text.casefold().split()]
    assert len(said) == len(set(said))


def test_sources_with_the_same_targets_cannot_be_asked(tmp_path):
    bench = wordy_bench(tmp_path)
    a, b, c = word_ids(bench.checkpoint)[:3]
    pairs = SourcePairs(((a,), (b,)), ((c,), (c,)), 10)
    assert asked_pairs(pairs, neutral_prompts(bench.maker), bench.checkpoint.vocabulary) == []


def test_choices_are_the_strongest_and_others():
    phi = {"residual": torch.tensor([[0.1, 0.9], [0.5, 0.0]]), "paper": torch.tensor([[0.9, 0.1], [0.0, 0.0]])}
    found = choices(phi, 1, "copying")
    assert (found["residual"], found["paper"]) == (((0, 1),), ((0, 0),))
    assert set(found["random"]) <= {(1, 0), (1, 1)}
    assert found == choices(phi, 1, "copying")
    assert {choices(phi, 1, f"other {i}")["random"] for i in range(20)} == {((1, 0),), ((1, 1),)}
    assert union({"residual": ((1, 0), (0, 1)), "paper": ((0, 1),)}) == [(0, 1), (1, 0)]


# numbers


def test_shifts_by_hand():
    moved = torch.tensor([[3.0, 1.0, -1.0, -3.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 5.0]])
    z, hit = shift_of(moved, torch.tensor([[0, 2], [0, 1], [0, 3]]), 2)
    expected = [[3 / 5**0.5, -1 / 5**0.5], [0.0, 0.0], [-1 / 3**0.5, 3 / 3**0.5]]
    torch.testing.assert_close(z, torch.tensor(expected))
    assert hit.tolist() == [
        [1.0, 0.0],
        [0.0, 0.0],
        [1.0, 1.0],
    ]  # one larger entry is inside of two; nothing moved: none


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "olmo2", "gpt-neox", "cohere"])
def test_effects_equal_the_plain_computation(family, tmp_path):
    """Every pair, prompt and target by itself, in full passes; post-norms and parallel blocks among the families."""
    bench = tiny_bench(tmp_path, family)
    ids = [bench.checkpoint.vocabulary.single_id(one) for one in words(bench.checkpoint)[:6]]
    pairs = [AskedPair(ids[0], ids[1], (ids[2],), (0, 1)), AskedPair(ids[3], ids[4], (ids[5], ids[0], ids[0]), (1,))]
    asked = Asked(pairs, [(0, 7, 9, 30), (0, 40, 8)], 10)
    start = bench.checkpoint.vocabulary.start
    values = source_values(bench.model, start, [one.source for one in pairs], batch=1)
    for head in ((0, 1), (1, 3)):
        found = head_effect(bench.model, bench.checkpoint.weights, asked, values, head, batch=2)
        assert vars(found) == pytest.approx(vars(plainly(bench, asked, head)), abs=1e-4)


def plainly(bench, asked: Asked, head: tuple[int, int]) -> Effect:
    layer, number = head
    own, dealt = [], []
    for pair in asked.pairs:
        seen = bench.model.head_states(torch.tensor([[*bench.checkpoint.vocabulary.start, pair.source]]), -1).values
        v = seen[layer, 0, bench.model.shape.value_head_of(number)]
        y = v @ bench.checkpoint.weights.attention(layer).output[number]
        by_token = {token: [moved_by(bench, asked, p, layer, y, token) for p in pair.prompts] for token in pair.wanted}
        mean = {token: torch.tensor(rows).mean(0) for token, rows in by_token.items()}
        own.append(mean[pair.target])
        dealt.append(torch.stack([mean[token] for token in pair.dealt]).mean(0))
    return Effect(*torch.stack(own).mean(0).tolist(), *torch.stack(dealt).mean(0).tolist())


def moved_by(bench, asked: Asked, prompt: int, layer: int, y: torch.Tensor, token: int) -> tuple[float, float]:
    def put(_, __, out):
        flat = out.reshape(-1, out.shape[-1]).clone()
        flat[-1] += y
        return flat.view(out.shape)

    model, ids = bench.model, torch.tensor([asked.prompts[prompt]])
    with torch.no_grad():
        clean = model.model(ids, use_cache=False).logits[0, -1]
        with hooked([(model.outputs[layer], put, "post")]):
            moved = model.model(ids, use_cache=False).logits[0, -1] - clean
    z = (moved[token] - moved.mean()) / moved.std(correction=0)
    return float(z), float(token in moved.topk(asked.k).indices.tolist())


def hand_made(**changes) -> LogitsTable:
    """Two operations with one head a choice; the second has its head of both settings in common."""
    phi = {"residual": torch.tensor([[0.2, 0.8, 0.0, 0.0]]), "paper": torch.tensor([[0.6, 0.1, 0.0, 0.0]])}
    about = {"category": "own", "paper": True, "k": 10, "pairs": 12}
    effects = {
        (0, 0): Effect(1.0, 0.3, 0.5, 0.1),
        (0, 1): Effect(3.0, 0.9, 0.5, 0.1),
        (0, 3): Effect(0.1, 0.0, 0.0, 0.0),
    }
    one = operation_row(
        {"name": "one", **about}, {"residual": ((0, 1),), "paper": ((0, 0),), "random": ((0, 3),)}, phi, effects
    )
    other = operation_row(
        {"name": "an|other", **about}, {"residual": ((0, 1),), "paper": ((0, 1),), "random": ((0, 3),)}, phi, effects
    )
    return LogitsTable(1, 2, PROMPTS, (one, other), ({"name": "rare", "why": "too few pairs (3 of 4)"},))


def test_sums_by_hand():
    table = hand_made().to_json()
    one, other = table["relations"]
    assert one["choices"]["residual"]["z_above"] == pytest.approx(2.5)
    assert one["choices"]["paper"]["hit_above"] == pytest.approx(0.2)
    assert (one["shared"], other["shared"]) == (0, 1)
    hits = torch.tensor([0.3, 0.9, 0.0])
    r = torch.corrcoef(torch.stack([torch.tensor([0.2, 0.8, 0.0]), hits]))[0, 1].item()
    assert one["r"]["residual"] == pytest.approx(r, abs=1e-6)
    assert other["r"] == {"residual": None, "paper": None}  # two heads have no r
    assert table["means"]["paper"]["z"]["value"] == pytest.approx((0.5 + 2.5) / 2)
    less_paper, less_random = table["differences"]
    assert (less_paper["of"], less_paper["less"], less_random["less"]) == ("residual", "paper", "random")
    assert less_paper["hit"]["value"] == pytest.approx((0.6 + 0) / 2)
    assert (less_paper["hit"]["low"], less_paper["hit"]["high"]) == pytest.approx((0.0, 0.6))
    assert less_random["z"]["value"] == pytest.approx(2.4)
    lower, upper = table["halves"][:2]
    assert (lower["choice"], lower["half"], lower["heads"], lower["z"]) == ("residual", "lower", 2, pytest.approx(2.5))
    assert (upper["half"], upper["heads"], upper["z"], upper["hit"]) == ("upper", 0, None, None)
    assert [row["setting"] for row in table["r"]] == ["residual", "paper"]
    assert table["r"][0]["value"] == pytest.approx(r / 2, abs=1e-6)
    assert table["r"][1]["lead"] is None
    assert one["heads"][0]["chosen_by"] == ["paper"]


def test_tables_and_sentences():
    text = table_text("final-logits", hand_made().to_json())
    assert "| one * | 12 | 0 of 1 | 2.50 | 0.80 | 0.50 | 0.20 | 0.10 | 0.00 |" in text
    assert "an\\|other" in text
    assert "| residual less paper | +1.000 [+0.000, +2.000] | +0.300 [+0.000, +0.600] |" in text
    assert "| residual, upper half | 0 | – | – |" in text
    assert text.endswith("Left out: rare (too few pairs (3 of 4)).")
    said = " ".join(read_final_logits(hand_made().to_json()))
    assert "residual 2.50 standard deviations and 80.0% of hits; paper 1.50" in said
    assert "chosen by residual move the target neither clearly more nor less than those chosen by paper" in said
    assert "chosen by residual move the target more than those chosen at random: +0.800" in said
    nothing = LogitsTable(5, 2, PROMPTS, (), ()).to_json()
    assert read_final_logits(nothing) == ["No operation could be put into the model."]
    assert table_text("final-logits", nothing).endswith("Nothing was left out.")


# runs


def test_a_second_time_nothing_is_run(tmp_path):
    bench = wordy_bench(tmp_path)
    relations = [steps(bench.checkpoint, f"step-{step}", step) for step in (1, 2)]
    table = final_logits(bench, relations, LIMITS, heads=2)
    assert [row["pairs"] for row in table.rows] == [12, 12]
    assert all(len(row["choices"]) == 3 for row in table.rows)
    again = wordy_bench(tmp_path)
    again.__dict__["model"] = None  # a running model would be missed
    assert final_logits(again, relations, LIMITS, heads=2) == table


def test_a_mixture_of_experts_goes_without_the_papers_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_module, "MIN_ASKED", 3)  # the tiny vocabulary has few words
    bench = tiny_bench(tmp_path, "mixtral")
    known = words(bench.checkpoint)
    pairs = tuple((one, (known[(i + 1) % len(known)],)) for i, one in enumerate(known))
    table = final_logits(bench, [relation_of("next", pairs)], PairLimits(min_pairs=5), heads=2).to_json()
    assert [*table["means"]] == ["residual", "random"]
    assert [one["less"] for one in table["differences"]] == ["random"]
    assert "| next * |" in table_text("final-logits", table)
    assert "residual" in " ".join(read_final_logits(table))


def test_few_pairs_and_pairs_of_one_target_are_left_out_with_the_reason(tmp_path):
    bench = wordy_bench(tmp_path)
    known = [bench.checkpoint.vocabulary.text(i).strip() for i in word_ids(bench.checkpoint)]
    same = relation_of("same", tuple((one, (known[0],)) for one in known[1:40]))
    few = relation_of("few", tuple((one, (known[0],)) for one in known[1:9]))
    table = final_logits(bench, [same, few], LIMITS, heads=1)
    assert {one["name"]: one["why"] for one in table.skipped} == {
        "few": "too few pairs (8 of 8)",
        "same": "only 0 pairs with a target that is wrong for others and a prompt without both",
    }


# the command


@pytest.fixture
def place(tmp_path) -> Path:
    """A tiny model and a file of operations for it."""
    bench = wordy_bench(tmp_path)
    (tmp_path / "pairs").mkdir()
    for step in (1, 2):
        one = steps(bench.checkpoint, f"step-{step}", step)
        (tmp_path / "pairs" / f"{one.name}.json").write_text(format_relation(one))
    return tmp_path


def call(place: Path, command: str, *more: str):
    base = ["--model", str(place / "model"), "--out", str(place / "out"), "--device", "cpu"]
    return CliRunner().invoke(app, [command, *base, *more])


def experiment(place: Path, *more: str):
    options = ["--pairs", str(place / "pairs"), "--max-pairs", "12", "--heads", "2"]
    return call(place, "final-logits", *options, *more)


def test_the_command_and_its_part_of_the_report(place):
    shown = experiment(place)
    assert shown.exit_code == 0, shown.output
    assert "| step-1 |" in shown.output or "| step-1 * |" in shown.output
    assert "residual less random" in shown.output
    assert "templates," not in shown.output
    table = json.loads(experiment(place, "--json").stdout)
    stored = json.loads((place / "out" / "final-logits.json").read_text())["result"]
    assert table == stored
    assert table["prompts"] == list(PROMPTS)
    assert "templates" not in table
    report = call(place, "report")
    assert report.exit_code == 0, report.output
    text = (place / "out" / "report.md").read_text()
    assert "## Heads put into the running model" in text
    assert "At most 12 pairs an operation" in text
    assert "“After some time there was”" in text
    assert "Templates" not in text
    assert "Heads put into the running model" in (place / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--heads", "3"], "too few heads for three choices of so many: got --heads 3; expected at most 2"),
        (["--relations", "step-9"], "no such operation in --pairs: got step-9"),
        (["--dtype", "int3"], "unknown dtype"),
    ],
)
def test_mistakes_are_one_line(place, options, message):
    told = experiment(place, *options)
    assert told.exit_code == 2
    assert message in told.output
    assert len(told.output.strip().splitlines()) == 1


def test_other_settings_in_the_same_folder_stop_the_command(place):
    assert experiment(place).exit_code == 0
    told = experiment(place, "--dtype", "bfloat16")
    assert told.exit_code == 2
    assert "was made under other settings" in told.output


def test_the_default_number_of_heads_is_the_experiments(place):
    assert f"[default: {HEADS};" in " ".join(call(place, "final-logits", "--help").output.split())
