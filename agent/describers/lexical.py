"""The describer that needs no language model: it names operations by counted evidence.

What it claims is what it counted: every sentence carries k of n. Thresholds and background rates come from
`calibration.json`; below them the answer is "unclear". It sees meaning only through labelled word lists, known pairs
and MiniLM vectors of words, so a relation that is in none of them is at best called "word to related words".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.describers.calibration import Calibration, load_calibration
from agent.describers.candidates import Candidate, candidates
from agent.describers.findings import Findings, find
from agent.describers.statistics import log_likelihood_ratio
from agent.results.descriptions import Claim, HeadDescription, counted_unit
from agent.results.evidence import ClassScore, Evidence, KnownScore, PartClass, SharedScore
from agent.words.fields import SemanticFields
from agent.words.known_pairs import label_of, tables
from agent.words.word_classes import word_classes_version
from maps_engine.relations.catalogue import Relation
from prompts import load_prompts

MOST_RANKED = 24  # descriptions of one head by rows and pairs that are tested
SHOWN_EXAMPLES = 3
MIN_ROWS = 6
MIXED = "Mixed tokens."
OFTEN = 0.75  # of the words or rows that were counted: fewer are "often"
SOMETIMES = 0.4
BESIDES_ROWS = ("scored", "class", "shared", "part")  # kinds of claims that say nothing of the salient tokens


class LexicalDescriber:
    """Describes a head from pairs, forms and fields."""

    name = "lexical"

    def __init__(
        self,
        fields: SemanticFields,
        relations: Sequence[Relation],
        *,
        calibration: Calibration | None = None,
    ) -> None:
        self._fields = fields
        self._known = tables(relations)
        self._relations = {one.name: one for one in relations}
        self._calibration = calibration or load_calibration()

    @property
    def settings(self) -> Mapping[str, Any]:
        """Versions of the word lists and of the calibration, and how much is tested: they decide the answer."""
        return {
            "field_labels": load_prompts().field_labels_version,
            "calibration": self._calibration.version,
            "relations": len(self._known),
            "word_classes": word_classes_version(),
            "ranked": MOST_RANKED,
        }

    def describe(self, evidence: Evidence) -> HeadDescription:
        """The best supported operation with its evidence, or unclear with the reason."""
        return self.ranked(evidence)[0]

    def ranked(self, evidence: Evidence) -> tuple[HeadDescription, ...]:
        """All operations that the rows support, those that the head passes on, and what classes of words it maps.

        Behind them what its parts do (`HeadDescription.part`).

        Unclear with the reason where there are none.
        """
        if len(evidence.rows) < MIN_ROWS:
            return (self._unclear(f"only {len(evidence.rows)} rows; at least {MIN_ROWS} are needed", ()),)
        findings = self.findings(evidence)
        by_rows = candidates(findings, self._known, self._calibration)
        known = [_passed(one, self._relations[one.operation]) for one in evidence.known]
        classes = [_mapped(one) for one in evidence.classes]
        found: dict[str, Candidate] = {}
        for one in (*by_rows, *known):
            found.setdefault(one.operation, one)
            if found[one.operation].claims[0].kind == "form" and one.claims[0].kind == "scored":
                found[f"{one.operation}, known pairs"] = one  # a form of that name is tested on other words
        found = dict(list(found.items())[:MOST_RANKED])
        for one in classes:
            found.setdefault(one.operation, one)
        if evidence.shared is not None:
            found = _with_shared(found, _written(evidence.shared))
        inputs, input_claims = self._inputs(findings)
        said = tuple(self._said(one, inputs, input_claims) for one in found.values())
        if not said:
            said = (replace(self._unclear(_closest(findings), input_claims), input_strings=inputs),)
        return (*said, *(self._of_part(one) for one in evidence.part_classes))

    def _of_part(self, one: PartClass) -> HeadDescription:
        """What is said of one part of the head."""
        return replace(self._said(_by_part(one), MIXED, ()), part=one.part)

    def _said(self, one: Candidate, inputs: str, input_claims: Sequence[Claim]) -> HeadDescription:
        return HeadDescription(
            status="ok",
            describer=self.name,
            input_strings=_of_salient(inputs) if one.claims[0].kind in BESIDES_ROWS else inputs,
            observed_pattern=_main_sentence(one),
            operation=one.operation,
            confidence=self._confidence(one),
            reasoning=_reasoning(one),
            claims=tuple(map(_short, dict.fromkeys((*one.claims, *input_claims)))),
            settings=dict(self.settings),
        )

    def findings(self, evidence: Evidence) -> Findings:
        """All claims about the rows, weak ones included."""
        return find(evidence.rows, fields=self._fields, known=self._known, calibration=self._calibration)

    def _unclear(self, reason: str, claims: Sequence[Claim]) -> HeadDescription:
        return HeadDescription(
            status="unclear",
            describer=self.name,
            input_strings="Unclear.",
            observed_pattern="Unclear.",
            operation="unclear",
            reason=reason,
            claims=tuple(map(_short, claims)),
            settings=dict(self.settings),
        )

    def _inputs(self, findings: Findings) -> tuple[str, tuple[Claim, ...]]:
        """One sentence on the inputs: up to two fields that cover different words, and their form."""
        limits = self._calibration.thresholds
        fields = [c for c in findings.input_fields if _passes_input(c, limits)]
        chosen = fields[:1]
        for claim in fields[1:]:
            new = set(claim.examples) - set(chosen[0].examples)
            if len(new) >= max(4, 0.2 * claim.n):
                chosen.append(claim)
                break
        forms = [c for c in findings.input_classes if _passes_input(c, limits)][:1]
        if not chosen and not forms:
            return MIXED, ()
        parts = [f"{c.label} ({c.k} of {c.n})" for c in (*chosen, *forms)]
        shown = ", ".join(token.strip() for token in (chosen or forms)[0].examples[:SHOWN_EXAMPLES] if token.strip())
        sentence = " and ".join(parts)
        return sentence[0].upper() + sentence[1:] + (f", such as {shown}." if shown else "."), (*chosen, *forms)

    def _confidence(self, best: Candidate) -> float:
        """0 … 1: half coverage, half strength as a share of five thresholds of forms; a scale, not a probability."""
        ceiling = 5 * self._calibration.thresholds["form"]
        return round(0.5 * best.coverage + 0.5 * min(1.0, best.strength / ceiling), 2)


def _passes_input(claim: Claim, limits: Mapping[str, float]) -> bool:
    return claim.strength >= limits["input"] and claim.k >= limits["input_share"] * claim.n


def _of_salient(inputs: str) -> str:
    """What the salient tokens are, so that it is not read as what the claim is about."""
    return f"Its most salient tokens: {inputs}" if inputs != MIXED else ""


def _how_often(candidate: Candidate) -> str:
    """The sentence, with "often" or "sometimes" where it holds for a part of what was counted."""
    lead, said = candidate.claims[0], candidate.sentence.rstrip(".")
    share = lead.k / lead.n
    if lead.kind in ("shared", "part") or share >= OFTEN:
        return said
    return f"{'Sometimes' if share < SOMETIMES else 'Often'} {said[0].lower()}{said[1:]}"


def _main_sentence(candidate: Candidate) -> str:
    text = f"{_how_often(candidate)} ({'; '.join(_counted(c) for c in candidate.claims if c.kind != 'typed')})"
    shown = [e for e in candidate.claims[0].examples if "→" in e][:SHOWN_EXAMPLES]
    return f"{text}, such as {', '.join(shown)}." if shown else f"{text}."


def _passed(one: KnownScore, relation: Relation) -> Candidate:
    """A known operation that the head passes on, whether or not its rows show it."""
    k, n = round(one.score * one.n_pairs), one.n_pairs
    claim = Claim(
        "scored", relation.name, k, n, one.shuffled * n, log_likelihood_ratio(k, n, max(one.shuffled, 0.5 / n))
    )
    return Candidate(label_of(relation.name), relation.description, one.score, (claim,))


def _mapped(one: ClassScore) -> Candidate:
    """Words of one class to words of another, whether or not the head's rows show it."""
    k, n = round(one.score * one.n_words), one.n_words
    claim = Claim("class", one.label, k, n, one.outside * n, one.strength, one.words)
    shown = ", ".join(f"{word!r}" for word in one.words)
    sentence = f"Maps {one.label}, most often to {shown}, where {one.outside:.0%} of other words map to one"
    return Candidate(one.label, sentence, one.score, (claim,))


def _written(one: SharedScore) -> Candidate:
    """What the head writes whatever it reads."""
    n = one.n_targets
    k, expected = round(one.share * n), one.expected * n
    claim = Claim("shared", one.label, k, n, expected, log_likelihood_ratio(k, n, one.expected), one.words)
    shown = ", ".join(f"{word!r}" for word in one.words)
    sentence = (
        f"Maps most words to {one.target}, whatever they are, most often to {shown}; "
        f"the strongest target of {one.first:.0%} of {one.n_words} words is one"
    )
    return Candidate(one.label, sentence, one.first, (claim,))


def _by_part(one: PartClass) -> Candidate:
    """What a part of the head maps the words of a class to."""
    claim = Claim("part", one.label, one.k, one.n, one.expected, one.strength, one.written)
    return Candidate(one.label, f"Maps {one.label}", one.k / one.n, (claim,))


def _with_shared(found: Mapping[str, Candidate], shared: Candidate) -> dict[str, Candidate]:
    """`shared` in front of what rows alone show of any words: it stands on thousands of words."""
    broad = {name: one for name, one in found.items() if name.startswith("words to ")}
    others = {name: one for name, one in found.items() if name not in broad}
    return {
        **others,
        shared.operation: shared,
        **{name: one for name, one in broad.items() if name != shared.operation},
    }


def _counted(claim: Claim) -> str:
    what = counted_unit(claim.kind)
    if claim.kind == "constant-targets":
        what += f" hold one of: {claim.label}"
    elif claim.kind in ("target-field", "target-form"):
        what += f" are {claim.label}"
    variant = f" {claim.label.removeprefix('copying ')}" if claim.label.startswith("copying with") else ""
    return f"{claim.k} of {claim.n} {what}{variant}"


def _reasoning(best: Candidate) -> str:
    lead = best.claims[0]
    return (
        f"{label_of(lead.label)}: {lead.k} of {lead.n}, where {lead.expected:.1f} would be expected by chance "
        f"(strength {lead.strength:.0f} nats)."
    )


def _closest(findings: Findings) -> str:
    """Why nothing is claimed: the claim that came closest."""
    near = [c[0] for c in (findings.pairs, findings.forms, findings.target_fields) if c and c[0].k]
    if not near:
        return "no operation holds for three or more rows"
    best = max(near, key=lambda c: c.strength)
    return (
        f"too little evidence: the closest is {label_of(best.label)} with {best.k} of {best.n}, "
        f"where {best.expected:.1f} would be expected by chance"
    )


def _short(claim: Claim) -> Claim:
    return replace(
        claim,
        expected=round(claim.expected, 2),
        strength=round(claim.strength, 1),
        examples=claim.examples[:SHOWN_EXAMPLES],
    )
