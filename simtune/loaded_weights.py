"""Weights as files and as loaded: what is cut off, and what the transformers library left random or left out.

The library reports the latter in its log alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.errors import ModelError, first_line
from simtune.wording import counted

if TYPE_CHECKING:
    from torch.nn import Module

_NUMBERED = re.compile(r"(.+?)\.(\d+)\.")


@dataclass(frozen=True)
class LoadedModel:
    """A model that the library has loaded from a folder.

    Attributes:
        missing: arrays of the model that the files lack; they were filled with random numbers.
        unexpected: arrays of the files for which the model has no place.
    """

    model: Module
    missing: frozenset[str]
    unexpected: frozenset[str]

    def fill_missing(self, seed: int) -> None:
        """Fills what is missing with the random numbers of a seed."""
        import torch

        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, array in (*self.model.named_parameters(), *self.model.named_buffers()):
                if name in self.missing:
                    array.copy_(torch.randn(array.shape, generator=random))


def check_headers(paths: Iterable[Path], field: str) -> None:
    """Compares the headers of *.safetensors with the sizes of the files; reads no weights.

    Raises:
        ModelError: a file is cut off, or something else.
    """
    from safetensors import SafetensorError, safe_open

    for path in paths:
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(str(path), framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} cannot be read as weights ({first_line(error)}): it is cut off or something else, such as a "
                "pointer of Git LFS. Download it again",
                field=field,
            ) from error


@contextmanager
def recorded_loading() -> Iterator[list[LoadedModel]]:
    """Records every model that the transformers library loads in the block, whoever asks it to."""
    from transformers import PreTrainedModel

    loaded: list[LoadedModel] = []
    original = PreTrainedModel.__dict__["from_pretrained"]

    def observed(cls: type[Any], *arguments: Any, **options: Any) -> Any:
        if options.pop("output_loading_info", False):
            return original.__func__(cls, *arguments, output_loading_info=True, **options)
        model, found = original.__func__(cls, *arguments, output_loading_info=True, **options)
        loaded.append(LoadedModel(model, frozenset(found["missing_keys"]), frozenset(found["unexpected_keys"])))
        return model

    PreTrainedModel.from_pretrained = classmethod(observed)
    try:
        yield loaded
    finally:
        PreTrainedModel.from_pretrained = original


def refuse_missing(missing: Collection[str], source: str | Path, field: str) -> None:
    """Refuses weights in which something is missing.

    Raises:
        ModelError: `missing` names arrays.
    """
    if missing:
        raise ModelError(
            f"the weights in {source} lack {counted(len(missing), 'array')} of the model, such as "
            f"{min(missing)}: they belong to another model, or a part of them is missing",
            field=field,
        )


def refuse_more_layers(loaded: LoadedModel, source: str | Path, field: str) -> None:
    """Refuses weights with more layers than the model, which would be left out.

    Other arrays without a place in the model, such as a head for another purpose, are no fault.

    Raises:
        ModelError: a layer has no place.
    """
    from torch.nn import ModuleList

    lengths = {name: len(part) for name, part in loaded.model.named_modules() if isinstance(part, ModuleList)}
    for key in sorted(loaded.unexpected):
        for match in _NUMBERED.finditer(key):
            layers, index = key[: match.end(1)], int(match[2])
            for name, length in lengths.items():
                if index >= length and f".{layers}".endswith(f".{name}"):
                    raise ModelError(
                        f"the weights in {source} have a layer {key[: match.end(2)]}, and by its config.json the model "
                        f"has {counted(length, 'layer')} there. Restore the config.json that belongs to the weights",
                        field=field,
                    )
