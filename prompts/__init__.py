"""Texts that the agent works with: prompt templates and labelled word lists, loaded by one function.

Everything is versioned by content: a changed letter is another version, so a stored reply never answers
another prompt.

May import nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One template with `$name` places; `version` is the first 12 hex digits of its SHA-256."""

    name: str
    text: str
    version: str

    def fill(self, **values: str) -> str:
        """The template with every place filled; KeyError when one is missing."""
        return Template(self.text).substitute(values)


@dataclass(frozen=True, slots=True)
class Prompts:
    """All templates by name, and labelled semantic fields: plural noun phrase -> example words."""

    templates: Mapping[str, PromptTemplate]
    field_labels: Mapping[str, tuple[str, ...]]
    field_labels_version: str


@cache
def load_prompts() -> Prompts:
    """Everything in this package, read once."""
    here = files("prompts")
    found = {}
    for entry in sorted((here / "templates").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".txt"):
            text = entry.read_text("utf-8")
            name = entry.name.removesuffix(".txt")
            found[name] = PromptTemplate(name=name, text=text, version=_version(text))
    labels = (here / "field_labels.json").read_text("utf-8")
    fields = {label: tuple(words) for label, words in json.loads(labels).items()}
    return Prompts(MappingProxyType(found), MappingProxyType(fields), _version(labels))


def _version(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]
