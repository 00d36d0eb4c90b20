"""From a label to rows that fit and new pairs: relations, forms, fields; on a real tokenizer of a few hundred words."""

import pytest

from agent.checks.claims import (
    MAX_WORDS,
    ClaimedClass,
    ClaimedFields,
    ClaimedForm,
    ClaimedRelation,
    _tokens_of_class,
    choosing_pairs,
    claimed_operation,
)
from agent.words.spelling import core
from agent.words.word_classes import word_classes
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.relations.catalogue import load_relations
from tests.support.agent.mappings import planted, row
from tests.support.word_vocabulary import word_vocabulary

RELATIONS = load_relations()
CAPITALS = load_relations(["country-to-capital"])[0]
WORDS = (
    "house", "houses", "dog", "dogs", "walk", "walks", "walked", "walking", "quick", "quickly", "happy",
    "unhappy", "he", "him", "his", "they", "them", "their", "station", "stable", "nation", "12",
    "13", "14", "a", "b", "d", "h", "w", "red", "RED", "Red",
)  # fmt: skip


def vocabulary():
    """A word-level BPE-like vocabulary: every word with a leading space, and without."""
    words = [*WORDS, *(w for s, targets in CAPITALS.pairs for w in (s, *targets) if " " not in w)]
    return word_vocabulary(t for w in words for t in (f" {w}", w))


VOCABULARY = vocabulary()
WALKS = {" walk", "walk", " walked", "walked", " walking", "walking"}


def texts(pairs):
    return [
        (VOCABULARY.text(s), {VOCABULARY.text(t) for t in targets})
        for s, targets in zip(pairs.sources, pairs.targets, strict=True)
    ]


def pairs_of(label, *, excluded=(), n=60):
    return claimed_operation(label, RELATIONS).pairs(VOCABULARY, excluded=frozenset(excluded), n=n)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("country-to-capital", ClaimedRelation),
        ("Country to  Capital", ClaimedRelation),
        ("copying with case variants", ClaimedForm),
        ("word to first letter", ClaimedForm),
        ("countries to capital cities", ClaimedFields),
        ("nationalities to other nationalities", ClaimedFields),
        ("words to personal pronouns", ClaimedFields),
        ("words to words in capitals", ClaimedClass),
        ("months to single letters", ClaimedClass),
        ("maps the soul to the sea", type(None)),
        ("", type(None)),
    ],
)
def test_labels(label, kind):
    assert isinstance(claimed_operation(label, RELATIONS), kind)


def test_what_pairs_of_a_relation_chose_is_tested_by_others_of_them_though_a_form_has_its_name():
    label = "singular to plural"
    claim = claimed_operation(label, RELATIONS, scored=True, by_pairs=True)
    assert isinstance(claim, ClaimedRelation)
    assert isinstance(claimed_operation(label, RELATIONS, scored=True), ClaimedForm)  # said by one who was told
    nouns = word_vocabulary(f" {word}" for source, targets in claim.relation.pairs for word in (source, *targets))
    chosen = set(choosing_pairs(claim.relation, nouns).sources)
    tests = set(claim.pairs(nouns, excluded=frozenset(), n=60).sources)
    assert chosen
    assert len(tests) == 60
    assert not chosen & tests


def test_pairs_of_a_relation_leave_shown_sources_out():
    everything = texts(pairs_of("country to capital"))
    assert (" France", {" Paris"}) in everything or len(everything) == 60
    shown = {core(source) for source, _ in everything[:30]}
    left = texts(pairs_of("country to capital", excluded=shown))
    assert left
    assert not shown & {core(source) for source, _ in left}


def test_a_class_of_characters_is_tested_with_all_its_tokens():
    known = vocabulary()
    pairs = pairs_of("words to words in capitals")
    texts_of = [known.text(i).strip() for i in range(len(known))]
    every = {i for i, text in enumerate(texts_of) if len(text) > 1 and text.isalpha() and text.isupper()}
    assert {"RED"} <= {texts_of[i] for i in every}
    assert [set(targets) for targets in pairs.targets] == [every] * len(pairs.sources)
    assert not every & set(pairs.sources)
    assert pairs_of("months to words in capitals").sources == ()  # no month is in this vocabulary
    claim = claimed_operation("words to single letters", RELATIONS)
    assert claim.satisfied(row(" house", [" h", " houses"]))
    assert not claim.satisfied(row(" house", [" houses"]))


def test_a_class_too_wide_to_say_anything_is_not_tested(monkeypatch):
    monkeypatch.setattr("agent.checks.claims.WIDEST_CLASS", 1)
    _tokens_of_class.cache_clear()
    assert pairs_of("words to words in capitals").sources == ()
    _tokens_of_class.cache_clear()


def test_pairs_are_the_same_every_time_and_never_more_than_asked_for():
    assert pairs_of("country to capital", n=7) == pairs_of("country to capital", n=7)
    assert len(pairs_of("country to capital", n=7).sources) == 7


@pytest.mark.parametrize(
    ("label", "source", "targets"),
    [
        ("singular to plural", " house", {" houses"}),
        ("word to its -ing form", " walk", {" walking"}),
        ("-ing form to its base word", " walking", {" walk"}),
        ("word to its un- form", " happy", {" unhappy"}),
        ("word to first letter", " dog", {" d", "d"}),
        ("copying with spacing variants", " dog", {"dog"}),
        ("copying with case variants", " red", {" RED", " Red"}),
        ("number to following number", " 12", {" 13", "13"}),
        ("words that begin alike", " station", {" stable", "stable"}),
        ("words that end alike", " station", {" nation", "nation"}),
        (
            "word to other forms of the same word",
            " walks",
            {" walk", "walk", " walked", "walked", " walking", "walking"},
        ),
    ],
)
def test_pairs_of_forms_come_from_the_vocabulary(label, source, targets):
    made = dict(texts(pairs_of(label, n=1000)))
    assert made[source] == targets
    claim = claimed_operation(label, RELATIONS)
    for s, found in made.items():
        assert all(claim.satisfied(row(s, [t])) for t in found)


def test_copying_is_scored_at_the_first_place():
    pairs = pairs_of("copying")
    assert pairs.k == 1
    assert all(targets == (source,) for source, targets in zip(pairs.sources, pairs.targets, strict=True))
    assert pairs_of("word to first letter").k == 10


def test_pairs_of_fields():
    made = dict(texts(pairs_of("words to personal pronouns", n=1000)))
    assert len(made) == MAX_WORDS
    assert all({" he", " him", " they", " them"} - {source} <= targets for source, targets in made.items())
    named = dict(texts(pairs_of("countries to capital cities", n=1000)))
    assert {core(word) for word in named} <= word_classes()["countries"]
    assert all(" Paris" in targets for targets in named.values())


def test_a_claim_of_a_class_names_words_outside_it_and_one_of_any_words_does_not():
    for label in ("countries to capital cities", "countries to single letters"):
        pairs = pairs_of(label)
        outside = {core(VOCABULARY.text(i)) for i in pairs.others}
        assert outside
        assert not outside & word_classes()["countries"]
        assert {core(VOCABULARY.text(i)) for i in pairs.sources} <= word_classes()["countries"]
    assert pairs_of("words to personal pronouns").others == pairs_of("words to single letters").others == ()


def test_rows_of_a_relation_count_only_known_sources():
    claim = claimed_operation("country to capital", RELATIONS)
    assert claim.satisfied(row(" France", [" Paris"])) is True
    assert claim.satisfied(row(" France", [" Rome"])) is False
    assert claim.satisfied(row(" tree", [" Paris"])) is None


def test_rows_of_fields_do_not_count_the_source_itself():
    claim = claimed_operation("nationalities to other nationalities", RELATIONS)
    assert claim.satisfied(row(" French", [" German"])) is True
    assert claim.satisfied(row(" French", ["French"])) is False


def test_rows_of_fields_do_not_count_other_forms_of_the_source():
    claim = claimed_operation("units of measure to other units of measure", RELATIONS)
    assert claim.satisfied(row(" years", [" acre"])) is True
    assert claim.satisfied(row(" years", [" year", "Years"])) is False


def test_a_form_of_the_source_counts_where_the_source_is_of_another_class():
    claim = claimed_operation("adjectives to adverbs", RELATIONS)
    assert claim.satisfied(row(" quick", [" quickly"])) is True
    claim = claimed_operation("singular nouns to plural nouns", RELATIONS)
    assert claim.satisfied(row(" garden", [" gardens"])) is True


@pytest.mark.model
def test_words_of_a_class_are_tested_by_other_words_of_it():
    vocabulary = open_checkpoint("smollm2-135m").vocabulary
    claim = claimed_operation("units of measure to other units of measure", RELATIONS)
    pairs = claim.pairs(vocabulary, excluded=frozenset(), n=60)
    spelled = zip(pairs.sources, pairs.targets, strict=True)
    accepted = {core(vocabulary.text(s)): {core(vocabulary.text(t)) for t in ts} for s, ts in spelled}
    assert {"year", "years"} & accepted.keys()
    for word in ("year", "years"):
        assert not {"year", "years"} & accepted.get(word, set())
        assert word not in accepted or {"acre", "calorie"} <= accepted[word]


def test_planted_rows_satisfy_their_relation():
    claim = claimed_operation("country to capital", RELATIONS)
    rows = planted([(f" {s}", f" {t[0]}") for s, t in CAPITALS.pairs], fit=1.0)
    assert all(claim.satisfied(one) for one in rows)


@pytest.mark.parametrize("label", ['rivers to "sea"', 'words to "a", "b"'])
def test_quoted_words_of_no_known_class_are_free_words(label):
    assert claimed_operation(label, []) is None
