"""A published model's own settings for generation, which have no effect: answers are decoded greedily."""

from __future__ import annotations

from collections.abc import Mapping

from simtune.errors import cut

# With the values that greedy decoding has.
_GREEDY = {
    "num_beams": 1,
    "do_sample": False,
    "penalty_alpha": 0,
    "dola_layers": None,
    "force_words_ids": None,
    "constraints": None,
    "stop_strings": None,
}


def unused_generation_settings(generation: Mapping[str, object]) -> str:
    """The settings of a published model that a sweep overrides, in words; empty where there are none."""
    found = {name: generation.get(name) for name in _GREEDY}
    return ", ".join(f"{name} {cut(str(value))}" for name, value in found.items() if value not in (None, _GREEDY[name]))
