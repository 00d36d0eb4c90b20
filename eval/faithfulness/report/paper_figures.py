"""The paper's own numbers, shown beside ours (docs/method.md, "The checks against the running model")."""

from __future__ import annotations

# Llama-3.1 8B: r of static against dynamic scores without / with context
LLAMA_8B_R: dict[str, tuple[float, float]] = {
    "copying": (0.76, 0.73),
    "name-copying": (0.95, 0.95),
    "word-to-first-letter": (0.90, 0.78),
    "country-to-capital": (0.85, 0.85),
    "country-to-language": (0.76, 0.62),
    "word-to-antonym": (0.90, 0.86),
    "adjective-to-comparative": (0.85, 0.86),
    "verb-to-past-tense": (0.91, 0.86),
    "english-to-french": (0.71, 0.68),
    "english-to-spanish": (0.82, 0.81),
}

# Pythia 12B: base accuracy, then with the operation's heads removed, random heads removed, and on control tasks
PYTHIA_12B_ABLATION: dict[str, tuple[float, float, float, float]] = {
    "adjective-to-comparative": (0.91, 0.20, 0.82, 0.63),
    "copying": (1.00, 0.68, 1.00, 0.88),
    "country-to-capital": (0.97, 0.00, 0.95, 0.90),
    "country-to-language": (1.00, 0.08, 0.96, 0.89),
    "name-copying": (1.00, 0.24, 1.00, 0.92),
    "word-to-first-letter": (0.91, 0.34, 0.87, 0.74),
    "year-to-following": (0.92, 0.00, 0.87, 0.79),
}
