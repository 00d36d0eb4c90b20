"""What every describer offers: evidence in, one HeadDescription out, never an exception for a bad answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from agent.results import Evidence, HeadDescription


class Describer(Protocol):
    """Names what a head does from its rows. Failures come back as `status="failed"` with a reason."""

    @property
    def name(self) -> str:
        """As given on the command line, for example `lexical` or `openai:MODEL`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change the answer besides the evidence: prompt version, temperature, thresholds."""

    def describe(self, evidence: Evidence) -> HeadDescription: ...
