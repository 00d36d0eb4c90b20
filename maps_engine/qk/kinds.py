"""What kind of attention a head has, by rules that null heads hardly ever pass, and one sentence that says it.

Reading alone: no torch. The rates at which turned heads pass are in docs/method.md, "What a head attends to".
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import Final

from maps_engine.results import Feed, HeadAttention

SHARE: Final = 0.2  # of attention, for a kind that is told by places
REPEATED: Final = 0.1  # the same in texts that repeat themselves
SINK: Final = 0.5  # of attention to the first token
NEAR: Final = 8  # tokens back
LOCAL: Final = 0.5  # of the attention that is not paid to the first token, to tokens so near
READINGS: Final[Mapping[str, str]] = {  # as exports call them: the field of `HeadAttention`
    "previous": "previous",
    "self": "itself",
    "first": "first",
    "duplicate": "duplicate",
    "induction": "induction",
}
BY_PLACE: Final[Mapping[str, str]] = {  # kind: reading
    "induction": "induction",
    "duplicate token": "duplicate",
    "previous token": "previous",
    "self": "self",
}
KINDS: Final = (*BY_PLACE, "class to class", "local", "sink", "broad")
MOST: Final = log(1000)  # nats, beyond which a ratio is not told
_SAID: Final[Mapping[str, str]] = {
    "induction": "to what followed the same word, read before ({:.0%} in texts that repeat themselves)",
    "duplicate token": "to the same word, read before ({:.0%} in texts that repeat themselves)",
    "previous token": "to the token before ({:.0%})",
    "self": "to the token itself ({:.0%})",
}


def reading(head: HeadAttention, name: str) -> float:
    """One of `READINGS`, 0 to 1."""
    return float(getattr(head, READINGS[name]))


def kinds(head: HeadAttention) -> tuple[str, ...]:
    """One or more of `KINDS`, the most marked first: those that places tell, else one other."""
    by_place = {kind: reading(head, name) for kind, name in BY_PLACE.items()}
    needed = {"induction": REPEATED, "duplicate token": REPEATED}
    marked = [kind for kind, share in by_place.items() if share >= needed.get(kind, SHARE)]
    marked.sort(key=lambda kind: -by_place[kind])
    if any(one.reads for one in head.fits):
        marked.append("class to class")
    if marked:
        return tuple(marked)
    if sum(head.profile[: NEAR + 1]) >= LOCAL * sum(head.profile) > 0:
        return ("local",)
    return ("sink",) if head.first >= SINK else ("broad",)


def sentence(head: HeadAttention) -> str:
    """What the head attends to, without a subject: "to the token before (61 %), ..."."""
    said = [_SAID[kind].format(reading(head, BY_PLACE[kind])) for kind in kinds(head) if kind in BY_PLACE]
    said += [f"from {one.reads} to {one.seeks} ({_times(one.logit)})" for one in head.fits if one.reads]
    said += [f"to {one.seeks} from anywhere ({_times(one.logit)})" for one in head.fits if not one.reads]
    if "local" in kinds(head):
        said.append(f"to tokens near by ({sum(head.profile[: NEAR + 1]):.0%} to the last {NEAR})")
    if not said and head.first < SINK:
        said.append(f"broadly, {head.reach:.0f} tokens back on average")
    if head.first >= SINK:
        said.append(f"{'else ' if said else ''}to the first token ({head.first:.0%})")
    moved_by = (one for one in head.fed_by if one.part == "K" and "previous token" in one.kinds)
    keys = next(moved_by, None)  # what follows a word holds that word in its keys where such a head has moved it there
    if keys is not None and "induction" in kinds(head):
        said.append(f"its keys are fed by {feeder(keys)}")
    return "; ".join(said)


def feeder(feed: Feed) -> str:
    """The head that feeds another: "16.0 (previous token)"."""
    return f"{feed.layer}.{feed.head} ({', '.join(feed.kinds)})"


def _times(logit: float) -> str:
    times = f"{exp(logit):.1f}" if logit < MOST else f"over {exp(MOST):.0f}"
    return f"{times} times as much as to other words"
