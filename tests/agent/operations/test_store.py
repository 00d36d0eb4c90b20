"""The store of known operations on real Chroma folders: retrieval, ownership, other embedders, cut-short builds."""

import pytest

from agent.errors import OtherEmbedder, StoreBusy, StoreUnusable, UnknownOperation
from agent.operations.operation import KnownOperation
from agent.operations.store import CATALOGUE, MOVING, open_store
from agent.words.fields import SemanticFields
from agent.words.mapping_vectors import MappingEmbedder
from maps_engine.relations.catalogue import load_relations
from tests.support.agent.mappings import LetterEmbedder, mapping, planted

NAMES = ("country-to-capital", "verb-to-past-tense", "word-to-first-letter", "copying", "year-to-following")
RELATIONS = load_relations(NAMES)
EMBEDDER = MappingEmbedder(SemanticFields(LetterEmbedder()))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "chroma"


def opened(folder, *, embedder=EMBEDDER, relations=RELATIONS, seconds=0.2):
    return open_store(embedder, relations, folder=folder, lock_seconds=seconds)


def head(name):
    relation = load_relations([name])[0]
    return mapping(planted([(f" {s}", f" {t[0]}") for s, t in relation.pairs[1::2]], fit=0.9))


def test_every_operation_of_the_catalogue_is_there_with_examples(folder):
    with opened(folder) as store:
        listed = store.list()
    assert sorted(one.name for one in listed) == sorted(NAMES)
    assert all(one.origin == "catalogue" and len(one.examples) >= 5 and one.description for one in listed)


@pytest.mark.parametrize("name", ["verb-to-past-tense", "copying", "year-to-following"])
def test_a_planted_operation_is_retrieved_first(folder, name):
    with opened(folder) as store:
        found = store.retrieve(head(name), 3)
    assert [len(found), found[0].operation] == [3, name]
    assert -1 <= found[-1].similarity <= found[0].similarity <= 1.0001
    assert found[0].description
    assert found[0].examples


def test_asking_for_more_than_there_is(folder):
    with opened(folder) as store:
        assert len(store.retrieve(head("copying"), 50)) == len(NAMES)


@pytest.mark.parametrize("order", [1, -1])
def test_of_many_operations_equally_alike_the_first_names_come(folder, order):
    twins = [KnownOperation(f"twin {i:02}", "Maps a word to itself.", (("sea", ("sea",)),), "added") for i in range(24)]
    with opened(folder, relations=()) as store:
        for twin in twins[::order]:
            store.add(twin)
    with opened(folder, relations=()) as store:
        found = store.retrieve_pairs([("sea", ["sea"])], 5)
    assert [one.operation for one in found] == [f"twin {i:02}" for i in range(5)]
    assert len({one.similarity for one in found}) == 1


def test_rows_without_words_retrieve_nothing(folder):
    with opened(folder) as store:
        assert store.retrieve(mapping([])) == ()
        assert store.retrieve_pairs([(" ", [" "])]) == ()


def test_a_second_opening_does_not_embed_again(folder, monkeypatch):
    with opened(folder) as store:
        before = store.list()
    monkeypatch.setattr(MappingEmbedder, "embed_many", lambda *_: pytest.fail("embedded again"))
    with opened(folder) as store:
        assert store.list() == before


def test_a_changed_catalogue_is_rebuilt_and_added_operations_stay(folder):
    own = KnownOperation("fruit-to-colour", "Maps a fruit to its colour.", (("banana", ("yellow",)),))
    with opened(folder) as store:
        store.add(own)
    with opened(folder, relations=RELATIONS[:2]) as store:
        assert [one.name for one in store.list()] == [*sorted(r.name for r in RELATIONS[:2]), own.name]
        assert store.list()[-1] == own


def test_add_remove_rebuild(folder):
    own = KnownOperation(
        "fruit-to-colour", "Maps a fruit to its colour.", (("banana", ("yellow",)), ("plum", ("blue",)))
    )
    with opened(folder) as store:
        store.add(own)
        assert store.retrieve_pairs([(" banana", [" yellow"]), (" plum", [" blue"])])[0].operation == own.name
        store.rebuild()
        assert own in store.list()
        assert len(store.list()) == len(NAMES) + 1
        store.remove(own.name)
        assert own not in store.list()
        with pytest.raises(UnknownOperation, match="no such added operation"):
            store.remove(own.name)


@pytest.mark.parametrize(
    "operation",
    [
        KnownOperation("", "x", (("a", ("b",)),)),
        KnownOperation("x", "x", ()),
        KnownOperation("copying", "x", (("a", ("b",)),)),
    ],
)
def test_operations_that_cannot_be_added(folder, operation):
    with opened(folder) as store, pytest.raises(UnknownOperation):
        store.add(operation)


def test_another_embedder_is_refused_in_one_line(folder):
    with opened(folder):
        pass
    other = MappingEmbedder(SemanticFields(LetterEmbedder("other", width=48)))
    with pytest.raises(OtherEmbedder) as caught, opened(folder, embedder=other):
        pass
    assert "another embedder" in str(caught.value)
    assert other.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_folder_in_use_is_refused(folder):
    with opened(folder), pytest.raises(StoreBusy, match="another process owns"), opened(folder):
        pass


def test_the_lock_is_free_again_after_an_error(folder):
    with pytest.raises(RuntimeError, match="mine"), opened(folder):
        raise RuntimeError("mine")
    with opened(folder) as store:
        assert store.list()


def test_errors_of_the_caller_pass_unchanged(folder):
    with pytest.raises(ValueError, match="mine"), opened(folder):
        raise ValueError("mine")


def test_a_folder_that_is_a_file(tmp_path):
    place = tmp_path / "file"
    place.write_text("x")
    with pytest.raises(StoreUnusable, match="cannot be written"), opened(place):
        pass


def test_a_broken_database_is_one_line(folder):
    folder.mkdir()
    (folder / "chroma.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnusable), opened(folder):
        pass


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://127.0.0.1:9"])
def test_a_server_that_is_not_there(url):
    with pytest.raises(StoreUnusable), open_store(EMBEDDER, RELATIONS, url=url):
        pass


def test_a_store_moves_to_another_embedder_and_keeps_what_was_added(folder):
    own = KnownOperation("fruit-to-colour", "Maps a fruit to its colour.", (("banana", ("yellow",)),), "run 3")
    with opened(folder) as store:
        store.add(own)
    other = MappingEmbedder(SemanticFields(LetterEmbedder("other", width=48)))
    with open_store(other, RELATIONS, folder=folder, change_embedder=True) as store:
        assert store.list()[-1] == own
        assert store.retrieve_pairs([(" banana", [" yellow"])])[0].operation == own.name
    with opened(folder, embedder=other) as store:
        assert len(store.list()) == len(NAMES) + 1
    with pytest.raises(OtherEmbedder, match="headscribe operations rebuild"), opened(folder):
        pass


@pytest.mark.parametrize("complete", [True, False])
def test_a_move_that_was_cut_short(folder, complete):
    """Killed before the moved operations are complete: the old ones count. Killed after the old went: the new ones."""
    own = KnownOperation("fruit-to-colour", "x", (("banana", ("yellow",)),))
    with opened(folder) as store:
        store.add(own)
        if complete:
            store._added.modify(name=MOVING, metadata={"embedder": EMBEDDER.name, "complete": "yes"})
        else:
            store._collection(MOVING)
    with opened(folder) as store:
        assert store.list()[-1] == own
        store.rebuild()
        assert store.list()[-1] == own


def test_a_build_without_its_done_marker_is_built_again(folder):
    with opened(folder) as store:
        collection = store._client.get_collection(CATALOGUE, embedding_function=None)
        collection.delete(ids=["copying"])
        collection.modify(metadata={"embedder": EMBEDDER.name})
    with opened(folder) as store:
        assert "copying" in {one.name for one in store.list()}


def test_no_mappings_are_no_vectors():
    assert EMBEDDER.embed_many([]).shape == (0, EMBEDDER.width)
