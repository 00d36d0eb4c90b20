"""Composition of heads against the plain formula with d x d matrices, against random rotations, and in edge cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel
from maps_engine.model import Checkpoint, ModelWeights, Norm, QueryKeyWeights
from maps_engine.qk import composition as module
from maps_engine.qk.composition import KEPT, KINDS, Composition, Kind, _Directions, _Reading, n_steps, read_composition
from tests.support.memory_model import MemoryWeights, memory_checkpoint, memory_weights
from tests.support.tiny_models import tiny_model

FAMILIES = ("llama", "llama-full-heads", "llama-one-value-head", "gpt2", "gpt-neox", "gemma2", "qwen3", "olmo", "olmo2",
            "falcon-40b", "stablelm-parallel", "bloom", "gpt-oss")  # fmt: skip
LAYER_NORMED = ("gpt2", "gpt-neox", "olmo", "falcon-40b", "stablelm-parallel", "bloom")


class QueryKeys(MemoryWeights):
    """Plain tensors with random W_Q and W_K; `spoil` may change them."""

    spoil: Callable[[int, QueryKeyWeights], QueryKeyWeights] = staticmethod(lambda _, own: own)

    def query_key(self, layer: int) -> QueryKeyWeights:
        shape, chance = self.shape, torch.Generator().manual_seed(100 + layer)
        query = torch.randn(shape.n_heads, shape.d_model, shape.d_head, generator=chance)
        key = torch.randn(shape.n_value_heads, shape.d_model, shape.d_head, generator=chance)
        return self.spoil(layer, QueryKeyWeights(query, key))


def memory(**options) -> Checkpoint:
    return memory_checkpoint(QueryKeys(**vars(memory_weights(**options))))


def before(norm: Norm | None, matrix: Tensor) -> Tensor:
    """(d, d_h): the norm's centring and gain as one more matrix in front."""
    d = len(matrix)
    gain = torch.eye(d) if norm is None or norm.gain is None else torch.diag(norm.gain)
    return centring(norm, d) @ gain @ matrix


def centring(norm: Norm | None, d: int) -> Tensor:
    return torch.eye(d) - 1 / d if norm is not None and norm.kind == "layer" else torch.eye(d)


def plain(weights: ModelWeights) -> Iterator[tuple[Kind, tuple[int, int], tuple[int, int], float]]:
    """Every pair of heads by the formula of Elhage et al., with matrices d x d written out."""
    shape = weights.shape
    d, group = shape.d_model, shape.n_heads // shape.n_value_heads
    circuits: dict[tuple[int, int], tuple[Tensor, dict[Kind, Tensor]]] = {}
    for layer in range(shape.n_layers):
        own, asked, norm = weights.attention(layer), weights.query_key(layer), weights.attention_norm(layer)
        post = weights.post_attention_norm(layer)
        gain = torch.eye(d) if post is None or post.gain is None else torch.diag(post.gain)
        for head in range(shape.n_heads):
            value, output = own.value[head // group], own.output[head] @ centring(post, d) @ gain
            key, query = before(norm, asked.key[head // group]), before(norm, asked.query[head])
            read = {"K": key @ query.T, "Q": query @ key.T, "V": before(norm, value) @ output}
            circuits[layer, head] = (value @ output, read)
    stream = centring(weights.attention_norm(0), d)
    for reader, (_, read) in circuits.items():
        for source, (write, _) in circuits.items():
            for kind in KINDS if source[0] < reader[0] else ():
                wrote = write @ stream
                c = (wrote @ read[kind]).norm() / (wrote.norm() * read[kind].norm())
                yield kind, reader, source, float(c * stream.trace() ** 0.5)


def all_edges(found: Composition) -> dict[tuple[Kind, tuple[int, int], tuple[int, int]], float]:
    return {(one.kind, one.reader, one.source): one.strength for own in found.edges.values() for one in own}


@pytest.mark.parametrize("family", FAMILIES)
def test_strengths_are_those_of_the_plain_formula(family: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0]), device="cpu")
    norm = checkpoint.weights.attention_norm(0)
    assert (norm is not None and norm.kind == "layer") == (family in LAYER_NORMED)
    found = all_edges(read_composition(checkpoint))
    wanted = {(kind, reader, source): value for kind, reader, source, value in plain(checkpoint.weights)}
    assert len(wanted) == 3 * checkpoint.weights.shape.n_heads**2
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_strongest_are_kept_whatever_is_held_at_once(monkeypatch) -> None:
    checkpoint = memory(shape=replace(memory_weights().shape, n_layers=4))
    whole = read_composition(checkpoint)
    wanted = sorted((value for kind, reader, _, value in plain(checkpoint.weights) if (kind, reader) == ("K", (3, 1))))
    kept = [one.strength for one in whole.edges[3, 1] if one.kind == "K"]
    assert kept == pytest.approx(wanted[: -KEPT - 1 : -1], rel=1e-4)
    assert n_steps(checkpoint.weights.shape) == 3
    monkeypatch.setattr(module, "HELD", 1)
    layers: list[int] = []
    assert read_composition(checkpoint, progress=layers.append).edges == whole.edges
    assert layers == [1, 2, 3, 2, 3, 3]
    assert n_steps(checkpoint.weights.shape) == len(layers)


@pytest.mark.parametrize("held", [2**29, 1])
def test_layers_up_to_one_are_those_of_the_whole(held: int, monkeypatch) -> None:
    """Also where layers come again, since no more than one of them is held."""
    monkeypatch.setattr(module, "HELD", held)
    checkpoint = memory(shape=replace(memory_weights().shape, n_layers=4))
    whole, passed = read_composition(checkpoint), list[int]()
    for last in range(4):
        passed.clear()
        found = read_composition(checkpoint, last=last, progress=passed.append)
        assert found.edges == {place: own for place, own in whole.edges.items() if place[0] <= last}
        assert n_steps(checkpoint.weights.shape, last) == len(passed)


def test_parts_of_one_head_and_of_the_model() -> None:
    found = read_composition(memory())
    own = found.of_head(2, 4, n=2)
    assert [one.kind for one in own] == ["K", "K", "Q", "Q", "V", "V"]
    assert all(one.reader == (2, 4) and one.source[0] < 2 for one in own)
    assert own[0].strength >= own[1].strength
    assert found.of_head(0, 3) == ()
    strengths = [one.strength for one in found.strongest(12)]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == max(all_edges(found).values())


def test_chance_is_what_random_rotations_give() -> None:
    """Mean and spread of C^2 over rotations of what is read, by sampling; rows of unequal weight on both sides."""
    chance, n = torch.Generator().manual_seed(5), 12
    write = torch.randn(1, 3, n, generator=chance) * torch.tensor([3.0, 1.0, 0.3])[:, None]
    read = torch.randn(2, 4, n, generator=chance) * torch.tensor([2.0, 1.0, 0.5, 0.1])[:, None]
    own = torch.eye(4).expand(2, 4, 4)
    seen = []
    for _ in range(4000):
        turn = torch.linalg.qr(torch.randn(n, n, generator=chance))
        seen.append(
            _Reading("K", read @ (turn.Q * turn.R.diagonal().sign()), own).compared(_Directions(write), n)[:, 0]
        )
    strengths, deviations = torch.stack(seen).unbind(dim=-1)
    assert strengths.pow(2).mean(dim=0).tolist() == pytest.approx([1, 1], abs=0.03)
    assert deviations.mean(dim=0).tolist() == pytest.approx([0, 0], abs=0.06)
    assert deviations.std(dim=0).tolist() == pytest.approx([1, 1], abs=0.08)


def planted(layer: int, own: QueryKeyWeights, written: Tensor) -> QueryKeyWeights:
    """Head 3 of layer 2 asks for keys in the directions `written` (d_h, d)."""
    key = own.key.clone()
    key[1] = torch.linalg.pinv(written)
    return QueryKeyWeights(own.query, key) if layer == 2 else own


def test_a_planted_edge_is_the_strongest() -> None:
    checkpoint = memory()
    weights = checkpoint.weights
    weights.norm = Norm("rms", None, None, 1e-5)
    weights.spoil = lambda layer, own: planted(layer, own, weights.output[1, 2])
    first = next(one for one in read_composition(checkpoint).of_head(2, 3, n=1) if one.kind == "K")
    assert first.source == (1, 2)
    assert first.deviations > 5
    assert first.strength > 1.3


def test_heads_that_write_or_read_nothing_have_no_edges() -> None:
    checkpoint = memory()
    checkpoint.weights.output[0, 4] = 0
    checkpoint.weights.value[2] = 0
    checkpoint.weights.spoil = lambda layer, own: QueryKeyWeights(own.query * (layer != 1), own.key)
    found = read_composition(checkpoint)
    assert (0, 4) not in {source for _, _, source in all_edges(found)}
    assert {one.kind for head in range(6) for one in found.of_head(2, head)} == {"K", "Q"}
    assert {one.kind for head in range(6) for one in found.of_head(1, head)} == {"V"}
    numbers = torch.tensor([(one.strength, one.deviations) for own in found.edges.values() for one in own])
    assert numbers.isfinite().all()


def test_matrices_of_low_rank_are_read_as_they_are() -> None:
    checkpoint = memory()
    checkpoint.weights.value[0, 0, :, 1:] = 0
    checkpoint.weights.output[1, :, 2:] = 0
    checkpoint.weights.spoil = lambda _, own: QueryKeyWeights(own.query * (torch.arange(16) < 1), own.key)
    found = all_edges(read_composition(checkpoint))
    wanted = {(kind, reader, source): value for kind, reader, source, value in plain(checkpoint.weights)}
    assert found == pytest.approx({edge: wanted[edge] for edge in found}, rel=1e-4)
    assert len(found) == 3 * (6 * 6 + 6 * KEPT)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_layer_has_no_edges(family: str, tmp_path: Path) -> None:
    name = "n_layer" if family == "gpt2" else "num_hidden_layers"
    checkpoint = open_checkpoint(str(tiny_model(family, tmp_path / "model", **{name: 1})[0]), device="cpu")
    found = read_composition(checkpoint)
    assert (found.edges, found.of_head(0, 0), found.strongest(3)) == ({}, (), ())
    assert n_steps(checkpoint.weights.shape) == 0


def test_norms_in_the_stream_are_refused(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_model("opt-350m", tmp_path / "model")[0]), device="cpu")
    with pytest.raises(UnsupportedModel, match=r"norms stand in the residual stream.*: got opt; expected"):
        read_composition(checkpoint)


def test_weights_that_are_not_finite_are_said() -> None:
    checkpoint = memory()
    checkpoint.weights.output[0, 1, 0, 0] = torch.nan
    with pytest.raises(BrokenCheckpoint, match="not finite"):
        read_composition(checkpoint)


@pytest.mark.model
def test_induction_heads_of_the_default_model_read_keys_that_previous_token_heads_write() -> None:
    """17.3 to 17.5 and 18.6 to 18.8 of 16.0, as attention in the running model shows both kinds."""
    found = read_composition(open_checkpoint("smollm2-135m"))
    for head in (3, 4, 5):
        first, second = (one for one in found.of_head(17, head, n=2) if one.kind == "K")
        assert first.source == (16, 0)
        assert first.strength > 2 * second.strength
    for head in (6, 7, 8):
        assert (16, 0) in [one.source for one in found.of_head(18, head, n=2) if one.kind == "K"]
