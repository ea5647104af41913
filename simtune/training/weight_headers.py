"""Compares the arrays of a pretrained model's files with those that its config.json asks for; reads no weights.

So a folder in which something is missing is refused before any work, instead of in each trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simtune.errors import ModelError, first_line
from simtune.hub import listed_weights
from simtune.loaded_weights import LoadedModel, refuse_incomplete
from simtune.outside_files import GIB, read_outside

_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def check_arrays(folder: Path, field: str = "model.name") -> None:
    """Refuses the folder of a model whose files lack arrays, have them in other shapes, or have more layers.

    Args:
        folder: with a config.json of a supported model type.
        field: of the sweep file, for the message.

    Raises:
        ModelError: names an array and says what to do.
    """
    config = json.loads(read_outside(folder / "config.json", GIB))
    shapes = _shapes_in_files(folder, config, field)
    if shapes is not None:
        refuse_incomplete(_compared(_on_meta(folder, field), shapes), folder, field)


def _shapes_in_files(folder: Path, config: Mapping[str, Any], field: str) -> dict[str, tuple[int, ...]] | None:
    """The shape of each array in the files that the library would load; None if that is not known here."""
    from safetensors import safe_open

    named = config.get("transformers_weights")
    index = folder / (named if isinstance(named, str) and named.endswith(".index.json") else _INDEX)
    if isinstance(named, str) and not named.endswith(".index.json"):
        files = [named]
    elif named is None and (folder / _FILE).is_file():
        files = [_FILE]
    elif index.is_file():
        files = listed_weights(index, field)
    else:
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    for name in files:
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder} has no {name}, which {index.name if index.is_file() else 'config.json'} lists as a part of "
                "its weights. Download it again",
                field=field,
            )
        with safe_open(str(folder / name), framework="numpy") as opened:
            shapes |= {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    return shapes


def _on_meta(folder: Path, field: str) -> Any:
    """The model of a config.json, without memory for its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            return AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            f"{folder / 'config.json'} is not a configuration of a model ({type(error).__name__}: "
            f"{first_line(error)[:200]}). Restore the config.json that belongs to the weights",
            field=field,
        ) from error


def _compared(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> LoadedModel:
    """What the library would report of these arrays.

    Arrays that a model uses in several places are needed under one of their names only.
    """
    prefix = f"{model.base_model_prefix}."
    expected = dict(model.named_parameters(remove_duplicate=False))
    found = {key if key in expected else key.removeprefix(prefix): shape for key, shape in shapes.items()}
    places: dict[int, list[str]] = {}
    for name, parameter in expected.items():
        places.setdefault(id(parameter), []).append(name)
    missing = [names[0] for names in places.values() if not found.keys() & set(names)]
    other_shape = [
        (name, found[name], tuple(parameter.shape))
        for name, parameter in expected.items()
        if name in found and found[name] != tuple(parameter.shape)
    ]
    known = expected.keys() | dict(model.named_buffers()).keys()
    return LoadedModel(model, frozenset(missing), frozenset(found.keys() - known), tuple(other_shape))
