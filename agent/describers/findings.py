"""Everything countable about the rows of one head, each as a Claim with its strength against a null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agent.describers.calibration import UNKNOWN_RATE, Calibration
from agent.describers.statistics import RowHit, log_likelihood_ratio, strength
from agent.results.descriptions import Claim
from agent.words.fields import SemanticFields
from agent.words.forms import FORMS, Holds
from agent.words.known_pairs import KnownPairs
from agent.words.spelling import core
from agent.words.token_classes import CLASSES
from maps_engine.results import MappingRow
from prompts import load_prompts

MIN_HITS = 3  # two rows that fit are never a pattern
CONSTANT_TARGETS = 3  # how many most frequent targets a constant head may share among its rows
NEAR_SHARE = 0.1  # a row is "related" when its own targets are among the nearest tenth


@dataclass(frozen=True, slots=True)
class Findings:
    """All claims about one head; each tuple is sorted by strength, strongest first."""

    forms: tuple[Claim, ...]
    pairs: tuple[Claim, ...]
    typed: tuple[Claim, ...]
    related: Claim
    constant: Claim
    input_fields: tuple[Claim, ...]
    target_fields: tuple[Claim, ...]
    input_classes: tuple[Claim, ...]
    target_classes: tuple[Claim, ...]
    n_rows: int
    field_examples: Mapping[str, tuple[str, ...]]  # the labelled word lists
    known_sources: Mapping[str, int]  # relation -> rows whose source it knows


def find(
    rows: Sequence[MappingRow],
    *,
    fields: SemanticFields,
    known: Sequence[KnownPairs],
    calibration: Calibration,
) -> Findings:
    """All claims about `rows`, weak ones included: deciding is the describer's part."""
    own = without_copies(rows)
    inputs = distinct_words(row.token for row in rows)
    targets = distinct_words(t.token for row in own for t in row.targets)
    return Findings(
        forms=_sorted(form_claims(rows)),
        pairs=_sorted(pair_claims(rows, known)),
        typed=_sorted(typed_claims(own, known, calibration)),
        related=related_claim(own, fields),
        constant=constant_claim(own),
        input_fields=_sorted(field_claims("input-field", inputs, fields, calibration.input_fields)),
        target_fields=_sorted(field_claims("target-field", targets, fields, calibration.target_fields)),
        input_classes=_sorted(class_claims("input-form", inputs, calibration.input_classes)),
        target_classes=_sorted(class_claims("target-form", targets, calibration.target_classes)),
        n_rows=len(rows),
        field_examples=load_prompts().field_labels,
        known_sources={table.relation.name: sum(table.knows(row.token) for row in rows) for table in known},
    )


def form_claims(rows: Sequence[MappingRow]) -> list[Claim]:
    """Rows with at least one target that an operation of form explains, against permuted targets."""
    claims = []
    for form in FORMS:
        k, rate, gain = strength(rows, _row_hit(form.holds), at_least=MIN_HITS)
        if k >= MIN_HITS:
            shown = examples(rows, form.holds)
            lead = mean_reciprocal_rank(rows, form.holds)
            claims.append(Claim("form", form.name, k, len(rows), rate * len(rows), gain, shown, lead))
    return claims


def _row_hit(holds: Holds) -> RowHit:
    return lambda a, b: any(holds(a.token, target.token) for target in b.targets)


def examples(rows: Sequence[MappingRow], holds: Holds) -> tuple[str, ...]:
    """`source → target` of every row that fits, with its strongest fitting target."""
    fitting = []
    for row in rows:
        target = next((t.token for t in row.targets if holds(row.token, t.token)), None)
        if target is not None:
            fitting.append(f"{row.token.strip()} → {target.strip()}")
    return tuple(fitting)


def mean_reciprocal_rank(rows: Sequence[MappingRow], holds: Holds) -> float:
    """Mean of 1 / place of the first fitting target, over rows that fit: tells an operation from its side effects."""
    places = [
        next((place for place, t in enumerate(row.targets, 1) if holds(row.token, t.token)), None) for row in rows
    ]
    fitting = [1 / place for place in places if place is not None]
    return sum(fitting) / len(fitting) if fitting else 0.0


def pair_claims(rows: Sequence[MappingRow], known: Sequence[KnownPairs]) -> list[Claim]:
    """Rows whose source is known to a relation, and how many of them hold one of its targets."""
    return [claim for table in known if (claim := _pair_claim(rows, table)) is not None]


def _pair_claim(rows: Sequence[MappingRow], table: KnownPairs) -> Claim | None:
    places = [i for i, row in enumerate(rows) if table.knows(row.token)]
    hit = _row_hit(table.holds)
    k = sum(hit(rows[i], rows[i]) for i in places)
    if k < MIN_HITS:
        return None
    crossed = sum(hit(rows[i], b) for i in places for b in rows) - k
    m = len(places)
    rate = min((crossed + 0.5) / (m * (len(rows) - 1) + 1), 0.999)
    gain = log_likelihood_ratio(k, m, rate)
    lead = mean_reciprocal_rank(without_copies(rows), table.holds)
    return Claim("pairs", table.relation.name, k, m, rate * m, gain, examples(rows, table.holds), lead)


def typed_claims(rows: Sequence[MappingRow], known: Sequence[KnownPairs], calibration: Calibration) -> list[Claim]:
    """Distinct target words that are targets of a relation, whatever their source."""
    words = {core(t.token) for row in rows for t in row.targets} - {""}
    claims = []
    for table in known:
        found = sorted(words & table.all_targets)
        if len(found) >= MIN_HITS:
            rate = calibration.typed_rate(table.relation.name)
            gain = log_likelihood_ratio(len(found), len(words), rate)
            name = table.relation.name
            claims.append(Claim("typed", name, len(found), len(words), rate * len(words), gain, tuple(found)))
    return claims


def related_claim(rows: Sequence[MappingRow], fields: SemanticFields) -> Claim:
    """Rows whose targets lie nearer in meaning to their own source than to nine tenths of the other sources."""
    used = [row for row in rows if row.targets and core(row.token)]
    if len(used) < 2 * MIN_HITS:
        return Claim("related", "word to related words", 0, len(used))
    sources = fields.vectors([core(row.token) for row in used])
    means = np.stack([fields.vectors([core(t.token) for t in row.targets]).mean(axis=0) for row in used])
    cosines = means @ sources.T  # (rows of targets, sources)
    rank = (cosines > np.diag(cosines)[:, None]).sum(axis=1)
    k = int((rank < NEAR_SHARE * len(used)).sum())
    gain = log_likelihood_ratio(k, len(used), NEAR_SHARE)
    return Claim("related", "word to related words", k, len(used), NEAR_SHARE * len(used), gain)


def constant_claim(rows: Sequence[MappingRow]) -> Claim:
    """Rows that hold one of the head's few most frequent targets: the same outputs whatever the input."""
    few, k = shared_words(rows)
    return Claim("constant-targets", ", ".join(few), k, len(rows))


def shared_words(rows: Sequence[MappingRow]) -> tuple[list[str], int]:
    """The head's few most frequent targets, and how many rows hold one of them."""
    words = [dict.fromkeys(core(t.token) for t in row.targets) for row in rows]  # no set: ties go by first appearance
    counts = Counter(word for own in words for word in own if word)
    few = [word for word, _ in counts.most_common(CONSTANT_TARGETS)]
    return few, sum(any(core(t.token) in few for t in row.targets) for row in rows)


def field_claims(kind: str, tokens: Sequence[str], fields: SemanticFields, rates: Mapping[str, float]) -> list[Claim]:
    """Distinct words that belong to each field, against the field's rate in the background."""
    members = fields.members(tokens)
    return _one_sided(kind, dict(zip(fields.labels, members.T, strict=True)), tokens, rates)


def class_claims(kind: str, tokens: Sequence[str], rates: Mapping[str, float]) -> list[Claim]:
    """Distinct tokens of each class of form, against its rate in the background."""
    members = {one.label: [one.holds(token) for token in tokens] for one in CLASSES}
    return _one_sided(kind, members, tokens, rates)


def _one_sided(
    kind: str, members: Mapping[str, Sequence[bool]], tokens: Sequence[str], rates: Mapping[str, float]
) -> list[Claim]:
    claims = []
    n = len(tokens)
    for label, flags in members.items():
        k = int(sum(flags))
        if k >= MIN_HITS:
            rate = rates.get(label, UNKNOWN_RATE)
            shown = tuple(token for token, flag in zip(tokens, flags, strict=True) if flag)
            claims.append(Claim(kind, label, k, n, rate * n, log_likelihood_ratio(k, n, rate), shown))
    return claims


def without_copies(rows: Sequence[MappingRow]) -> list[MappingRow]:
    """The rows without targets that only repeat the source in another case or spacing."""
    return [
        MappingRow(
            row.token, row.token_id, row.salience,
            tuple(t for t in row.targets if core(t.token) != core(row.token)),
        )
        for row in rows
    ]  # fmt: skip


def distinct_words(tokens: Iterable[str]) -> list[str]:
    """Each word once, case and spacing aside, in order of appearance; spelled with its leading space if ever so."""
    first: dict[str, str] = {}
    for token in tokens:
        key = core(token) or token
        if key not in first or (token.startswith(" ") and not first[key].startswith(" ")):
            first[key] = token
    return list(first.values())


def _sorted(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    return tuple(sorted(claims, key=lambda claim: -claim.strength))
