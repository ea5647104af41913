"""The one metric that each category is reported by: that of its published numbers.

Source: Tk-Instruct, `src/compute_metrics.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

GENERATED = ("rouge-l", "exact-match")
"""The metrics of Super-NaturalInstructions."""

EXACT_MATCH_CATEGORIES = frozenset(
    {
        "answerability_classification",
        "cause_effect_classification",
        "coreference_resolution",
        "dialogue_act_recognition",
        "textual_entailment",
        "word_analogy",
    }
)
"""Keys of the categories whose headline metric is exact match; every other one is reported by ROUGE-L."""


def category_key(category: str) -> str:
    """The key of a category in result tables: "Textual Entailment" becomes "textual_entailment"."""
    return "_".join(category.lower().split())


def headline_metric(category: str, metrics: Sequence[str] = GENERATED) -> str:
    """The metric of a category in the published tables.

    Args:
        category: its name or its key.
        metrics: names of the metrics that are computed; the first is used if the published one is not among them.
    """
    published = "exact-match" if category_key(category) in EXACT_MATCH_CATEGORIES else "rouge-l"
    return published if published in metrics else metrics[0]
