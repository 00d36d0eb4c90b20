"""The parts of the heads of a layer, with their rows (docs/method.md, "A head in parts").

What a head writes for a word, less what it writes on the mean, is a row of the centred map. Two such rows are as alike
as their cosine over the whole vocabulary, which d_h numbers tell: with a = x W_V less its mean and B = W_O U^T (U less
its mean row, since a softmax ignores what all targets have in common), a B B^T a'^T = (a L)(a' L)^T where L L^T = B B^T
is d_h x d_h. Groups are found among one half of the words (`ordinary_words.in_finding_half`); the other half tests
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.ordinary_words import in_finding_half, ordinary_words
from maps_engine.ov.centred import ordinary_ids
from maps_engine.ov.circuit import chunks
from maps_engine.ov.salience import TARGET_CHUNK
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.parts.grouping import FEWEST, Groups, grouped
from maps_engine.parts.targets import Asked, Targets, strongest
from maps_engine.relations.significance import corrected, fisher_tail
from maps_engine.results import HeadPart, MappingRow, PartTest, ScoredToken

MOST_PARTS = 8  # of the largest share; the others are left in the rest
MOST_WORDS = 16384  # ordinary words, where salient ones are looked for among all tokens
ROWS = 12  # of a part, and as many of words that did not find it
OTHERS = 48  # words outside a part that it is held against
K = 10  # strongest targets among which a test looks
COMMON = 5  # targets that the words of a part have in common, of which one has to be there


@dataclass(frozen=True)
class _Part:
    """One part of a head; words as places among those that were read, the most typical first."""

    group: int
    share: float
    along: float
    found_by: Tensor
    held_out: Tensor

    @property
    def words(self) -> Tensor:
        return torch.cat([self.found_by, self.held_out])

    @property
    def listed(self) -> Tensor:
        return torch.cat([self.found_by[:ROWS], self.held_out[:ROWS]])


@dataclass(frozen=True)
class _Head:
    """A head taken apart: W_O (d_h, d), centred values a (n, d_h) of the words, and its parts.

    `others` are words that its parts are held against, by place, with the group of each; `places` all words that are
    listed or tested.
    """

    output: Tensor
    a: Tensor
    parts: Sequence[_Part]
    others: dict[int, int]
    places: Tensor

    def asked(self) -> Asked:
        """The mean of each part's words, and the words at `places`."""
        means = [self.a[part.found_by].mean(dim=0, keepdim=True) for part in self.parts]
        return Asked(self.output, torch.cat([*means, self.a[self.places]]))


@dataclass(frozen=True)
class PartAxes:
    """The directions of a head's parts, in coordinates whose lengths are those of rows of the centred map.

    mean (d_h,): of values a = x W_V; factor (d_h, d_h): L; directions (p, m, d_h): m orthonormal ones of each part, the
    first that along which its words' rows go furthest.
    """

    mean: Tensor
    factor: Tensor
    directions: Tensor

    def rows(self, values: Tensor) -> Tensor:
        """(n, d_h): rows in these coordinates, of values (n, d_h) of the head."""
        return (values - self.mean) @ self.factor

    def values(self, rows: Tensor) -> Tensor:
        """(n, d_h): the values that have these rows."""
        return self.mean + rows @ torch.linalg.pinv(self.factor)


@dataclass
class PartsReader:
    """Parts of heads under one source representation."""

    at: SourceEngine

    def of_layer(self, layer: int, heads: Sequence[int]) -> list[tuple[HeadPart, ...]]:
        """The parts of each of `heads`, largest share first; none where a head writes the same for all words."""
        circuit = self.at.circuit(layer)
        a, x_norms = circuit.values(self.words)
        a = a.float() - a.float().mean(dim=0)
        apart = [self._apart(circuit.heads.output[head].float(), a[:, head // circuit.heads.group]) for head in heads]
        k, asked = max(K, self.at.settings.targets), [one.asked() for one in apart]
        lists = strongest(asked, self.at.unembedding, k=k, allowed=self.at.allowed)
        return [self._told(one, x_norms, *of_one) for one, of_one in zip(apart, lists, strict=True)]

    @cached_property
    def words(self) -> Tensor:
        """(n,): the ids of the words that are read: those among which salient ones are looked for, or ordinary ones."""
        if self.at.words is not None:
            return self.at.words
        found = ordinary_words(self.at.checkpoint.vocabulary, MOST_WORDS)
        if found:
            return torch.tensor(found, device=self.at.checkpoint.weights.device)
        return ordinary_ids(self.at.checkpoint)[:MOST_WORDS]

    @cached_property
    def _halves(self) -> tuple[Tensor, Tensor]:
        """Places of the words that find parts, and of those that test them."""
        text = self.at.checkpoint.vocabulary.text
        finds = torch.tensor(
            [in_finding_half(text(i)) for i in self.words.tolist()], dtype=torch.bool, device=self.words.device
        )
        return finds.nonzero().flatten(), (~finds).nonzero().flatten()

    @cached_property
    def _likeness(self) -> Tensor:
        """(d, d) of float64 on the processor: the sum of u u^T over the rows u of U, less their mean row."""
        shape = self.at.shape
        moment, total = (torch.zeros(*size, dtype=torch.float64) for size in ((shape.d_model,) * 2, (shape.d_model,)))
        for part in chunks(shape.vocab_size, TARGET_CHUNK):
            u = self.at.unembedding.rows(part).float()
            moment += (u.T @ u).cpu().double()
            total += u.sum(dim=0).cpu().double()
        return moment - total.outer(total) / shape.vocab_size

    def _factor(self, output: Tensor) -> Tensor:
        """L (d_h, d_h) of one head, from W_O (d_h, d)."""
        wide = output.cpu().double()
        values, vectors = torch.linalg.eigh(wide @ self._likeness @ wide.T)
        return (vectors * values.clamp_min(0).sqrt()).to(output)

    def _apart(self, output: Tensor, a: Tensor) -> _Head:
        """One head, from W_O (d_h, d) and centred values a (n, d_h) of the words."""
        rows = a @ self._factor(output)
        groups, parts = self._found(rows)
        others = self._others(rows, groups) if parts else {}
        read = torch.tensor(list(others), dtype=torch.long, device=a.device)
        return _Head(output, a, parts, others, torch.cat([read, *(part.listed for part in parts)]).unique())

    def _told(self, head: _Head, x_norms: Tensor, scores: Tensor, ids: Tensor) -> tuple[HeadPart, ...]:
        """The parts of a head with the targets that were asked for; x_norms (n,) of the words."""
        written = (head.a[head.places] @ head.output).norm(dim=-1) / x_norms[head.places].clamp_min(1e-30)
        places, parts = head.places.tolist(), head.parts
        saliences = dict(zip(places, written.tolist(), strict=True))
        row = {place: len(parts) + i for i, place in enumerate(places)}
        targets = Targets(scores.cpu(), ids.cpu(), row)

        def listed(some: Tensor) -> tuple[MappingRow, ...]:
            return tuple(self._row(place, saliences[place], *targets.of(place)) for place in some[:ROWS].tolist())

        return tuple(
            HeadPart(
                share=part.share,
                along=part.along,
                size=len(part.found_by),
                targets=self._scored(*targets.common(i)),
                rows=listed(part.found_by),
                held_out_rows=listed(part.held_out),
                test=_test(targets, i, part, head.others, len(parts)),
                members=frozenset(self.words[part.words].tolist()),
                common=tuple(targets.common(i)[1][:K].tolist()),
            )
            for i, part in enumerate(parts)
        )

    def axes(self, layer: int, head: int, *, n: int = 1) -> PartAxes:
        """`n` directions of each of the head's parts, in their order.

        Raises UserMistake for more than the smallest part, or than the head, can have.
        """
        most = min(FEWEST, self.at.shape.d_head)
        if not 1 <= n <= most:
            raise UserMistake("a part has not so many directions", got=n, expected=f"1 to {most}")
        circuit = self.at.circuit(layer)
        a = circuit.values(self.words)[0][:, head // circuit.heads.group].float()
        mean, factor = a.mean(dim=0), self._factor(circuit.heads.output[head].float())
        rows = (a - mean) @ factor
        own = [torch.linalg.svd(rows[part.found_by], full_matrices=False).Vh[:n] for part in self._found(rows)[1]]
        return PartAxes(mean, factor, torch.stack(own) if own else rows.new_zeros(0, n, rows.shape[1]))

    def _found(self, rows: Tensor) -> tuple[Groups, list[_Part]]:
        """All groups, and those of largest share, largest first; rows (n, r) of all words."""
        finding, testing = self._halves
        groups = grouped(rows[finding])
        whole, tested = rows[finding].square().sum(), groups.assigned(rows[testing])
        found = []
        for group, direction in enumerate(groups.directions):
            own, held_out = finding[groups.of_row == group], testing[tested == group]
            along, length = (rows[own] @ direction).square().sum(), rows[own].square().sum()
            first = (_typical_first(rows, places, direction) for places in (own, held_out))
            found.append(_Part(group, float(along / whole), float(along / length), *first))
        return groups, sorted(found, key=lambda part: (-part.share, part.group))[:MOST_PARTS]

    def _others(self, rows: Tensor, groups: Groups) -> dict[int, int]:
        """About OTHERS words that test, spread over all, by place; with the group of each."""
        testing = self._halves[1]
        places = testing[:: max(1, len(testing) // OTHERS)]
        return dict(zip(places.tolist(), groups.assigned(rows[places]).tolist(), strict=True))

    def _row(self, place: int, salience: float, scores: Tensor, ids: Tensor) -> MappingRow:
        word = int(self.words[place])
        return MappingRow(self.at.checkpoint.vocabulary.text(word), word, salience, self._scored(scores, ids))

    def _scored(self, scores: Tensor, ids: Tensor) -> tuple[ScoredToken, ...]:
        n = self.at.settings.targets
        return self.at.scored(scores[:n], ids[:n])


def _typical_first(rows: Tensor, places: Tensor, direction: Tensor) -> Tensor:
    """`places` by how far their rows go along a direction, furthest first."""
    return places[(rows[places] @ direction).argsort(descending=True, stable=True)]


def _test(targets: Targets, place: int, part: _Part, others: dict[int, int], tries: int) -> PartTest:
    """The test of one of `tries` parts on words of it that did not find it, and on `others`: place to group."""
    own = part.held_out[:ROWS].tolist()
    outside = [other for other, group in others.items() if group != part.group]
    k, m = (targets.hits(places, place, among=K, common=COMMON) for places in (own, outside))
    p = fisher_tail(torch.tensor([k]), torch.tensor([m]), n=len(own), n_null=len(outside))
    return PartTest(k, len(own), m, len(outside), corrected(float(p), tries))
