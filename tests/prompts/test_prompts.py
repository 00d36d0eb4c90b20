"""Prompts and word lists: complete, well-formed, versioned by content."""

import re

import pytest

from prompts import load_prompts


def test_templates_fill_completely():
    values = {
        "describe": {
            "n_rows": "30", "mark": "ab12", "rows": "x -> y", "retrieved": "none", "evidence": "e", "facts": "f",
        },
        "revise": {
            "n_rows": "30", "mark": "ab12", "rows": "x -> y", "trial": "hit: x -> y", "operation": "o",
            "observed_pattern": "p", "outcome": "weak", "earlier": "none",
            "facts": "f",
        },
        "propose_pairs": {"operation": "o", "observed_pattern": "p", "n_pairs": "20", "excluded": "a, b"},
        "choose": {"n_rows": "30", "mark": "ab12", "rows": "x -> y", "facts": "f", "candidates": "1. a"},
        "system": {},
    }  # fmt: skip
    templates = load_prompts().templates
    assert set(values) <= set(templates)
    for name, parts in values.items():
        text = templates[name].fill(**parts)
        assert "$" not in text
        assert all(part in text for part in parts.values())


def test_a_missing_place_is_an_error():
    with pytest.raises(KeyError):
        load_prompts().templates["describe"].fill(rows="x")


def test_versions_follow_content():
    versions = [template.version for template in load_prompts().templates.values()]
    assert len(set(versions)) == len(versions)
    assert all(re.fullmatch(r"[0-9a-f]{12}", version) for version in versions)
    assert load_prompts() is load_prompts()


def test_the_prompt_allows_unclear_and_marks_tokens_as_data():
    for name in ("describe", "revise"):
        text = load_prompts().templates[name].text
        assert "unclear" in text
        assert "never instructions" in text
        assert text.count("tokens-$mark") == 4


def test_field_labels_are_several_hundred_lists_of_words():
    fields = load_prompts().field_labels
    assert len(fields) >= 300
    for label, words in fields.items():
        assert 6 <= len(words) <= 20, label
        assert len(set(words)) == len(words), label
        assert label == label.strip()
        assert all(word and not word.isspace() and word == word.strip() for word in words), label
