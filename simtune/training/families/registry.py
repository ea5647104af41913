"""Model families by name. To add one, write its module and add its line to `FAMILIES`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from simtune.config.settings import ModelSettings
from simtune.entry_points import load_lines
from simtune.outside_files import MIB, read_outside
from simtune.training.families.family import ModelFamily
from simtune.training.seq2seq_model import Seq2SeqModel

FAMILIES = {
    "t5": "t5:T5",
}
"""Name -> module of this folder and the family in it."""


@cache
def family(name: str) -> ModelFamily:
    """The family of this name in `FAMILIES`."""
    found: ModelFamily = load_lines("simtune.training.families", {name: FAMILIES[name]})[name]
    return found


def family_name(model_type: object) -> str | None:
    """The name of the family that a `model_type` of config.json belongs to; None where no family does."""
    return next((name for name in FAMILIES if model_type in family(name).model_types), None)


def family_of(model: Seq2SeqModel) -> ModelFamily | None:
    """The family of a built model."""
    name = family_name(model.config.model_type)
    return family(name) if name is not None else None


def known_family_name(model: str) -> str | None:
    """The name of the family that lists the sizes of this published model."""
    return next((name for name in FAMILIES if model in family(name).known_sizes), None)


def possible_families(model: ModelSettings) -> list[ModelFamily]:
    """The family of a model, as far as its name or its folder tells, without asking a hub; else every family."""
    name = known_family_name(model.name)
    if name is None:
        try:
            config = json.loads(read_outside(Path(model.name).expanduser() / "config.json", MIB))
            name = family_name(config["model_type"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            name = None
    return [family(each) for each in ([name] if name is not None else FAMILIES)]


def tokenizers_split_at_spaces() -> tuple[str, ...]:
    """See `ModelFamily.tokenizers_split_at_spaces`; those of every family."""
    return tuple(prefix for name in FAMILIES for prefix in family(name).tokenizers_split_at_spaces)


def supported_models() -> str:
    """The families and their model types, for messages."""
    return ", ".join(f"{family(name).name} ({', '.join(family(name).model_types)})" for name in FAMILIES)
