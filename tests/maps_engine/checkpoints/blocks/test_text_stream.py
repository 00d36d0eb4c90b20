"""Whole texts through the blocks: the model's own hidden states, and how far back a token sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import UnsupportedModel
from maps_engine.model import ModelWeights
from tests.support.hidden_states import hidden_states, passed
from tests.support.tiny_models import FAMILIES, ROWS, tiny_model

N = 10  # tokens of a text
WINDOWS = ("mistral", "gemma2", "gemma3-text", "cohere2", "olmo3", "gpt-oss")
SETTINGS = [*((one, {}) for one in FAMILIES), *((one, {"sliding_window": 4}) for one in WINDOWS)]


def streamed(weights: ModelWeights, ids: Tensor, *, start: int, sees: int | None) -> list[Tensor]:
    return passed(weights.texts(ids, start=start, sees=sees), weights.shape.n_layers)


def drawn(n: int) -> Tensor:
    return torch.randint(1, ROWS, (3, n), generator=torch.Generator().manual_seed(n))


def near(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize(("family", "settings"), SETTINGS)
def test_texts_are_the_models_own(family: str, settings: dict[str, int], tmp_path: Path) -> None:
    """Seen whole; and where as much may be seen as a text has, whatever the limit is called."""
    folder, _ = tiny_model(family, tmp_path / "model", **settings)
    model = AutoModelForCausalLM.from_pretrained(folder)  # the usual attention: eager Falcon adds ALiBi twice
    weights, ids = open_checkpoint(str(folder)).weights, drawn(N)
    wanted = hidden_states(model, ids)
    for start, sees in ((1, None), (1, N), (N, 0)):
        found = streamed(weights, ids, start=start, sees=sees)
        assert all(near(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_sees_the_start_itself_and_those_before_it(family: str, tmp_path: Path) -> None:
    """A token of layer l depends on the start and on the l `sees` tokens before it, and on each of them."""
    weights = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0])).weights
    ids, last = drawn(N), N - 1
    plain = streamed(weights, ids, start=1, sees=1)
    for place in range(N):
        other = ids.clone()
        other[:, place] = ROWS - other[:, place]
        changed = streamed(weights, other, start=1, sees=1)
        for layer, (before, after) in enumerate(zip(plain, changed, strict=True)):
            reached = (place == 0 and layer > 0) or 0 <= last - place <= layer
            assert torch.equal(before[:, last], after[:, last]) != reached


def test_more_may_be_seen(tmp_path: Path) -> None:
    """A text in which three tokens are seen is, for one that has no more before it, the model's own."""
    folder, model = tiny_model("llama", tmp_path / "model")
    weights, ids = open_checkpoint(str(folder)).weights, drawn(N)
    found, wanted = streamed(weights, ids, start=2, sees=3), hidden_states(model, ids)
    for ours, theirs in zip(found, wanted, strict=True):
        assert near(ours[:, :6], theirs[:, :6])
    assert not near(found[-1][:, 6:], wanted[-1][:, 6:])


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt-neo", "gpt-j"])
def test_a_text_longer_than_the_places_is_refused(family: str, tmp_path: Path) -> None:
    weights = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0])).weights
    weights.texts(drawn(16), start=1, sees=1).advance()
    with pytest.raises(UnsupportedModel, match=r"16 places.*at least 17"):
        weights.texts(drawn(17), start=1, sees=1)


def test_a_block_without_a_mask_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maps_engine.checkpoints.blocks.text_stream.MASK", "another_mask")
    weights = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0])).weights
    with pytest.raises(UnsupportedModel, match="mask"):
        weights.texts(drawn(N), start=1, sees=1).advance()
