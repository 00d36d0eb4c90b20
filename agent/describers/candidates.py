"""From counted claims to operations that a head may carry out, best first.

Order: a known relation with pairs among the rows; few shared targets of one kind; operations of form and copying,
by coverage; field to field; token class; related meaning. A relation may lead over copying that covers more rows:
nearly every head that knows a word's country or plural also promotes the word itself. Over copying that is first in
nearly every row it leads only when it holds in most rows and is not a matter of spelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.describers.calibration import Calibration
from agent.describers.findings import Findings
from agent.results.descriptions import Claim
from agent.words.forms import COPYING, FORM_BY_NAME
from agent.words.known_pairs import COPYING_RELATIONS, KnownPairs, label_of
from agent.words.spelling import core

MORE_SPECIFIC = 0.75  # a specific form that explains this share of the general one's rows takes its place
SIDE_EFFECTS = frozenset(  # these hold of many words that are related in some other way
    {"words that begin alike", "words that end alike", "fragments of the word", "word to its beginning",
     "word to its ending", "completion of the beginning of a word"}
)  # fmt: skip
# Common among the targets of random weights too.
EVERYDAY_CLASSES = frozenset({"fragments of words", "capitalised words", "bytes that are no text"})
PURE_COPYING = 0.85  # share of rows that copy, and mean reciprocal rank of the copy
NOTABLE_VARIANT = 0.4  # share of copying rows with a variant that makes it part of the label


@dataclass(frozen=True, slots=True)
class Candidate:
    """One operation that the rows support: its label, its sentence, and the claims that carry it."""

    operation: str
    sentence: str
    coverage: float  # share of rows (or of known sources) that it explains, 0 … 1
    claims: tuple[Claim, ...]

    @property
    def strength(self) -> float:
        """Strength of the leading claim, in nats."""
        return self.claims[0].strength


def candidates(findings: Findings, known: Sequence[KnownPairs], calibration: Calibration) -> list[Candidate]:
    """Operations whose claims pass their thresholds, best first."""
    tables = {table.relation.name: table for table in known}
    limits = calibration.thresholds
    shared = shared_target_candidates(findings, tables, limits)
    relations = relation_candidates(findings, tables, limits)
    copying = copying_candidates(findings.forms, limits)
    forms = form_candidates(findings.forms, limits)
    if copying:  # a copied word brings its relatives with it: alike spellings explain nothing more
        forms = [f for f in forms if f.operation not in SIDE_EFFECTS or f.coverage > copying[0].coverage]
    pure = bool(copying) and _is_pure(copying[0].claims[0])
    if pure:
        leading = [r for r in relations if _stands_beside_copying(r.claims[0], findings.n_rows)]
    else:
        leading = [r for r in relations if not copying or _outweighs(r, findings, limits)]
    by_form = sorted([*forms, *copying], key=lambda c: -c.coverage)
    return [
        *leading,
        *shared,
        *by_form,
        *(r for r in relations if r not in leading),
        *([] if shared else field_candidates(findings, limits)),
        *class_candidates(findings, limits),
        *([] if copying else related_candidates(findings, limits)),
    ]


def _is_pure(copying: Claim) -> bool:
    """Whether the word itself is nearly always the strongest target: then relatives of it are side effects."""
    return copying.k >= PURE_COPYING * copying.n and copying.lead >= PURE_COPYING


def _stands_beside_copying(claim: Claim, n_rows: int) -> bool:
    """Whether a relation counts beside copying: in most rows, and with targets that are not spelled like the source."""
    spelled = [example.casefold().split(" → ") for example in claim.examples]
    alike = sum(pair[0][:3] == pair[-1][:3] for pair in spelled)
    return claim.k >= 0.5 * n_rows and alike < 0.5 * len(spelled)


def _outweighs(relation: Candidate, findings: Findings, limits: Mapping[str, float]) -> bool:
    """Whether a relation leads although the head copies: many rows, or many targets of its type."""
    claim = relation.claims[0]
    typed = next((c.strength for c in findings.typed if c.label == claim.label), 0.0)
    return claim.k >= limits["form_share"] * findings.n_rows or typed >= limits["typed"]


def relation_candidates(
    findings: Findings, tables: Mapping[str, KnownPairs], limits: Mapping[str, float]
) -> list[Candidate]:
    """Known relations by their pairs; of relations that explain the same rows, the one whose targets come first."""
    passing = [
        claim
        for claim in findings.pairs
        if claim.label not in COPYING_RELATIONS
        and claim.strength >= limits["pairs"]
        and claim.k >= limits["pairs_share"] * claim.n
        and claim.k >= limits["pairs_rows"] * findings.n_rows
    ]
    passing.sort(key=lambda c: (-round(c.strength * c.lead), len(tables[c.label].targets_of)))
    found: list[Candidate] = []
    explained: list[frozenset[str]] = []
    for claim in passing:
        rows = frozenset(claim.examples)
        if any(len(rows & other) > 0.5 * len(rows) for other in explained):
            continue
        explained.append(rows)
        relation = tables[claim.label].relation
        found.append(Candidate(label_of(relation.name), relation.description, claim.k / claim.n, (claim,)))
    return found


def form_candidates(forms: Sequence[Claim], limits: Mapping[str, float]) -> list[Candidate]:
    """Operations of form other than copying; a specific one replaces the general one it belongs to."""
    passing = [c for c in forms if not _is_copying(c.label) and _passes(c, limits, "form")]
    counts = {claim.label: claim.k for claim in passing}
    replaced = {
        FORM_BY_NAME[c.label].general
        for c in passing
        if c.k >= MORE_SPECIFIC * counts.get(FORM_BY_NAME[c.label].general, 0)
    }
    rest = [c for c in passing if c.label not in replaced]
    general_left = {c.label for c in rest if not FORM_BY_NAME[c.label].general}
    rest = [c for c in rest if FORM_BY_NAME[c.label].general not in general_left]
    telling = [c.k for c in rest if c.label not in SIDE_EFFECTS]
    rest = [c for c in rest if c.label not in SIDE_EFFECTS or all(k < MORE_SPECIFIC * c.k for k in telling)]
    return [_form(claim) for claim in rest]


def copying_candidates(forms: Sequence[Claim], limits: Mapping[str, float]) -> list[Candidate]:
    """Copying, with case or spacing variants in its label where they are frequent, or a change of case alone."""
    by_label = {claim.label: claim for claim in forms}
    whole = by_label.get(COPYING)
    if whole is None or not _passes(whole, limits, "form"):
        return []
    exact = by_label.get("exact copying")
    if exact is None or exact.k < 0.25 * whole.k:
        changes = [c for c in forms if c.label.startswith("word to ") and _is_copying(c.label)]
        best = max(changes, key=lambda c: c.k, default=None)
        if best is not None and best.k >= MORE_SPECIFIC * whole.k:
            return [_form(best)]
    variants = [
        by_label[name]
        for name in ("copying with case variants", "copying with spacing variants")
        if name in by_label and by_label[name].k >= NOTABLE_VARIANT * whole.k
    ]
    label = variants[0].label if variants else COPYING
    return [Candidate(label, FORM_BY_NAME[COPYING].sentence, whole.k / whole.n, (whole, *variants))]


def shared_target_candidates(
    findings: Findings, tables: Mapping[str, KnownPairs], limits: Mapping[str, float]
) -> list[Candidate]:
    """The same few targets for most inputs, which make one field (pronouns) and so perhaps a known relation."""
    constant = findings.constant
    if constant.k < limits["constant_share"] * constant.n or not findings.target_fields:
        return []
    field = findings.target_fields[0]
    if not _passes(field, limits, "shared_field"):
        return []
    members = {core(word) for word in findings.field_examples.get(field.label, ())} | {core(w) for w in field.examples}
    typed = [
        claim
        for claim in findings.typed
        if claim.strength >= limits["shared_typed"] and _within(tables[claim.label], members)
    ]
    typed = [claim for claim in typed if findings.known_sources[claim.label]]
    typed.sort(key=lambda claim: (-findings.known_sources[claim.label], -claim.strength))
    if typed:
        relation = tables[typed[0].label].relation
        label, sentence = label_of(relation.name), relation.description
    else:
        label = f"{_input_name(findings, limits)} to {field.label}"
        sentence = f"Maps {_input_name(findings, limits)} to the same few {field.label}."
    return [Candidate(label, sentence, field.k / field.n, (field, constant, *typed[:1]))]


def field_candidates(findings: Findings, limits: Mapping[str, float]) -> list[Candidate]:
    """Targets of one semantic field."""
    if not findings.target_fields or not _passes(findings.target_fields[0], limits, "field"):
        return []
    field = findings.target_fields[0]
    name = _input_name(findings, limits)
    same = " other" if name == field.label else ""
    return [
        Candidate(f"{name} to{same} {field.label}", f"Maps {name} to{same} {field.label}.", field.k / field.n, (field,))
    ]


def class_candidates(findings: Findings, limits: Mapping[str, float]) -> list[Candidate]:
    """Targets of one class of characters: numbers, single letters, words in capitals …"""
    telling = [c for c in findings.target_classes if c.label not in EVERYDAY_CLASSES]
    if not telling or not _passes(telling[0], limits, "class"):
        return []
    found = telling[0]
    name = _input_name(findings, limits)
    return [Candidate(f"{name} to {found.label}", f"Maps {name} to {found.label}.", found.k / found.n, (found,))]


def related_candidates(findings: Findings, limits: Mapping[str, float]) -> list[Candidate]:
    """Targets near in meaning to their own source."""
    claim = findings.related
    if not _passes(claim, limits, "related"):
        return []
    return [Candidate("word to related words", "Maps a word to words of related meaning.", claim.k / claim.n, (claim,))]


def _input_name(findings: Findings, limits: Mapping[str, float]) -> str:
    for claim in (*findings.input_fields[:1], *findings.input_classes[:1]):
        if _passes(claim, limits, "input"):
            return claim.label
    return "words"


def _within(table: KnownPairs, members: set[str]) -> bool:
    """Whether most of a relation's targets are among the words of a field."""
    return len(table.all_targets & members) >= 0.5 * len(table.all_targets)


def _form(claim: Claim) -> Candidate:
    form = FORM_BY_NAME[claim.label]
    return Candidate(form.name, form.sentence, claim.k / claim.n, (claim,))


def _is_copying(label: str) -> bool:
    return label == COPYING or FORM_BY_NAME[label].general == COPYING


def _passes(claim: Claim, limits: Mapping[str, float], family: str) -> bool:
    return claim.strength >= limits[family] and claim.k >= limits[f"{family}_share"] * claim.n
