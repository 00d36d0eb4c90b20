"""Operations of form: what can be seen in the letters of a source and a target, without knowing their meaning.

Each has a test for one (source, target) pair and, where it makes sense, a producer of targets for a new source,
so that a description that names the operation can be tested on tokens that were never shown.
Texts carry their real leading space; case is compared with casefold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agent.words.spelling import core, is_word, plurals, script, stem, with_suffix

Holds = Callable[[str, str], bool]
Produce = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class FormOperation:
    """One operation of form. `general` names the wider operation that every pair of this one satisfies too."""

    name: str
    sentence: str
    holds: Holds
    produce: Produce | None = None
    general: str = ""

    def targets_for(self, source: str) -> tuple[str, ...]:
        """What the operation makes of a new source; empty where it makes nothing, or cannot be produced."""
        made = self.produce(source) if self.produce else ()
        return tuple(dict.fromkeys(target for target in made if self.holds(source, target)))


def _like(source: str, word: str) -> str:
    """`word` with the leading space of `source`."""
    return (" " if source.startswith(" ") else "") + word


def _copy(source: str, target: str) -> bool:
    return bool(core(source)) and core(source) == core(target)


def _exact(source: str, target: str) -> bool:
    return bool(source.strip()) and source == target


def _case_variant(source: str, target: str) -> bool:
    return _copy(source, target) and source.strip() != target.strip()


def _space_variant(source: str, target: str) -> bool:
    return bool(source.strip()) and source != target and source.strip() == target.strip()


def _upper(source: str, target: str) -> bool:
    s, t = source.strip(), target.strip()
    return len(s) > 1 and s != s.upper() and t == s.upper()


def _lower(source: str, target: str) -> bool:
    s, t = source.strip(), target.strip()
    return s != s.lower() and t == s.lower()


def _capital(source: str, target: str) -> bool:
    s, t = source.strip(), target.strip()
    return len(s) > 1 and s == s.lower() and t != s and t == s.capitalize()


def _first_letter(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return len(s) > 1 and len(t) == 1 and t.isalpha() and s[0] == t


def _last_letter(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return len(s) > 1 and len(t) == 1 and t.isalpha() and s[-1] == t


def _beginning(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return 2 <= len(t) < len(s) and is_word(t) and s.startswith(t)


def _ending(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return 2 <= len(t) < len(s) and is_word(t) and s.endswith(t)


def _fragment(source: str, target: str) -> bool:
    """Beginning, ending, inner part, or the first letter: pieces of the word itself."""
    s, t = core(source), core(target)
    return 1 <= len(t) < len(s) and is_word(t) and (t in s if len(t) > 1 else s[0] == t)


def _completion(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return len(s) >= 2 and len(t) >= len(s) + 2 and is_word(t) and t.startswith(s)


def _alike_beginning(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return s != t and len(t) >= 3 and is_word(t) and len(s) >= 3 and s[:3] == t[:3]


def _alike_ending(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return s != t and len(t) > 3 and is_word(t) and len(s) > 3 and s[-3:] == t[-3:]


def same_stem(source: str, target: str) -> bool:
    """Whether two words are different forms of one, by their crude stems."""
    s, t = core(source), core(target)
    return s != t and is_word(s) and is_word(t) and len(stem(s)) >= 3 and stem(s) == stem(t)


def _suffix_operation(suffix: str) -> FormOperation:
    def holds(source: str, target: str) -> bool:
        s, t = core(source), core(target)
        return len(s) >= 2 and is_word(s) and t in with_suffix(s, suffix)

    def produce(source: str) -> tuple[str, ...]:
        word = source.strip()
        return tuple(_like(source, w) for w in with_suffix(word, suffix)) if _plain(word) else ()

    return FormOperation(
        f"word to its -{suffix} form",
        f"Adds the ending -{suffix} to the word.",
        holds,
        produce,
        "word to other forms of the same word",
    )


def _unsuffix_operation(suffix: str) -> FormOperation:
    def holds(source: str, target: str) -> bool:
        s, t = core(source), core(target)
        return len(t) >= 2 and is_word(t) and s in with_suffix(t, suffix)

    def produce(source: str) -> tuple[str, ...]:
        word = source.strip()
        if not (_plain(word) and word.endswith(suffix) and len(word) > len(suffix) + 2):
            return ()
        base = word[: -len(suffix)]
        bases = (base, base + "e", base[:-1], base[:-1] + "y")
        return tuple(_like(source, b) for b in bases if len(b) > 1 and word in with_suffix(b, suffix))

    return FormOperation(
        f"-{suffix} form to its base word",
        f"Takes the ending -{suffix} off the word.",
        holds,
        produce,
        "word to other forms of the same word",
    )


def _prefix_operation(prefix: str) -> FormOperation:
    def holds(source: str, target: str) -> bool:
        s, t = core(source), core(target)
        return len(s) >= 3 and is_word(s) and t == prefix + s

    def produce(source: str) -> tuple[str, ...]:
        word = source.strip()
        return (_like(source, prefix + word),) if _plain(word) else ()

    return FormOperation(f"word to its {prefix}- form", f"Puts {prefix}- in front of the word.", holds, produce)


def _plain(word: str) -> bool:
    return len(word) >= 3 and word.isascii() and word.isalpha() and word == word.lower()


def _plural(source: str, target: str) -> bool:
    s, t = core(source), core(target)
    return len(s) >= 2 and is_word(s) and t in plurals(s)


def _singular(source: str, target: str) -> bool:
    return _plural(target, source)


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _step(by: int) -> Holds:
    def holds(source: str, target: str) -> bool:
        s, t = _number(source), _number(target)
        return s is not None and t is not None and t == s + by

    return holds


def _step_produce(by: int) -> Produce:
    def produce(source: str) -> tuple[str, ...]:
        number = _number(source)
        return () if number is None or number + by < 0 else (_like(source, str(number + by)), str(number + by))

    return produce


def _near_number(source: str, target: str) -> bool:
    s, t = _number(source), _number(target)
    return s is not None and t is not None and s != t and abs(s - t) <= max(3, s // 100)


_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">", "“": "”", "‘": "’", "«": "»"}


@lru_cache(2**14)
def _closing(source: str) -> str:
    """The bracket or quote that closes the last one opened; empty where none is."""
    return next((_BRACKETS[c] for c in reversed(source) if c in _BRACKETS), "")


def _bracket(source: str, target: str) -> bool:
    closing = _closing(source)
    return bool(closing) and closing in target


def _other_script(source: str, target: str) -> bool:
    s, t = script(source), script(target)
    return bool(s) and bool(t) and s != t


COPYING: Final = "copying"
RELATED: Final = "word to other forms of the same word"

SUFFIXES: Final = ("ing", "ed", "er", "est", "ly", "ness", "ment", "ful", "less", "able", "al", "y", "ist", "ism")
CUT_SUFFIXES: Final = ("ing", "ed", "er", "est", "ly", "ness", "ment", "ful", "less", "able", "al", "y")
PREFIXES: Final = ("un", "re", "dis", "in", "non", "pre", "mis", "over")

FORMS: Final[tuple[FormOperation, ...]] = (
    FormOperation(COPYING, "Copies the input token.", _copy, lambda s: (s,)),
    FormOperation("exact copying", "Copies the input token.", _exact, lambda s: (s,), COPYING),
    FormOperation(
        "copying with case variants", "Copies the input word in another case.", _case_variant,
        lambda s: tuple(v for v in (s.upper(), s.lower(), _like(s, s.strip().capitalize())) if v != s), COPYING,
    ),
    FormOperation(
        "copying with spacing variants", "Copies the input word with or without its leading space.",
        _space_variant, lambda s: (s.strip(),) if s.startswith(" ") else (" " + s,), COPYING,
    ),
    FormOperation("word to upper case", "Puts the word in upper case.", _upper, lambda s: (s.upper(),), COPYING),
    FormOperation("word to lower case", "Puts the word in lower case.", _lower, lambda s: (s.lower(),), COPYING),
    FormOperation(
        "word to capitalised word", "Capitalises the word.", _capital,
        lambda s: (_like(s, s.strip().capitalize()),), COPYING,
    ),
    FormOperation(
        "word to first letter", "Maps a word to its first letter.", _first_letter,
        lambda s: tuple(v for c in s.strip()[:1] for v in (" " + c.lower(), c.lower(), " " + c.upper(), c.upper())),
        "fragments of the word",
    ),
    FormOperation(
        "word to last letter", "Maps a word to its last letter.", _last_letter,
        lambda s: tuple(v for c in s.strip()[-1:] for v in (" " + c.lower(), c.lower(), " " + c.upper(), c.upper())),
        "fragments of the word",
    ),
    FormOperation("word to its beginning", "Maps a word to the letters that it begins with.", _beginning,
                  lambda s: tuple(_like(s, s.strip()[:n]) for n in (2, 3, 4) if n < len(s.strip())),
                  "fragments of the word"),
    FormOperation("word to its ending", "Maps a word to the letters that it ends with.", _ending,
                  lambda s: tuple(s.strip()[-n:] for n in (2, 3, 4) if n < len(s.strip())), "fragments of the word"),
    FormOperation("fragments of the word", "Maps a word to pieces of itself.", _fragment,
                  lambda s: tuple(_like(s, s.strip()[:n]) for n in (1, 2, 3, 4) if n < len(s.strip()))),
    FormOperation("completion of the beginning of a word", "Completes the beginning of a word.", _completion,
                  None, "words that begin alike"),
    FormOperation("words that begin alike", "Maps a word to words that begin with the same letters.",
                  _alike_beginning),
    FormOperation("words that end alike", "Maps a word to words that end with the same letters.", _alike_ending),
    FormOperation("singular to plural", "Maps a noun to its plural.", _plural,
                  lambda s: tuple(_like(s, p) for p in plurals(s.strip())) if _plain(s.strip()) else (), RELATED),
    FormOperation("plural to singular", "Maps a plural noun to its singular.", _singular,
                  lambda s: (_like(s, s.strip()[:-1]),)
                  if _plain(s.strip()) and re.search(r"[^su]s$", s.strip()) else (), RELATED),
    *(_suffix_operation(s) for s in SUFFIXES),
    *(_unsuffix_operation(s) for s in CUT_SUFFIXES),
    *(_prefix_operation(p) for p in PREFIXES),
    FormOperation(RELATED, "Maps a word to other forms of the same word.", same_stem),
    FormOperation("number to following number", "Maps a number to the following number.", _step(1),
                  _step_produce(1), "number to nearby number"),
    FormOperation("number to preceding number", "Maps a number to the number before it.", _step(-1),
                  _step_produce(-1), "number to nearby number"),
    FormOperation("number to nearby number", "Maps a number to numbers near it.", _near_number,
                  lambda s: tuple(v for by in (1, -1, 2, -2, 3, -3) for v in _step_produce(by)(s))),
    FormOperation("opening to closing bracket", "Maps an opening bracket or quote to the closing one.", _bracket),
    FormOperation("word to another script", "Maps a word to tokens in another script.", _other_script),
)  # fmt: skip

FORM_BY_NAME: Final = {form.name: form for form in FORMS}
