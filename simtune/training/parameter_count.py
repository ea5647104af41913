"""How many parameters a model has, before it is built: from its sizes, or from the headers of its weight files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from simtune.config.settings import ModelSettings
from simtune.outside_files import GIB, MIB, open_outside, read_outside, visible
from simtune.training.families.family import ModelFamily
from simtune.training.families.registry import family, family_name, known_family_name

_LONGEST_HEADER = 100_000_000
_LARGEST_FILE = 1024 * GIB


def expected_parameters(model: ModelSettings, tokenizer_size: int | None) -> int | None:
    """The parameters of a model; None where only the hub, or an incomplete file, could tell. Asks no hub.

    Args:
        model: which model, and whether its weights are new.
        tokenizer_size: pieces of the tokenizer; None where it is not known.
    """
    folder = Path(model.name).expanduser()
    pretrained = model.init == "pretrained"
    if pretrained and folder.is_dir():
        return _in_files(sorted(visible(folder.glob("*.safetensors"))))
    found = expected_sizes(model)
    if found is None:
        return None
    try:
        return found[0].num_parameters(found[1], None if pretrained else tokenizer_size, pretrained)
    except (ValueError, TypeError, KeyError):
        return None


def expected_sizes(model: ModelSettings) -> tuple[ModelFamily, dict[str, Any]] | None:
    """The family of a model and its sizes, as keys of config.json; None where only the hub could tell."""
    try:
        name = known_family_name(model.name)
        if name is not None:
            sizes = dict(family(name).known_sizes[model.name])
        else:
            sizes = json.loads(read_outside(Path(model.name).expanduser() / "config.json", MIB))
            name = family_name(sizes["model_type"])
        if name is None:
            return None
        return family(name), sizes | {key: value for key, value in model.config.items() if value is not None}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _in_files(paths: list[Path]) -> int | None:
    total = 0
    try:
        for path in paths:
            with open_outside(path, _LARGEST_FILE) as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            total += sum(math.prod(array["shape"]) for name, array in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return total or None
