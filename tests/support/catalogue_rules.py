"""Rules that tests hold the catalogue's files to, and how many of their pairs a tokenizer can score.

Checked: form of names and sentences, missing provenance, duplicate and contradicting sources, pairs that map a
word to itself, stray spaces and case, text that is not NFC, words that have no place in a catalogue.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from maps_engine.model import Vocabulary
from maps_engine.relations.encoding import TargetRule, encode_relation
from maps_engine.relations.format import CATEGORIES, Pair, Relation

MIN_PAIRS: Final = 10
PAPER_PAIRS: Final = 80  # the paper's smallest relation
LICENCES: Final = frozenset({"Apache-2.0"})
_NAME = re.compile(r"[a-z]+(-[a-z]+)*")
_SENTENCE = re.compile(r"Maps [^.!?]+\.")
_PHRASE = re.compile(r"[^.!?\s]([^.!?]*[^.!?\s])?")
_MIXED_CASE = re.compile(r"[a-z][A-Z]|[A-Z]{2,}[a-z]")
# Slurs and obscenities, in ROT13 so that nobody has to read them here; none may be a word of an operation.
_UNWANTED: Final = frozenset(
    codecs.decode(
        """avttre avttn snttbg snt xvxr puvax tbbx fcvp jrgonpx pbba qlxr genaal ergneq pelccyr zvqtrg tlcfl tlc
        phag shpx fuvg ovgpu onfgneq juber fyhg qvpx pbpx chffl nffubyr nff cvff penc gjng jnax obyybpxf anmv encr
        encvfg cbea zbeba vzorpvyr fcnfgvp cnxv wnc fdhnj erqfxva zhynggb uvgyre fynir fynirf fhvpvqr phz gvgf obbof""",
        "rot13",
    ).split()
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule that a relation breaks, and where."""

    relation: str
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How many pairs of a relation one vocabulary can score."""

    relation: str
    pairs: int
    used: int


def validate(relations: Iterable[Relation]) -> tuple[Problem, ...]:
    """Every rule that the relations break, in their order; empty for a clean catalogue."""
    known = tuple(relations)
    names = Counter(relation.name for relation in known)
    problems = [Problem(name, "name is not unique", f"{n} times") for name, n in names.items() if n > 1]
    for relation in known:
        problems += (Problem(relation.name, rule, detail) for rule, detail in _problems(relation))
    return tuple(problems)


def one_token_counts(
    relations: Iterable[Relation], vocabulary: Vocabulary, *, target: TargetRule = "single"
) -> tuple[TokenCount, ...]:
    """Pairs and usable pairs of each relation under `vocabulary`."""
    return tuple(
        TokenCount(relation.name, relation.n_pairs, encode_relation(relation, vocabulary, target=target).n_used)
        for relation in relations
    )


def _problems(relation: Relation) -> Iterator[tuple[str, str]]:
    yield from _field_problems(relation)
    yield from _source_problems(relation)
    for pair in relation.pairs:
        yield from _pair_problems(relation, pair)


def _field_problems(relation: Relation) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(relation.name):
        yield "name is not kebab-case", relation.name
    if relation.category not in CATEGORIES:
        yield "unknown category", relation.category
    if not _SENTENCE.fullmatch(relation.description):
        yield "description is not one sentence that begins with Maps", relation.description
    for field, text in (("inputs", relation.inputs), ("outputs", relation.outputs)):
        if not _PHRASE.fullmatch(text):
            yield f"{field} is not a short phrase", text
    if not relation.provenance.strip():
        yield "no provenance", relation.provenance
    if relation.licence not in LICENCES:
        yield "unknown licence", relation.licence
    least = PAPER_PAIRS if relation.paper else MIN_PAIRS
    if relation.n_pairs < least:
        yield "too few pairs", f"{relation.n_pairs} of {least}"
    if relation.k < 1 or (relation.identity and relation.k != 1):
        yield "k does not fit", str(relation.k)


def _source_problems(relation: Relation) -> Iterator[tuple[str, str]]:
    targets_of: dict[str, set[frozenset[str]]] = {}
    counts = Counter(source for source, _ in relation.pairs)
    for source, targets in relation.pairs:
        targets_of.setdefault(source, set()).add(frozenset(targets))
    for source, number in counts.items():
        if number > 1:
            contradicts = len(targets_of[source]) > 1
            yield "contradicting pairs" if contradicts else "duplicate pair", source


def _pair_problems(relation: Relation, pair: Pair) -> Iterator[tuple[str, str]]:
    source, targets = pair
    shown = f"{source} -> {', '.join(targets)}"
    if not targets or not all((source, *targets)):
        yield "empty word", shown
    if len(set(targets)) != len(targets):
        yield "target named twice", shown
    same_spaces = relation.source_space == relation.target_space  # " word" to "word" is no copy
    copies = [target for target in targets if target == source and same_spaces]
    if relation.identity != bool(copies) or (relation.identity and len(targets) > 1):
        yield "maps a word to itself" if copies else "does not copy", shown
    for word in (source, *targets):
        yield from ((rule, shown) for rule in _word_problems(relation, word))


def _word_problems(relation: Relation, word: str) -> Iterator[str]:
    if word != " ".join(word.split()):
        yield "stray space"
    if not unicodedata.is_normalized("NFC", word) or not word.isprintable():
        yield "text is not printable NFC"
    if relation.category in ("linguistic", "translation") and _MIXED_CASE.search(word):
        yield "stray case"
    if _UNWANTED & set(re.split(r"[^a-z]+", word.lower())):
        yield "unwanted word"
