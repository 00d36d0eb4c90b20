"""Vectors of fixed texts on disk: by content, never half-written, never of another embedder."""

import numpy as np
import pytest

from agent.words.embedder import MiniLM, embed_fixed
from agent.words.fields import SemanticFields, has_meaning
from agent.words.mapping_vectors import MappingEmbedder
from maps_engine.errors import BrokenCheckpoint, CacheUnusable
from maps_engine.relations.catalogue import load_relations
from tests.support.agent.mappings import LetterEmbedder


class Counting(LetterEmbedder):
    calls = 0

    def embed(self, texts):
        self.calls += 1
        return super().embed(texts)


def files(folder):
    return sorted((folder / "embeddings").iterdir())


def test_second_time_from_disk(tmp_path):
    embedder = Counting()
    first = embed_fixed(embedder, ["a", "b"], tmp_path)
    assert (embed_fixed(embedder, ["a", "b"], tmp_path) == first).all()
    assert embedder.calls == 1
    assert len(files(tmp_path)) == 1


def test_without_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embedder = Counting()
    embed_fixed(embedder, ["a"], None)
    embed_fixed(embedder, ["a"], None)
    assert embedder.calls == 2
    assert not list(tmp_path.iterdir())


def test_other_texts_order_and_embedders_are_other_entries(tmp_path):
    for name, texts in (("x", ["a", "b"]), ("x", ["b", "a"]), ("x", ["ab"]), ("y", ["a", "b"])):
        embed_fixed(LetterEmbedder(name), texts, tmp_path)
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"not a zip at all", b"\x93NUMPY"])
def test_damaged_entries_are_made_again(tmp_path, damage):
    embedder = Counting()
    first = embed_fixed(embedder, ["a"], tmp_path)
    files(tmp_path)[0].write_bytes(damage)
    assert (embed_fixed(embedder, ["a"], tmp_path) == first).all()
    assert embedder.calls == 2
    assert (embed_fixed(embedder, ["a"], tmp_path) == first).all()
    assert embedder.calls == 2


def test_a_truncated_entry_is_made_again(tmp_path):
    embedder = Counting()
    texts = [f"word{i}" for i in range(200)]
    embed_fixed(embedder, texts, tmp_path)
    entry = files(tmp_path)[0]
    entry.write_bytes(entry.read_bytes()[:-300])
    embed_fixed(embedder, texts, tmp_path)
    assert embedder.calls == 2


def test_an_entry_of_another_shape_is_not_used(tmp_path):
    embed_fixed(LetterEmbedder(), ["a"], tmp_path)
    entry = files(tmp_path)[0]
    np.savez(entry, vectors=np.ones((3, 3), dtype=np.float32))
    assert embed_fixed(LetterEmbedder(), ["a"], tmp_path).shape == (1, 64)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    place = tmp_path / "file"
    place.write_text("x")
    with pytest.raises(CacheUnusable) as caught:
        embed_fixed(LetterEmbedder(), ["a"], place)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_model(tmp_path):
    with pytest.raises(BrokenCheckpoint, match="cannot be read"):
        MiniLM(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(BrokenCheckpoint, match="cannot be read"):
        MiniLM(tmp_path)


@pytest.mark.parametrize(
    ("token", "meaning"),
    [
        (" Norway", True),
        ("Norway", True),
        (" sea", True),
        ("isition", False),
        (" a", False),
        (" 123", False),
        ("", False),
    ],
)
def test_which_tokens_stand_for_words(token, meaning):
    assert has_meaning(token) is meaning


def test_members_by_example_word_whatever_the_case():
    fields = SemanticFields(LetterEmbedder())
    members = fields.members([" FRANCE", "they", "zzzz", ""])
    assert members[0, fields.labels.index("countries")]
    assert members[1, fields.labels.index("personal pronouns")]
    assert not members[2:].any()
    assert fields.members([]).shape == (0, len(fields.labels))


def test_mapping_vectors_are_unit_and_hold_the_relation_not_the_order():
    embedder = MappingEmbedder(SemanticFields(LetterEmbedder()))
    pairs = load_relations(["country-to-capital"])[0].pairs[:40]
    vector = embedder.embed(pairs)
    assert vector.shape == (embedder.width,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert float(vector @ embedder.embed(pairs[::-1])) > 0.98
    turned = [(targets[0], (source,)) for source, targets in pairs]
    assert float(vector @ embedder.embed(turned)) < 0.7
    assert not embedder.embed([]).any()
