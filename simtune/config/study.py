"""What the study does not state, so that whoever repeats it must choose."""

from __future__ import annotations

_FIELDS = (
    *("corpus.min_instances", "corpus.instances_per_task", "corpus.seed", "selection.seeds"),
    *("selection.cosine", "selection.start", "training.schedule", "training.warmup_steps", "training.adam_beta2"),
    *("training.weight_decay", "training.gradient_clipping", "training.dropout"),
)
_SECTIONS = ("embedding.", "encoding.")


def is_unstated(field: str) -> bool:
    """Whether the study leaves a field of the sweep file open: threshold, encoder, embedded text, prompt, optimiser.

    Args:
        field: its dotted name.
    """
    return field in _FIELDS or field.startswith(_SECTIONS)
