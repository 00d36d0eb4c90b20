"""Is a name true of the running model? The rule, and its outcome for every named head of a run.

True under a condition: phi* of the name's new pairs is at least tau, its percentile among the other heads is at least
HIGH, and phi* is at least ABOVE_SHUFFLED more than on the same sources with each other's targets. Without the last, a
head that writes the same words whatever it reads would pass for any claim that these words belong to. It is not asked
where shuffling says nothing. The test from weights (`agent.checks.new_pairs`) asks for more of the same, since its
numbers are only near those of the running model.

What a head writes is projected with U behind the gain of the final norm ("folded"), as the model itself does on the way
to its logits and as the test from weights does; "plain" is the paper's U as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from torch import Tensor

from agent.checks.controls import FEWEST
from agent.checks.new_pairs import pair_test, percentiles
from eval.faithfulness.bench import Bench
from eval.faithfulness.descriptions.found_heads import found_heads
from eval.faithfulness.descriptions.named_heads import NamedHead, NamedRun, named_run
from eval.faithfulness.descriptions.pair_hits import ClaimHits, ClaimKey, ClaimPairs, claim_hits, claim_key, claims_of
from eval.faithfulness.descriptions.summary import CONDITIONS, Measured, NameCheck, NamesTable
from eval.faithfulness.dynamic_scores import Projection
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.thresholds import TAU
from maps_engine.results import HeadMapping

if TYPE_CHECKING:
    from sqlalchemy import Engine

HIGH: Final = 90.0  # percentile
ABOVE_SHUFFLED: Final = 0.075  # half of tau: of what makes a head an operation's must be owed to the right partner


def check_names(
    bench: Bench,
    engine: Engine,
    run: int | None,
    *,
    max_pairs: int,
    projection: Projection = "folded",
    each_operation: bool = False,
) -> NamesTable:
    """Every name of the run (None: the newest finished one of the model) against the running model.

    With `each_operation` also what heads are said to do besides.

    Raises UnknownRun, UserMistake for a run of another model, MixedResults, and what opening the running model raises.
    """
    relations = load_relations()
    named = named_run(engine, run, bench.checkpoint, relations, max_pairs=max_pairs, each_operation=each_operation)
    return checked(bench, named, projection)


def checked(bench: Bench, run: NamedRun, projection: Projection) -> NamesTable:
    """The same for a run that is read already."""
    claims = claims_of(run.heads)
    hits = dict(zip(claims, claim_hits(bench, list(claims.values()), projection), strict=True))
    rows = []
    for one in run.heads:
        both: tuple[Measured | None, ...] = (None, None)
        if one.pairs is not None:
            key = claim_key(one, one.pairs)
            both = measured_name(one.mapping, one.pairs, claims[key], hits[key])
        rows.append(_row(one, *both))
    shape = bench.checkpoint.weights.shape
    found = {name: found_heads(run, _true_heads(claims, hits, name)) for name in CONDITIONS}
    n_heads = shape.n_layers * shape.n_heads
    return NamesTable(run.number, shape.n_layers, n_heads, dict(run.statuses), tuple(rows), projection, found)


def _row(one: NamedHead, forced: Measured | None, natural: Measured | None) -> NameCheck:
    n_pairs, k = (len(one.pairs.sources), one.pairs.k) if one.pairs is not None else (0, None)
    place = (one.mapping.layer, one.mapping.head)
    return NameCheck(*place, one.operation, one.verdict, n_pairs, k, forced, natural, one.why, one.recorded)


def _true_heads(
    claims: Mapping[ClaimKey, ClaimPairs], hits: Mapping[ClaimKey, ClaimHits], condition: str
) -> dict[str, Tensor]:
    """(L, H) of bool for each operation: the heads of which it is true, on the pairs of all heads named with it."""
    found: dict[str, Tensor] = {}
    for key, claim in claims.items():
        counts, (operation, *_) = getattr(hits[key], condition), key
        n = len(claim.real.sources)
        held = true_of(*_scores(counts, range(n), range(n, len(counts)), hits[key].prompts))
        found[operation] = found[operation] | held if operation in found else held
    return found


def measured_name(
    mapping: HeadMapping, pairs: PairSet, claim: ClaimPairs, hits: ClaimHits
) -> tuple[Measured, Measured]:
    """A head's name on its own `pairs` of the claim: attention forced to the source, and as the model attends."""
    wanted, sources = set(zip(pairs.sources, pairs.targets, strict=True)), set(pairs.sources)
    real = list(zip(claim.real.sources, claim.real.targets, strict=True))
    own = [i for i, pair in enumerate(real) if pair in wanted]
    kept = sources | set(pairs.others)
    mixed = [len(real) + i for i, source in enumerate(claim.mixed.sources) if source in kept]

    def measure(counts: Tensor) -> Measured:
        return _measured(mapping, pairs, *_scores(counts, own, mixed, hits.prompts))

    return measure(hits.forced), measure(hits.natural)


def _scores(counts: Tensor, real: Sequence[int], mixed: Sequence[int], prompts: int) -> tuple[Tensor, Tensor | None]:
    """phi* of the pairs at places `real`, and of the `mixed` ones unless they are too few: (L, H) shares of hits.

    counts: (pairs, L, H), hits in `prompts`.
    """

    def phi(places: Sequence[int]) -> Tensor:
        return counts[list(places)].sum(0).double() / (len(places) * prompts)

    return phi(real), phi(mixed) if len(mixed) >= FEWEST else None


def _measured(mapping: HeadMapping, pairs: PairSet, phi: Tensor, null: Tensor | None) -> Measured:
    tested = pair_test(phi, pairs, mapping)
    held = true_of(phi, null)
    own = bool(held[mapping.layer, mapping.head])
    return Measured(
        score=tested.score,
        percentile=tested.percentile,
        others_mean=tested.others_mean,
        shuffled=None if null is None else float(null[mapping.layer, mapping.head]),
        true=own,
        others_true=(int(held.sum()) - own) / max(1, tested.n_others),
    )


def true_of(phi: Tensor, null: Tensor | None) -> Tensor:
    """The rule for all heads at once, (L, H) bool: would the name be true of them? `null` is phi* of mixed pairs."""
    held = (phi >= TAU) & (percentiles(phi) >= HIGH)
    return held if null is None else held & (phi - null >= ABOVE_SHUFFLED)
