"""Weights as files and as loaded: what is cut off, and what the transformers library left random or left out.

The library reports the latter in its log alone.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.errors import ModelError, first_line
from simtune.outside_files import GIB, read_outside
from simtune.wording import counted

if TYPE_CHECKING:
    from torch.nn import Module

# The types of arrays as files name them, and the arrays that are multiplied; others are positions and counts.
_FLOATING, _WEIGHTS = ("F", "BF"), (".weight", ".bias")
_NUMBERED = re.compile(r"(.+?)\.(\d+)\.")
_RECORDING = threading.Lock()


@dataclass(frozen=True)
class LoadedModel:
    """A model that the library has loaded from a folder.

    Attributes:
        missing: arrays of the model that the files lack; they were filled with random numbers.
        unexpected: arrays of the files for which the model has no place.
        other_shape: arrays of both with different shapes, each with that in the files and that of the model; they were
            filled with random numbers, too.
    """

    model: Module
    missing: frozenset[str]
    unexpected: frozenset[str]
    other_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    @staticmethod
    def from_report(model: Module, found: Mapping[str, Any]) -> LoadedModel:
        """A model with what `output_loading_info` reports of it."""
        other_shape = sorted((key, tuple(file), tuple(own)) for key, file, own in found["mismatched_keys"])
        return LoadedModel(
            model, frozenset(found["missing_keys"]), frozenset(found["unexpected_keys"]), tuple(other_shape)
        )

    @property
    def random(self) -> list[str]:
        """The missing parameters; what the model computes by itself, such as positions, is none."""
        return sorted(self.missing & dict(self.model.named_parameters()).keys())

    def fill(self, names: Iterable[str], seed: int) -> None:
        """Fills parameters with the random numbers of a seed."""
        import torch

        random, parameters = torch.Generator().manual_seed(seed), dict(self.model.named_parameters())
        with torch.no_grad():
            for name in names:
                parameters[name].copy_(torch.randn(parameters[name].shape, generator=random))


def check_headers(paths: Iterable[Path], field: str) -> None:
    """Compares the headers of *.safetensors with the sizes of the files; reads no weights.

    Raises:
        ModelError: a file is cut off, or something else, or has whole numbers as weights.
    """
    from safetensors import SafetensorError, safe_open

    for path in paths:
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(str(path), framework="numpy") as opened:
                types = {key: opened.get_slice(key).get_dtype() for key in opened.keys()}  # noqa: SIM118
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({first_line(error)})", field=field) from error
        except SafetensorError as error:
            raise ModelError(
                f"{path} cannot be read as weights ({first_line(error)}): it is cut off or something else, such as a "
                "pointer of Git LFS. Download it again",
                field=field,
            ) from error
        _refuse_whole_numbers(path, types, field)


def _refuse_whole_numbers(path: Path, types: Mapping[str, str], field: str) -> None:
    """Refuses weights that the library would convert as they are, unless the model says how it is quantised."""
    found = [name for name, kind in types.items() if name.endswith(_WEIGHTS) and not kind.startswith(_FLOATING)]
    if not found:
        return
    with contextlib.suppress(OSError, ValueError, RuntimeError, RecursionError):
        config = json.loads(read_outside(path.parent / "config.json", GIB))
        if isinstance(config, dict) and "quantization_config" in config:
            return
    raise ModelError(
        f"{path} has {found[0]} as whole numbers ({types[found[0]]}), and its config.json has no quantization_config "
        "that says what they stand for. Give the model with weights in floating point",
        field=field,
    )


@contextlib.contextmanager
def recorded_loading() -> Iterator[list[LoadedModel]]:
    """Records every model that the transformers library loads in this thread in the block, whoever asks it to."""
    from transformers import PreTrainedModel

    with _RECORDING:
        yield from _recorded(PreTrainedModel)


def _recorded(model_class: type[Any]) -> Iterator[list[LoadedModel]]:
    loaded: list[LoadedModel] = []
    thread = threading.get_ident()
    original = model_class.__dict__["from_pretrained"]

    def observed(cls: type[Any], *arguments: Any, **options: Any) -> Any:
        if options.get("output_loading_info") or threading.get_ident() != thread:
            return original.__func__(cls, *arguments, **options)
        model, found = original.__func__(cls, *arguments, **{**options, "output_loading_info": True})
        loaded.append(LoadedModel.from_report(model, found))
        return model

    model_class.from_pretrained = classmethod(observed)
    try:
        yield loaded
    finally:
        model_class.from_pretrained = original


def refuse_missing(missing: Sequence[str], source: str | Path, field: str) -> None:
    """Refuses weights in which something is missing.

    Raises:
        ModelError: `missing` names arrays; the message names the first.
    """
    if missing:
        raise ModelError(
            f"the weights in {source} lack {counted(len(missing), 'array')} of the model, such as "
            f"{missing[0]}: they belong to another model, or a part of them is missing. Download "
            "the model again, or restore the config.json that belongs to the weights",
            field=field,
        )


def refuse_other_shapes(loaded: LoadedModel, source: str | Path, field: str) -> None:
    """Refuses weights with an array in another shape than the model's.

    Raises:
        ModelError: names the first, with both shapes.
    """
    for name, in_file, in_model in loaded.other_shape:
        raise ModelError(
            f"the weights in {source} have {name} in the shape {list(in_file)}, and by its config.json the model has "
            f"it in the shape {list(in_model)}. Restore the config.json that belongs to the weights, or download the "
            "model again",
            field=field,
        )


def refuse_incomplete(loaded: LoadedModel, source: str | Path, field: str) -> None:
    """Refuses weights that are not the whole of a model, or not of this one.

    Raises:
        ModelError: an array has another shape or is missing, or a layer has no place.
    """
    refuse_other_shapes(loaded, source, field)
    refuse_more_layers(loaded, source, field)
    refuse_missing(sorted(loaded.missing), source, field)


def refuse_not_finite(model: Module, source: str | Path, field: str) -> None:
    """Refuses weights with a number that is not finite, which makes every result that depends on it useless.

    Raises:
        ModelError: names the first array with one.
    """
    import torch

    for name, parameter in model.named_parameters():
        # A sum needs no memory, and is infinite for some finite numbers too.
        if not torch.isfinite(parameter.sum()) and not torch.isfinite(parameter).all():
            raise ModelError(
                f"the weights in {source} have numbers in {name} that are not finite (NaN or infinite). Download the "
                "model again, or save it again from a training that did not diverge",
                field=field,
            )


def refuse_more_layers(loaded: LoadedModel, source: str | Path, field: str) -> None:
    """Refuses weights with more layers than the model, which would be left out.

    Other arrays without a place in the model, such as a head for another purpose, are no fault.

    Raises:
        ModelError: a layer has no place.
    """
    from torch.nn import ModuleList

    prefix = getattr(loaded.model, "base_model_prefix", "")
    lengths = {name: len(part) for name, part in loaded.model.named_modules() if isinstance(part, ModuleList)}
    for key in sorted(loaded.unexpected):
        for match in _NUMBERED.finditer(key):
            layers, index = key[: match.end(1)], int(match[2])
            for name, length in lengths.items():
                if index >= length and layers in (name, f"{prefix}.{name}"):
                    raise ModelError(
                        f"the weights in {source} have a layer {key[: match.end(2)]}, and by its config.json the model "
                        f"has {counted(length, 'layer')} there. Restore the config.json that belongs to the weights",
                        field=field,
                    )
