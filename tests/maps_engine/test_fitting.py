"""`--source auto`: what is read of a model of which size, on a processor and on an accelerator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel, UserMistake
from maps_engine.fitting import FEWEST_WORDS, MOST_WORDS, ON_ACCELERATOR, ON_PROCESSOR, fits, fitted, seconds
from maps_engine.model import Checkpoint
from maps_engine.results import EngineSettings
from tests.support.memory_model import TINY, MemoryWeights, memory_checkpoint
from tests.support.tiny_models import ROWS, tiny_model

AUTO = EngineSettings()
ROOM = {"cpu": ON_PROCESSOR, "cuda": ON_ACCELERATOR, "mps": ON_ACCELERATOR}


@dataclass
class Sized:
    """Weights of which only the sizes are there; `parameters` None: the blocks cannot be run."""

    parameters: int | None
    kind: str = "cpu"
    mixture: bool = False
    shape = TINY

    @property
    def device(self):
        return torch.device(self.kind)

    @property
    def block_parameters(self):
        if self.parameters is None:
            raise UnsupportedModel("no blocks")
        return self.parameters

    def embedding(self, ids):
        return torch.zeros(1, 4)

    def first_mlp(self, x):
        if self.mixture:
            raise UnsupportedModel("several MLPs")
        return x


def sized(*given, **more) -> Checkpoint:
    return replace(memory_checkpoint(), weights=Sized(*given, **more))


def largest(words: int, kind: str, lead_ins: int = 1) -> int:
    """Parameters of the largest model of which so many words are read."""
    return int(ROOM[kind] / (2 * words * lead_ins))


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("words", [16384, 8192, 4096, 2048])
def test_larger_models_are_read_under_residual_with_fewer_words(kind, words):
    most = largest(words, kind)
    assert fitted(AUTO, sized(most, kind)) == replace(AUTO, source="residual", words=words)
    larger = fitted(AUTO, sized(most + 1, kind))
    assert (larger.source, larger.words) == (("residual", words // 2) if words > FEWEST_WORDS else ("first-mlp", None))


def test_the_words_that_can_be_are_those_of_the_tests_above():
    assert (MOST_WORDS, FEWEST_WORDS) == (16384, 2048)
    assert ON_ACCELERATOR > 100 * ON_PROCESSOR


@pytest.mark.parametrize(
    ("name", "parameters", "kind", "expected"),
    [
        ("SmolLM2-135M", 106_000_000, "cpu", ("residual", 16384)),
        ("GPT-2 XL", 1_475_000_000, "cpu", ("residual", 4096)),
        ("Llama 3 8B", 6_980_000_000, "cpu", ("first-mlp", None)),
        ("Llama 3 8B", 6_980_000_000, "cuda", ("residual", 16384)),
        ("Llama 3 70B", 68_450_000_000, "cuda", ("residual", 16384)),
    ],
)
def test_known_models(name, parameters, kind, expected):
    found = fitted(AUTO, sized(parameters, kind))
    assert (found.source, found.words) == expected, name


def test_a_mixture_that_is_too_large_is_read_through_embeddings():
    large = 2 * largest(FEWEST_WORDS, "cpu")
    assert fitted(AUTO, sized(large, mixture=True)) == replace(AUTO, source="embedding")
    assert fitted(AUTO, sized(large, mixture=False)) == replace(AUTO, source="first-mlp")
    small = fitted(AUTO, sized(1000, mixture=True))
    assert (small.source, small.words) == ("residual", MOST_WORDS)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize(("mixture", "source"), [(False, "first-mlp"), (True, "embedding")])
def test_blocks_that_cannot_run_are_not_run(kind, mixture, source):
    assert fitted(AUTO, sized(None, kind, mixture=mixture)) == replace(AUTO, source=source)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("lead_ins", [1, 3])
def test_a_number_of_tokens_fits_up_to_what_a_reading_may_cost(kind, lead_ins):
    settings, checkpoint = replace(AUTO, lead_in=(" a",) * lead_ins), sized(10**6, kind)
    most = int(ROOM[kind] / (2 * 10**6 * lead_ins))
    assert fits(most, settings, checkpoint)
    assert not fits(most + 1, settings, checkpoint)
    assert fits(10**15, settings, sized(None, kind))  # no block runs


@pytest.mark.parametrize("source", ["residual", "first-mlp", "embedding", "second-mlp"])
@pytest.mark.parametrize("words", [None, 7])
@pytest.mark.parametrize("parameters", [1, 10**13, None])
def test_a_source_that_was_asked_for_is_left_as_it_is(source, words, parameters):
    asked = EngineSettings(source, top=3, words=words, lead_in=("", " a"))
    assert fitted(asked, sized(parameters)) is asked


def test_paper_is_another_name_of_first_mlp():
    assert EngineSettings("paper") == EngineSettings("first-mlp")


@pytest.mark.parametrize("words", [5, 100_000])
def test_a_number_of_words_that_was_asked_for_is_kept(words):
    asked = replace(AUTO, words=words)
    for parameters in (1000, largest(FEWEST_WORDS, "cpu"), 10**13):
        assert fitted(asked, sized(parameters)).words == words


@pytest.mark.parametrize("n", [2, 5, 8])
def test_every_lead_in_is_another_pass(n):
    behind = replace(AUTO, lead_in=tuple(f" {i}" for i in range(n)))
    most = largest(4096, "cpu", n)
    assert fitted(behind, sized(most)) == replace(behind, source="residual", words=4096)
    assert fitted(behind, sized(most + 1)).words == 2048
    assert fitted(AUTO, sized(most)).words >= 8192


def test_all_else_that_was_asked_for_is_kept():
    asked = EngineSettings(fold_norms=True, include_special=False, top=3, targets=2, lead_in=(" the",))
    assert fitted(asked, sized(1000)) == replace(asked, source="residual", words=MOST_WORDS)


def test_what_is_told_is_the_time_of_the_tokens_and_blocks_that_are_read(monkeypatch):
    monkeypatch.setattr("maps_engine.fitting._pace", lambda weights: 1e6)
    residual = EngineSettings("residual", lead_in=("", " a"))
    some = replace(residual, words=50)
    assert [seconds(some, sized(3000), layer=layer) for layer in (0, 1, 2)] == pytest.approx([0, 0.2, 0.4])
    assert seconds(residual, sized(3000), layer=1) == pytest.approx(0.2 * TINY.vocab_size / 50)
    for source in ("first-mlp", "embedding"):
        assert seconds(EngineSettings(source, words=50), sized(None), layer=2) == 0


def test_what_auto_takes_costs_no_more_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr("maps_engine.fitting._pace", lambda weights: 1.0)  # seconds are operations
    for exponent in range(3, 13):
        for kind in ("cpu", "cuda"):
            checkpoint = sized(10**exponent, kind)
            assert seconds(fitted(AUTO, checkpoint), checkpoint, layer=TINY.n_layers) <= ROOM[kind]


def test_the_pace_of_this_machine_is_measured(monkeypatch):
    monkeypatch.setattr(MemoryWeights, "block_parameters", 10**9)
    told = seconds(EngineSettings("residual", words=100), memory_checkpoint(), layer=TINY.n_layers)
    assert 1e11 * 2 / 1e15 < told < 1e11 * 2 / 1e6  # between all the processors of a hall and an abacus


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_an_opened_model_is_read_as_its_size_allows(family, tmp_path, monkeypatch):
    folder, model = tiny_model(family, tmp_path / "model")
    checkpoint = open_checkpoint(str(folder), device="cpu")
    blocks = next(one for one in model.modules() if isinstance(one, torch.nn.ModuleList))
    parameters = sum(one.numel() for one in blocks.parameters())
    assert checkpoint.weights.block_parameters == parameters
    engine = MapsEngine(checkpoint)
    assert engine.settings == replace(AUTO, source="residual", words=MOST_WORDS)
    assert engine.map_head(1, 1).settings == engine.settings
    assert next(engine.map_heads([1])).source == "residual"
    monkeypatch.setattr("maps_engine.fitting.ON_PROCESSOR", 2 * parameters * FEWEST_WORDS - 1)
    mapping = MapsEngine(checkpoint).map_head(1, 1)
    assert (mapping.source, mapping.settings.words) == ("embedding" if family == "mixtral" else "first-mlp", None)
    assert mapping == MapsEngine(checkpoint, EngineSettings(mapping.source)).map_head(1, 1)


def test_a_model_without_blocks_is_read_through_its_first_mlp():
    assert MapsEngine(memory_checkpoint()).settings.source == "first-mlp"


def test_unknown_sources_are_told(tmp_path):
    with pytest.raises(UserMistake, match="auto, residual, first-mlp, embedding"):
        MapsEngine(memory_checkpoint(), EngineSettings("first-block"))
    with pytest.raises(UserMistake, match="got first-block"):  # before anything is looked for
        MapsEngine.open(str(tmp_path / "absent"), settings=EngineSettings("first-block"))


def test_fewer_tokens_than_words_are_all_read(tmp_path):
    checkpoint = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0]), device="cpu")
    words = MapsEngine(checkpoint).at("residual").words
    assert words is not None
    assert 0 < len(words) < ROWS < MOST_WORDS


class Startless:
    """A vocabulary whose texts begin with no token that is known."""

    start = ()


def test_without_a_start_of_texts_only_a_lead_in_gives_something_to_read():
    checkpoint = replace(sized(1000), vocabulary=Startless())
    assert fitted(AUTO, checkpoint).source == "first-mlp"
    assert fitted(replace(AUTO, lead_in=("It was",)), checkpoint).source == "residual"


@pytest.mark.parametrize("source", ["auto", "residual", "first-mlp"])
def test_no_words_means_all_tokens_also_where_the_source_is_left_open(source):
    assert fitted(EngineSettings(source, words=0), sized(1000)).words is None
    assert fitted(EngineSettings(source, words=7), sized(1000)).words == 7


def test_fewer_words_than_none_are_refused():
    with pytest.raises(UserMistake, match="fewer words than none: got -1"):
        EngineSettings(words=-1)
