"""What a description claims, in a form that can be checked: which rows satisfy it, and which new pairs it predicts.

Everything here follows from the operation's label alone (a known relation, an operation of form, or one labelled field
to another); the rows that the describer saw are only used to leave their sources out.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from agent.results.descriptions import HeadDescription
from agent.words.forms import FORM_BY_NAME, RELATED, FormOperation, same_stem
from agent.words.known_pairs import KnownPairs, label_of
from agent.words.spelled_pairs import single_token, word_ids
from agent.words.spelling import core, is_word
from agent.words.token_classes import CLASSES, TokenClass
from agent.words.word_classes import shared_classes, word_classes
from maps_engine.model import Vocabulary
from maps_engine.ordinary_words import in_finding_half
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.encoding import encode_relation
from maps_engine.relations.thresholds import DEFAULT_K
from maps_engine.results import MappingRow

COPY_K: Final = 1
SHARED_K: Final = 1  # of "words to X": nearly any head has some X among the ten strongest targets of a word
CHOOSING: Final = 12  # pairs of a relation by which heads are chosen: each costs a row of every head
FEWEST_DEALT: Final = 30  # pairs, so that at least ten choose and twenty are left
MAX_PAIRS: Final = 60
MAX_WORDS: Final = 32  # of a claim of classes, and as many outside: each costs a look through a row of every head
TRIED_TOKENS: Final = 60_000
END_LETTERS: Final = 3
CLASS_ORDER: Final = "words of classes"  # seed of the order in which claims of classes take words
WIDEST_CLASS: Final = 4_000  # tokens
LETTERS_SHARED: Final = frozenset(  # forms whose targets are found by search: they share letters with the source
    {"completion of the beginning of a word", "words that begin alike", "words that end alike", RELATED}
)


_Encoded: TypeAlias = tuple[int, tuple[int, ...]]  # source and accepted targets


class ClaimedOperation(Protocol):
    """An operation that can be checked on rows and predicts new pairs."""

    def satisfied(self, row: MappingRow) -> bool | None:
        """Whether the row fits; None when the operation says nothing about its source."""

    def pairs(self, vocabulary: Vocabulary, *, excluded: frozenset[str], n: int) -> PairSet:
        """Up to `n` pairs of token ids whose sources are not among `excluded` (casefolded texts)."""


_WRITTEN: Final = re.compile(r'(?P<sources>[^"]+) to "[^"]+"(?:, "[^"]+")*')  # as `PartClass.label` has it
_QUOTED: Final = re.compile(r'"([^"]+)"')


def claimed_operation(
    label: str, relations: Sequence[Relation], *, scored: bool = False, by_pairs: bool = False
) -> ClaimedOperation | None:
    """The operation that a label names, or None when it is free text.

    `scored`: chosen by `choosing_pairs`, or by a describer who was told of them, so that others test it. `by_pairs`: a
    relation's pairs show it. A form and a relation can have one name ("singular to plural"); it is the form's unless
    pairs show it, since a form is tested on words of any kind.
    """
    wanted = " ".join(label.casefold().split())
    relation = next((one for one in relations if wanted in {one.name, label_of(one.name)}), None)
    if wanted in FORM_BY_NAME and not (by_pairs and relation):
        return ClaimedForm(FORM_BY_NAME[wanted])
    return ClaimedRelation(relation, scored) if relation else _claimed_kinds(wanted, scored)


def claim_of(said: HeadDescription, relations: Sequence[Relation]) -> ClaimedOperation | None:
    """What a description claims, or None where it is free text."""
    return claimed_operation(said.operation, relations, scored=said.scored, by_pairs=said.by_pairs)


@dataclass(frozen=True, slots=True)
class ClaimedRelation:
    """A relation of the catalogue; `scored` where `choosing_pairs` chose it."""

    relation: Relation
    scored: bool = False

    def satisfied(self, row: MappingRow) -> bool | None:
        """None for a source that the relation does not know."""
        table = KnownPairs.of(self.relation)
        if not table.knows(row.token):
            return None
        return any(table.holds(row.token, target.token) for target in row.targets)

    def pairs(self, vocabulary: Vocabulary, *, excluded: frozenset[str], n: int) -> PairSet:
        """The relation's own pairs in this vocabulary, without those that chose it, in an order fixed by its name."""
        choosing, judging = _dealt(self.relation, vocabulary)
        free = judging if self.scored else [*judging, *choosing]
        left = [pair for pair in free if core(vocabulary.text(pair[0])) not in excluded][:n]
        return PairSet(tuple(s for s, _ in left), tuple(t for _, t in left), self.relation.k)


def choosing_pairs(relation: Relation, vocabulary: Vocabulary) -> PairSet:
    """The part of a relation's pairs by which heads are chosen for it; a claim of it is tested on the others."""
    choosing, _ = _dealt(relation, vocabulary)
    return PairSet(tuple(s for s, _ in choosing), tuple(t for _, t in choosing), relation.k)


@lru_cache(1024)
def _dealt(relation: Relation, vocabulary: Vocabulary) -> tuple[list[_Encoded], list[_Encoded]]:
    """(choosing, judging): a third of the pairs in a vocabulary, at most CHOOSING, and the rest.

    Of a relation with fewer than FEWEST_DEALT all pairs judge, or too few would be left.
    """
    encoded = encode_relation(relation, vocabulary)
    pairs = list(zip(encoded.source_ids, encoded.target_ids, strict=True))
    random.Random(relation.name).shuffle(pairs)
    n = min(CHOOSING, len(pairs) // 3) if len(pairs) >= FEWEST_DEALT else 0
    return pairs[:n], pairs[n:]


@dataclass(frozen=True, slots=True)
class ClaimedForm:
    """An operation of form; its pairs are made from the model's own vocabulary."""

    form: FormOperation

    def satisfied(self, row: MappingRow) -> bool | None:
        return any(self.form.holds(row.token, target.token) for target in row.targets)

    def pairs(self, vocabulary: Vocabulary, *, excluded: frozenset[str], n: int) -> PairSet:
        """New tokens and the tokens that the form makes of them, in an order fixed by its name."""
        targets_of = self._producer(vocabulary)
        sources, targets = [], []
        for token, text in _tokens_in_fixed_order(vocabulary, self.form.name):
            if core(text) in excluded:
                continue
            found = tuple(dict.fromkeys(i for i in targets_of(text) if self._counts(token, i)))
            if found:
                sources.append(token)
                targets.append(found)
            if len(sources) == n:
                break
        copies = self.form.name in {"copying", "exact copying"}
        return PairSet(tuple(sources), tuple(targets), COPY_K if copies else DEFAULT_K)

    def _counts(self, source: int, target: int) -> bool:
        return source != target or self.form.name in {"copying", "exact copying"}

    def _producer(self, vocabulary: Vocabulary) -> Callable[[str], list[int]]:
        if self.form.name in LETTERS_SHARED:
            return _alike_finder(vocabulary, self.form)

        def made(text: str) -> list[int]:
            return [i for t in self.form.targets_for(text) if (i := single_token(vocabulary, t)) is not None]

        return made


@dataclass(frozen=True, slots=True)
class ClaimedFields:
    """Words of one class (or any words) to words of another; `scored` where half of the words chose it.

    See `agent.words.word_classes` and `agent.checks.offers.class_scores`.
    """

    sources: frozenset[str]  # empty: any word
    targets: frozenset[str]
    scored: bool = False

    def satisfied(self, row: MappingRow) -> bool | None:
        found = (t.token for t in row.targets if core(t.token) in self.targets)
        return any(not is_own_word(row.token, token, self.targets) for token in found)

    def pairs(self, vocabulary: Vocabulary, *, excluded: frozenset[str], n: int) -> PairSet:
        """Each source with all other words of the target class; beside them words outside the class of sources."""
        ids = {word: word_ids(vocabulary, word) for word in sorted(self.targets)}

        def usable(token: int) -> bool:
            word = core(vocabulary.text(token))
            return word not in excluded and not (self.scored and in_finding_half(word))

        sources, others = _words_and_others(vocabulary, self.sources, usable, n)

        def accepted(source: str) -> tuple[int, ...]:
            return tuple(i for word, own in ids.items() if not is_own_word(source, word, self.targets) for i in own)

        mapped = {s: found for s in sources if (found := accepted(vocabulary.text(s)))}
        return PairSet(tuple(mapped), tuple(mapped.values()), _k_of_classes(self.sources, self.scored), others)


@dataclass(frozen=True, slots=True)
class ClaimedClass:
    """Words of one labelled field (or any words) to tokens of one class; `scored` where half of the words chose it."""

    sources: frozenset[str]  # empty: any word
    target: TokenClass
    scored: bool = False

    def satisfied(self, row: MappingRow) -> bool | None:
        return any(self.target.holds(t.token) for t in row.targets)

    def pairs(self, vocabulary: Vocabulary, *, excluded: frozenset[str], n: int) -> PairSet:
        """Each source with all tokens of the class; beside them words outside the class of sources."""
        targets = _tokens_of_class(vocabulary, self.target)

        def usable(token: int) -> bool:
            text = vocabulary.text(token)
            free = core(text) not in excluded and not (self.scored and in_finding_half(text))
            return free and not self.target.holds(text)

        sources, others = _words_and_others(vocabulary, self.sources, usable, n if targets else 0)
        return PairSet(sources, (targets,) * len(sources), _k_of_classes(self.sources, self.scored), others)


def is_own_word(source: str, target: str, targets: frozenset[str]) -> bool:
    """Whether `target` is the source itself or, where the source is among `targets` too, another form of it.

    kilograms to kilogram is no unit to another unit; quick to quickly is an adjective to an adverb.
    """
    return core(source) == core(target) or (core(source) in targets and same_stem(source, target))


def _k_of_classes(sources: frozenset[str], scored: bool) -> int:
    """What the head writes whatever it reads is held against the one strongest target of each word."""
    return SHARED_K if scored and not sources else DEFAULT_K


def _words_and_others(
    vocabulary: Vocabulary, words: frozenset[str], usable: Callable[[int], bool], n: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """At most MAX_WORDS tokens that are among `words` (empty: any words), and as many that are not.

    Taken in one order for all claims of classes: many share theirs then, and each costs a row of every head.
    """
    most = min(n, MAX_WORDS)
    inside: list[int] = []
    outside: list[int] = []
    for token, text in _tokens_in_fixed_order(vocabulary, CLASS_ORDER):
        if len(inside) >= most and (len(outside) >= most or not words):
            break
        kind = inside if not words or core(text) in words else outside
        if len(kind) < most and usable(token):
            kind.append(token)
    return tuple(inside), tuple(outside)


def _claimed_kinds(label: str, scored: bool) -> ClaimedFields | ClaimedClass | None:
    """`X to Y`, with Y a class of words or of characters, or words in quotes; X is a class of words, else any words."""
    named = {name.casefold(): words for name, words in word_classes().items()}
    written = _WRITTEN.fullmatch(label)
    if written and written["sources"] in named:
        return ClaimedFields(named[written["sources"]], frozenset(_QUOTED.findall(label)), scored)
    for joint in (" to other ", " to "):
        for target, words in named.items():
            if label.endswith(joint + target):
                return ClaimedFields(named.get(label[: -len(joint + target)], frozenset()), words, scored)
        for one in (*CLASSES, *shared_classes()):
            if label.endswith(joint + one.label.casefold()):
                sources = label[: -len(joint + one.label)]
                return ClaimedClass(named.get(sources, frozenset()), one, scored)
    return None


@lru_cache(64)
def _tokens_of_class(vocabulary: Vocabulary, wanted: TokenClass) -> tuple[int, ...]:
    """Normal tokens of a class; none of a class so wide that nearly every head would hit it."""
    found = [i for i in range(len(vocabulary)) if vocabulary.kind(i) == "normal" and wanted.holds(vocabulary.text(i))]
    return tuple(found) if len(found) <= WIDEST_CLASS else ()


def _tokens_in_fixed_order(vocabulary: Vocabulary, seed: str) -> Iterator[tuple[int, str]]:
    """Words and numbers with a leading space, in an order that depends on the seed alone."""
    for token in _fixed_order(len(vocabulary), seed)[:TRIED_TOKENS]:
        text = vocabulary.text(token)
        body = text.strip()
        numeric = body.isascii() and body.isdigit()
        spaced = text.startswith(" ") and len(body) >= 3 and is_word(body)
        if (spaced or numeric) and vocabulary.kind(token) == "normal":
            yield token, text


@lru_cache(64)
def _fixed_order(size: int, seed: str) -> array[int]:
    """range(size) shuffled; the same few operations are claimed for many heads."""
    ids = list(range(size))
    random.Random(seed).shuffle(ids)
    return array("l", ids)


@lru_cache(16)
def _alike_finder(vocabulary: Vocabulary, form: FormOperation) -> Callable[[str], list[int]]:
    """Targets by search, for forms that share beginnings or endings: only words with the same letters are tried."""
    at_end = form.name == "words that end alike"
    index = _words_by_letters(vocabulary, at_end)

    @lru_cache(2**14)
    def found(text: str) -> list[int]:
        return [i for i, other in index.get(_letters(text, at_end), ()) if form.holds(text, other)]

    return found


@lru_cache(4)
def _words_by_letters(vocabulary: Vocabulary, at_end: bool) -> dict[str, list[tuple[int, str]]]:
    """Tokens that are words, by the letters that they begin or end with."""
    index: dict[str, list[tuple[int, str]]] = {}
    for token in range(len(vocabulary)):
        text = vocabulary.text(token)
        if len(core(text)) >= 2 and is_word(text) and vocabulary.kind(token) == "normal":
            index.setdefault(_letters(text, at_end), []).append((token, text))
    return index


def _letters(text: str, at_end: bool) -> str:
    return core(text)[-END_LETTERS:] if at_end else core(text)[:2]
