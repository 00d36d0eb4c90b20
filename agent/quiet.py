"""Settings of third-party libraries that must be made before they are imported."""

from __future__ import annotations

import os


def quiet_libraries() -> None:
    """No library reports usage to its makers or prints progress between our lines."""
    for name, value in (
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("ANONYMIZED_TELEMETRY", "False"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRANSFORMERS_VERBOSITY", "error"),
    ):
        os.environ.setdefault(name, value)
