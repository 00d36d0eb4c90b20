"""The exceptions of headscribe, as a tree.

HeadscribeError
├── UserMistake            exit code 2: the command was asked for something that cannot be
│   ├── UnknownModel           no such alias, hub id, folder or file
│   ├── UnsupportedModel       an architecture, attribute or quantisation that is not understood
│   ├── OutOfRange             layer or head outside the model
│   └── BadRelationFile        a file of pairs that cannot be read
└── Failure                exit code 1: the request was fine, carrying it out was not possible
    ├── BrokenCheckpoint       truncated, wrong checksum, missing tensor, vocabulary that does not fit
    ├── CacheUnusable          no write access, full disk, half-written entry
    └── FileNotWritten         missing folder, no write access, full disk

`agent.errors` and `eval.errors` add their own leaves under the same two branches.
"""

from __future__ import annotations


class HeadscribeError(Exception):
    """A one-line error: what went wrong, what was got, what was expected, what to do next."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        next_step: str | None = None,
    ) -> None:
        self.what, self.got, self.expected, self.next_step = what, got, expected, next_step
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """The message as one line, whatever control characters its parts hold."""
        text = self.what
        if self.got is not None:
            text += f": got {self.got}"
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.next_step:
            text += f". {self.next_step}"
        return " ".join(text.split())


class UserMistake(HeadscribeError):
    """The command was asked for something that cannot be (exit code 2)."""

    exit_code = 2


class Failure(HeadscribeError):
    """The request was fine, but carrying it out was not possible (exit code 1)."""


class UnknownModel(UserMistake):
    """No such alias, hub id, folder or file."""


class UnsupportedModel(UserMistake):
    """An architecture, attribute or quantisation that is not understood."""


class OutOfRange(UserMistake):
    """Layer or head outside the model."""


class BadRelationFile(UserMistake):
    """A file of (source, target) pairs that cannot be read."""


class BrokenCheckpoint(Failure):
    """Truncated file, wrong checksum, missing tensor, or a vocabulary that does not fit the embeddings."""


class CacheUnusable(Failure):
    """The cache folder cannot be written: no access, full disk, half-written entry."""


class FileNotWritten(Failure):
    """A file of results cannot be written: missing folder, no write access, full disk. The old file is as it was."""
