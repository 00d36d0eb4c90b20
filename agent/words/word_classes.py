"""Named classes of words: example words of the labelled fields, and columns of known operations with words of one kind.

An operation such as singular-to-plural lists plural nouns on one side, by the hundred: classes by inflection, which no
list of examples covers. Columns of one kind from several operations are joined, and a column adds to the labelled field
of the same name. Words are compared without case and outer spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, partial
from typing import Final

from agent.words.spelling import core
from agent.words.token_classes import CLASSES, TokenClass, is_mark
from maps_engine.relations.catalogue import load_relations
from prompts import load_prompts

# name of the class: columns "operation>" (its sources) and ">operation" (its targets)
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "singular nouns": ("singular-to-plural>", ">plural-to-singular"),
    "plural nouns": (">singular-to-plural", "plural-to-singular>"),
    "verbs": ("verb-to-past-tense>", ">past-tense-to-verb", ">gerund-to-verb", ">third-person-to-verb"),
    "past tense verbs": (">verb-to-past-tense", "past-tense-to-verb>", ">third-person-to-past-tense"),
    "past participles": (">verb-to-past-participle",),
    "verbs ending in -ing": (">verb-to-gerund", "gerund-to-verb>", ">past-tense-to-gerund"),
    "third person verbs": (">verb-to-third-person", "third-person-to-verb>"),
    "adjectives": (">adverb-to-adjective", "adjective-to-adverb>", "adjective-to-comparative>", ">noun-to-adjective"),
    "adverbs": (">adjective-to-adverb", "adverb-to-adjective>"),
    "comparatives": (">adjective-to-comparative", "comparative-to-adjective>"),
    "superlatives": (">adjective-to-superlative", ">comparative-to-superlative"),
    "nouns made of adjectives": (">adjective-to-noun",),
    "nouns made of verbs": (">verb-to-noun", "noun-to-verb>"),
    "people named by what they do": (">verb-to-agent-noun", "agent-noun-to-verb>", "profession-to-field>"),
    "names of people": ("name-copying>", "first-name-to-pronoun>", "first-name-to-surname>"),
    "countries": ("country-to-capital>", "country-to-language>", "country-to-currency>"),
    "nationalities": (">country-to-nationality", "nationality-to-country>"),
    "cities": ("city-to-country>", ">country-to-capital", "state-to-capital>", "city-to-state>"),
    "languages": (">country-to-language", "language-to-country>"),
    "animals": ("animal-to-class>", "animal-to-young>"),
    "industries": (">company-to-industry",),
    "companies": ("company-to-country>", "company-to-industry>"),
    "fields of work": (">profession-to-field", "field-to-profession>"),
    "body parts": (">illness-to-body-part",),
    "foods": ("food-to-category>",),
    "things of daily use": ("thing-to-use>", "object-to-material>", "object-to-superclass>"),
    "equipment": (">activity-to-equipment",),
    "activities": ("activity-to-equipment>", "activity-to-place>"),
    "parts of things": ("part-to-whole>", ">whole-to-part"),
    "number words": ("number-word-to-digits>", ">digits-to-number-word", "number-word-to-next>"),
    "numbers in digits": (">number-word-to-digits", "number-to-next>"),
    "years": ("year-to-following>", "year-to-previous>"),
    "ordinal words": (">cardinal-to-ordinal",),
    "months": ("month-to-next-month>",),
    "weekdays": ("weekday-to-next-weekday>",),
    "units of measure": ("unit-to-abbreviation>",),
    "words with a negating prefix": (">word-to-negated", "negated-to-word>"),
    "British spellings": (">american-to-british", "british-to-american>"),
    "American spellings": (">british-to-american", "american-to-british>"),
    "French words": (">english-to-french", "french-to-english>"),
    "Spanish words": (">english-to-spanish", "spanish-to-english>"),
    "German words": (">english-to-german", "german-to-english>"),
    "Italian words": (">english-to-italian",),
    "Portuguese words": (">english-to-portuguese",),
}
PRONOUNS: Final = ("personal pronouns", "possessive pronouns", "reflexive pronouns")
FUNCTION_WORDS: Final = (
    "articles and determiners",
    "conjunctions",
    "demonstratives",
    "modal and auxiliary verbs",
    "prepositions",
    "question words",
)
BRACKETS: Final = frozenset("()[]{}<>")
QUOTATION_MARKS: Final = frozenset("\"'`\u00ab\u00bb\u2018\u2019\u201c\u201d")


@cache
def word_classes() -> Mapping[str, frozenset[str]]:
    """Words (casefolded) of every class, by its name."""
    columns: dict[str, set[str]] = {}
    for one in load_relations():
        columns[f"{one.name}>"] = {core(source) for source, _ in one.pairs}
        columns[f">{one.name}"] = {core(target) for _, targets in one.pairs for target in targets}
    found = {name: {core(word) for word in words} for name, words in load_prompts().field_labels.items()}
    for name, parts in COLUMNS.items():
        found.setdefault(name, set()).update(*(columns[part] for part in parts))
    return {name: frozenset(words - {""}) for name, words in found.items()}


@cache
def shared_classes() -> tuple[TokenClass, ...]:
    """Classes of tokens that a head may write whatever it reads, beside those of words: joined ones, and marks."""
    named = word_classes()
    pronouns = frozenset().union(*(named[part] for part in PRONOUNS))
    function_words = pronouns.union(*(named[part] for part in FUNCTION_WORDS))
    return (
        TokenClass("pronouns", lambda text: core(text) in pronouns),
        TokenClass("function words", lambda text: core(text) in function_words),
        TokenClass("brackets", lambda text: is_mark(text) and not BRACKETS.isdisjoint(text)),
        TokenClass("quotation marks", lambda text: is_mark(text) and not QUOTATION_MARKS.isdisjoint(text)),
        TokenClass("marks and spaces", lambda text: is_mark(text) or (bool(text) and not text.strip())),
        *(one for one in CLASSES if one.label in ("single letters", "numbers")),
    )


@cache
def all_classes() -> tuple[TokenClass, ...]:
    """Classes of words and of marks, each of one name."""
    by_name = {name: TokenClass(name, partial(_is_one_of, words)) for name, words in word_classes().items()}
    return tuple((by_name | {one.label: one for one in shared_classes()}).values())


def _is_one_of(words: frozenset[str], text: str) -> bool:
    return core(text) in words


@cache
def word_classes_version() -> str:
    """A hash of all classes: what they hold decides descriptions and tests."""
    words = {name: sorted(words) for name, words in word_classes().items()}
    joined = [PRONOUNS, FUNCTION_WORDS, sorted(BRACKETS), sorted(QUOTATION_MARKS)]
    content = json.dumps([words, joined], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
