"""The user's own pairs: every format, every bad row named by its line, hostile files without a traceback."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maps_engine.errors import BadRelationFile, HeadscribeError, UserMistake
from maps_engine.relations.catalogue import SUFFIXES, load_relations, read_pairs, read_pairs_file
from maps_engine.relations.format import merge_sources
from tests.support.catalogue_rules import validate
from tests.support.relation_files import format_relation
from tests.support.relation_samples import CAPITALS, relation

FRANCE = (("France", ("Paris",)), ("x", ("a", "b")))


def written(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(path):
    with pytest.raises(BadRelationFile) as caught:
        read_pairs_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '[["France","Paris"],["x",["a","b"]]]'),
        ("p.json", '\ufeff[\n  ["France", "Paris"],\n  ["x", "a", "b"]\n]\n'),
        ("p.json", '{"pairs": [["France","Paris"],["x",["a","b"]]]}'),
        ("p.JSON", '{"k": 10, "pairs" : [["France","Paris"],["x","a"],["x","b"]]}'),
        ("p.json", '{"p\\u0061irs": [["France","Paris"],["x",["a","b"]]]}'),
        ("p.json", '[{"source": "France", "target": "Paris"}, {"source": "x", "targets": ["a", "b"]}]'),
        ("p.jsonl", '["France","Paris"]\n\n["x",["a","b"]]\n'),
        ("p.ndjson", '{"source": "France", "target": "Paris"}\r\n{"source": "x", "target": ["a", "b"]}'),
        ("p.csv", "France,Paris\nx,a,b\n"),
        ("p.csv", "source,target\nFrance,Paris\nx,a,b\n"),
        ("p.csv", "Input,Output\r\nFrance , Paris\r\n\r\nx,a,b,,\r\n"),
        ("p.csv", '"France","Paris"\n"x","a"\n"x","b"\n'),
        ("p.csv", "France;Paris\nx;a;b\n"),
        ("p.tsv", "France\tParis\nx\ta\tb\n"),
        ("p.tsv", "source\ttargets\nFrance\tParis\nx\ta\tb\t\n"),
    ],
)
def test_the_same_pairs_in_every_format(tmp_path, name, text):
    read = read_pairs_file(written(tmp_path, name, text))
    assert read.pairs == FRANCE
    assert (read.name, read.category, read.k, read.paper) == ("p", "own", 10, False)


def test_what_a_users_relation_says_of_itself(tmp_path):
    read = read_pairs_file(written(tmp_path, "My best_pairs (2).csv", "a,b\n"), k=3)
    assert read.name == "my-best-pairs-2"
    assert read.k == 3
    assert read.description == "Maps a word to the word paired with it in My best_pairs (2).csv."
    assert "My best_pairs (2).csv" in read.provenance


def test_only_the_first_row_can_be_a_header(tmp_path):
    read = read_pairs_file(written(tmp_path, "p.csv", "\nsource,target\nsource,target\n"))
    assert read.pairs == (("source", ("target",)),)
    assert read_pairs_file(written(tmp_path, "q.csv", "a,b\ninput,output\n")).n_pairs == 2


def test_quotes_and_brackets_survive(tmp_path):
    rows = [("(", ")"), ('"', '"'), ("a,b", "c;d"), ("#", "hash"), ("'", "’")]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    wanted = tuple((s, (t,)) for s, t in rows)
    assert read_pairs_file(written(tmp_path, "p.csv", text.getvalue())).pairs == wanted
    tabs = "".join(f"{s}\t{t}\n" for s, t in rows)
    assert read_pairs_file(written(tmp_path, "p.tsv", tabs)).pairs == wanted


def test_words_become_nfc_and_lose_outer_spaces(tmp_path):
    read = read_pairs_file(written(tmp_path, "p.json", '[[" coffee ", "cafe\\u0301"]]'))
    assert read.pairs == (("coffee", ("café",)),)


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("p.json", '[["a","b"],\n["only"],\n["c","d"],\n\n[1,"x"]]', ["2 bad rows", "line 2", "line 5", "1 is not"]),
        ("p.json", '[["a","b"],\n"word"]', ["1 bad row in p.json", 'line 2: "word"']),
        ("p.json", '[["a", []]]', ["line 1", "no target"]),
        ("p.json", '[["a", ["b", ""]]]', ["line 1", "empty word"]),
        ("p.json", '[["a", "b\\u0000c"]]', ["line 1", "control character"]),
        ("p.json", '[["a", "\\ud800"]]', ["line 1", "control character"]),
        ("p.json", '[["a", null]]', ["line 1", "null is not a text"]),
        ("p.json", '[{"source": "a", "goal": "b"}]', ["line 1", "other keys"]),
        ("p.json", '{"pairs": [["a","b"],\n["c"]]}', ["line 2"]),
        ("p.jsonl", '["a","b"]\n["c"]\n', ["line 2"]),
        ("p.csv", "source,target\na,b\nc\n,d\n", ["2 bad rows", "line 3", "line 4", "an empty word"]),
        ("p.csv", '"a\nb",c\nd\n', ["line 1", "control character", "line 3"]),
        ("p.tsv", "a\tb\nc d\n", ["line 2"]),
    ],
)
def test_bad_rows_are_named_by_line(tmp_path, name, text, parts):
    message = complaint(written(tmp_path, name, text))
    for part in [*parts, name, "expected"]:
        assert part in message


def test_many_bad_rows_are_counted_not_all_listed(tmp_path):
    message = complaint(written(tmp_path, "p.csv", "a\n" * 40))
    assert "40 bad rows" in message
    assert "line 5" in message
    assert "line 6" not in message
    assert "and 35 more" in message


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("p.json", '[["a","b"],\n  ["c" "d"]]', "line 2, column 8"),
        ("p.json", '[["a","b"]', "line 1"),
        ("p.json", '[["a","b"]] trailing', "line 1"),
        ("p.json", '[["a","b"],]', "breaks as JSON"),
        ("p.json", "", "breaks as JSON"),
        ("p.jsonl", '["a","b"]\n["c", \n', "line 2"),
        ("p.json", "[" * 100_000, "nested too deeply"),
        ("p.jsonl", "[" * 100_000, "nested too deeply"),
        ("p.json", '[["a", ' + "9" * 5000 + "]]", "cannot be read as JSON"),
        ("p.json", "3", "a JSON int"),
        ("p.json", '{"words": 3}', "no pairs"),
        ("p.json", '{"pairs": {"France": "Paris"}}', "no pairs"),
        ("p.json", "[]", "no pairs"),
        ("p.csv", "source,target\n", "no pairs"),
        ("p.csv", "\n\n", "no pairs"),
        ("p.csv", 'a,"b\nc,d\n', "cannot be read as a table"),
        ("p.csv", f"a,{'b' * 200_000}\n", "cannot be read as a table"),
        ("p.csv", b"a,b\nc,caf\xe9\n", "not UTF-8 text: got byte 0xe9 in line 2"),
        ("p.csv", b"PK\x03\x04\xff\xfe", "not UTF-8"),
        ("p.txt", "a,b\n", "cannot tell the format of p.txt: got .txt"),
        ("pairs", "a,b\n", "no suffix"),
    ],
)
def test_broken_files(tmp_path, name, text, part):
    assert part in complaint(written(tmp_path, name, text))


def test_a_missing_file_and_a_folder_in_its_place(tmp_path):
    assert "cannot read" in complaint(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "cannot read" in complaint(tmp_path / "folder.csv")


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("maps_engine.relations.catalogue.MAX_BYTES", 10)
    assert "too large: got 12 bytes" in complaint(written(tmp_path, "p.csv", "abc,def\ng,h\n"))


def test_k_below_one_is_refused(tmp_path):
    with pytest.raises(UserMistake, match="k cannot be below 1"):
        read_pairs_file(written(tmp_path, "p.csv", "a,b\n"), k=0)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ('"k": 0', "k must be at least 1"),
        ('"k": "ten"', 'k must be int, got "ten"'),
        ('"k": true', "k must be int"),
        ('"colour": 1, "weight": 2', 'unknown field "colour"; unknown field "weight"'),
        ('"source_space": 1', "source_space must be bool"),
        ('"own": false, "joined": 3', 'unknown field "own"; unknown field "joined"'),
        ('"description": ["x"]', "description must be str"),
    ],
)
def test_bad_fields_of_our_own_format(tmp_path, fields, part):
    assert part in complaint(written(tmp_path, "p.json", f'{{{fields}, "pairs": [["a","b"]]}}'))


def test_our_own_format_keeps_every_field(tmp_path):
    own = relation([("a", ("b", "c"))], k=3, source_space=False, target_space=False, category="linguistic")
    assert read_pairs_file(written(tmp_path, "x.json", format_relation(own))) == replace(own, own=True)


def test_built_in_relations_read_back_equal(tmp_path):
    for built_in in load_relations(["copying", "opening-to-closing-bracket", "english-to-french"]):
        path = written(tmp_path, f"{built_in.name}.json", format_relation(built_in))
        assert read_pairs_file(path) == replace(built_in, own=True)


def test_a_folder_is_read_by_file_name_and_other_files_are_left_alone(tmp_path):
    written(tmp_path, "b.csv", "a,b\n")
    written(tmp_path, "a.json", '[["c","d"]]')
    written(tmp_path, ".hidden.csv", "broken\n")
    written(tmp_path, "readme.md", "not pairs")
    assert [r.name for r in read_pairs(tmp_path, k=4)] == ["a", "b"]
    assert [r.k for r in read_pairs(tmp_path, k=4)] == [4, 4]
    assert [r.name for r in read_pairs(tmp_path / "b.csv")] == ["b"]


def test_a_folder_without_pairs_and_two_files_of_one_name(tmp_path):
    with pytest.raises(BadRelationFile, match=r"no files of pairs.*\.json, \.jsonl"):
        read_pairs(tmp_path)
    written(tmp_path, "same.csv", "a,b\n")
    written(tmp_path, "same.tsv", "a\tb\n")
    with pytest.raises(BadRelationFile, match=r"two files give the relation same: got same\.csv and same\.tsv"):
        read_pairs(tmp_path)


def test_a_bad_file_in_a_folder_is_named(tmp_path):
    written(tmp_path, "good.csv", "a,b\n")
    written(tmp_path, "worse.csv", "a\n")
    with pytest.raises(BadRelationFile, match=r"worse\.csv"):
        read_pairs(tmp_path)


def test_merge_keeps_order_and_drops_repeats():
    rows = [("a", ("x",)), ("b", ("y",)), ("a", ("z", "x"))]
    assert merge_sources(rows) == (("a", ("x", "z")), ("b", ("y",)))


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).map(
    lambda text: unicodedata.normalize("NFC", text).strip()
)
WORD = WORDS.filter(bool)
PAIRS = st.lists(st.tuples(WORD, st.lists(WORD, min_size=1, unique=True).map(tuple)), min_size=1)


@given(pairs=PAIRS)
def test_any_pairs_survive_json_and_json_lines(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("pairs")
    wanted = merge_sources(pairs)
    whole = json.dumps([[s, list(t)] for s, t in pairs], ensure_ascii=False)
    lines = "\n".join(json.dumps([s, *t]) for s, t in pairs)
    own = format_relation(relation(pairs))
    for name, text in (("a.json", whole), ("b.jsonl", lines), ("c.json", own)):
        assert read_pairs_file(written(folder, name, text)).pairs == wanted


@given(pairs=PAIRS)
def test_any_pairs_survive_csv(tmp_path_factory, pairs):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["source", "target"])
    writer.writerows([s, *t] for s, t in pairs)
    path = written(tmp_path_factory.mktemp("pairs"), "p.csv", text.getvalue())
    if ";" not in text.getvalue().split("\n")[0]:
        assert read_pairs_file(path).pairs == merge_sources(pairs)


def pairs_or_one_line(folder, data, suffix):
    message = ""
    try:
        read = read_pairs_file(written(folder, f"p{suffix}", data))
        assert read.n_pairs >= 1
        assert all(source and targets and all(targets) for source, targets in read.pairs)
    except HeadscribeError as error:
        message = str(error)
    assert "\n" not in message


@given(data=st.binary(), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_give_pairs_or_one_line(tmp_path_factory, data, suffix):
    pairs_or_one_line(tmp_path_factory.mktemp("pairs"), data, suffix)


@given(text=st.text(st.sampled_from('[]{},:"\\ \n\tab1'), max_size=60), suffix=st.sampled_from(SUFFIXES))
def test_any_near_miss_gives_pairs_or_one_line(tmp_path_factory, text, suffix):
    pairs_or_one_line(tmp_path_factory.mktemp("pairs"), text, suffix)


@given(rows=st.lists(st.sampled_from(["ok", "bad"]), min_size=1, max_size=30), blank=st.integers(0, 3))
def test_the_named_lines_are_those_of_the_bad_rows(tmp_path_factory, rows, blank):
    folder = tmp_path_factory.mktemp("pairs")
    text = "[" + "\n" * blank + ",\n".join('["a", "b"]' if row == "ok" else '["a"]' for row in rows) + "]"
    wanted = [blank + number for number, row in enumerate(rows, 1) if row == "bad"]
    if not wanted:
        assert read_pairs_file(written(folder, "p.json", text)).pairs == (("a", ("b",)),)
        return
    message = complaint(written(folder, "p.json", text))
    for line in wanted[:5]:
        assert f"line {line}: " in message


def test_sample_relation_is_itself_valid_but_for_its_size():
    assert {problem.rule for problem in validate([CAPITALS])} == {"too few pairs"}
