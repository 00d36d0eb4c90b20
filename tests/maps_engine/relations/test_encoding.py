"""Pairs to token ids, on real byte-level tokenizers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maps_engine.errors import UserMistake
from maps_engine.relations.catalogue import read_pairs_file
from maps_engine.relations.encoding import (
    FIRST_IS_SOURCE,
    JOINED,
    SAME_SOURCE,
    SOURCE_SPLIT,
    TARGET_SPLIT,
    encode_relation,
)
from tests.support.relation_samples import CAPITALS, relation, vocabulary_of

VOCABULARY = vocabulary_of([" France", " Paris", " Italy", " Rome", " Bolivia", " Mexico", " La", "France", "Paris"])


def ids(*words):
    return tuple(VOCABULARY.single_id(word) for word in words)


def test_the_sample_tokenizer_knows_its_words_and_no_others():
    assert None not in ids("France", "Paris", "Italy", "Rome", "Bolivia", "Mexico", "La")
    assert ids("Sucre", "Lima") == (None, None)


def test_a_pair_is_used_when_both_sides_are_one_token():
    encoded = encode_relation(CAPITALS, VOCABULARY)
    assert encoded.source_ids == ids("France", "Italy")
    assert encoded.target_ids == (ids("Paris"), ids("Rome"))
    assert (encoded.name, encoded.n_pairs, encoded.n_used) == ("country-to-capital", 3, 2)
    assert encoded.dropped == ((TARGET_SPLIT, 1),)
    assert encoded.target == "single"


def test_one_acceptable_target_of_several_is_enough_and_all_that_fit_are_kept():
    pairs = [("France", ("Lyons", "Paris")), ("Italy", ("Rome", "Paris", "Milan"))]
    encoded = encode_relation(relation(pairs), VOCABULARY)
    assert encoded.target_ids == (ids("Paris"), ids("Rome", "Paris"))
    assert encoded.dropped == ()


def test_first_token_of_longer_targets():
    encoded = encode_relation(CAPITALS, VOCABULARY, target="first-token")
    assert encoded.target_ids == (ids("Paris"), ids("Rome"), ids("La"))  # La Paz, by " La"
    assert (encoded.n_used, encoded.target, encoded.dropped) == (3, "first-token", ())


def test_a_bare_space_is_no_first_token():
    assert VOCABULARY.text(VOCABULARY.encode(" Sucre")[0]) == " "
    encoded = encode_relation(relation([("Bolivia", ("Sucre",))]), VOCABULARY, target="first-token")
    assert (encoded.n_used, encoded.dropped) == (0, ((TARGET_SPLIT, 1),))


def test_a_target_that_begins_with_the_source_would_count_copying():
    mexico = relation([("Mexico", ("Mexico City",))])
    encoded = encode_relation(mexico, VOCABULARY, target="first-token")
    assert (encoded.n_used, encoded.dropped) == (0, ((FIRST_IS_SOURCE, 1),))
    copying = relation([("Mexico", ("Mexico",))], identity=True, k=1)
    assert encode_relation(copying, VOCABULARY).target_ids == (ids("Mexico"),)


def test_own_pairs_are_scored_as_they_were_given(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("France,France\nItaly,Rome,Italy\nMexico,Mexico City\n")
    own = read_pairs_file(file)
    encoded = encode_relation(own, VOCABULARY)
    assert encoded.source_ids == ids("France", "Italy")
    assert encoded.target_ids == (ids("France"), ids("Rome", "Italy"))
    assert encoded.dropped == ((TARGET_SPLIT, 1),)
    assert encode_relation(own, VOCABULARY, target="first-token").target_ids[2] == ids("Mexico")


def test_own_rows_that_share_a_source_are_one_pair_and_counted(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("France,Paris\nFrance,Paris\nFrance,Rome\nItaly,Rome\nPeru,Lima\n")
    encoded = encode_relation(read_pairs_file(file), VOCABULARY)
    assert encoded.target_ids == (ids("Paris", "Rome"), ids("Rome"))
    assert (encoded.n_pairs, encoded.n_used) == (5, 2)
    assert encoded.dropped == ((JOINED, 2), (SOURCE_SPLIT, 1))


def test_reasons_are_counted_most_frequent_first():
    pairs = [("Peru", ("Lima",)), ("Chile", ("Paris",)), ("France", ("Lyons",)), ("Italy", ("Rome",))]
    encoded = encode_relation(relation(pairs), VOCABULARY)
    assert encoded.dropped == ((SOURCE_SPLIT, 2), (TARGET_SPLIT, 1))
    assert encoded.n_used + sum(number for _, number in encoded.dropped) == encoded.n_pairs


def test_leading_spaces_follow_the_relation():
    pair = [("France", ("Paris",))]
    bare, spaced = VOCABULARY.single_id("France", leading_space=False), ids("France")[0]
    assert bare != spaced
    assert encode_relation(relation(pair, source_space=False), VOCABULARY).source_ids == (bare,)
    assert encode_relation(relation(pair), VOCABULARY).source_ids == (spaced,)
    unspaced = encode_relation(relation(pair, target_space=False), VOCABULARY)
    assert unspaced.target_ids == ((VOCABULARY.single_id("Paris", leading_space=False),),)


def test_a_word_to_itself_with_another_space_is_no_copy():
    pair = relation([("France", ("France",))], source_space=False)
    encoded = encode_relation(pair, VOCABULARY)
    assert encoded.source_ids != encoded.target_ids[0]
    assert encoded.n_used == 1


def test_the_same_source_twice_counts_once():
    encoded = encode_relation(relation([("France", ("Paris",)), ("France", ("Rome",))]), VOCABULARY)
    assert encoded.target_ids == (ids("Paris"),)
    assert encoded.dropped == ((SAME_SOURCE, 1),)


def test_an_unknown_rule_is_the_users_mistake():
    with pytest.raises(UserMistake, match='expected "single" or "first-token"'):
        encode_relation(CAPITALS, VOCABULARY, target="last")


WORD = st.sampled_from(["France", "Paris", "Italy", "Rome", "La Paz", "Sucre", "é", "Mexico City", "1984"])


@given(
    pairs=st.lists(st.tuples(WORD, st.lists(WORD, min_size=1, max_size=3).map(tuple)), max_size=12),
    target=st.sampled_from(["single", "first-token"]),
    spaces=st.tuples(st.booleans(), st.booleans()),
)
def test_every_pair_is_used_or_has_a_reason(pairs, target, spaces):
    given_relation = relation(pairs, source_space=spaces[0], target_space=spaces[1])
    encoded = encode_relation(given_relation, VOCABULARY, target=target)
    assert encoded.n_used + sum(number for _, number in encoded.dropped) == len(pairs)
    assert len(set(encoded.source_ids)) == encoded.n_used == len(encoded.target_ids)
    for source, targets in zip(encoded.source_ids, encoded.target_ids, strict=True):
        assert targets
        assert source not in targets
        assert len(set(targets)) == len(targets)
    if target == "first-token":
        assert encoded.n_used >= encode_relation(given_relation, VOCABULARY).n_used
