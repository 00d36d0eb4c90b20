"""The eval package's own leaves of the tree in `maps_engine.errors`.

UserMistake
├── BadStudy          a study that cannot be made or launched, or is in the wrong state
├── NotFound          no such study, item, rating or job
├── BadAnswer         an answer that misses or misnames a part (shown beside the question)
├── BadImport         a file of items or answers that cannot be read
├── NotAllowed        signed in as the wrong person, or not at all; a link or token that is spent
├── AttentionOutOfReach   the output of single heads cannot be read or forced in this running model
└── MixedResults      a folder holds results made under other settings
Failure
└── ContentChanged    frozen items no longer match their hash
"""

from __future__ import annotations

from maps_engine.errors import Failure, UserMistake


class BadStudy(UserMistake):
    """A study that cannot be made or launched, or is in the wrong state."""


class NotFound(UserMistake):
    """No such study, item, rating or job; on the web, status 404 (as `agent.errors.UnknownRun`)."""


class BadAnswer(UserMistake):
    """An answer that misses or misnames a part."""


class BadImport(UserMistake):
    """A file of items or answers that cannot be read."""


class NotAllowed(UserMistake):
    """Signed in as the wrong person, or not at all; a link or token that is spent."""


class ContentChanged(Failure):
    """The frozen items of a study no longer match the hash taken at launch."""


class AttentionOutOfReach(UserMistake):
    """The output of single heads cannot be read or forced in this running model."""


class MixedResults(UserMistake):
    """A folder holds results made under other settings."""
