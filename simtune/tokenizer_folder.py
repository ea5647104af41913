"""What the folder of a tokenizer says of itself, read without the libraries that load it."""

from __future__ import annotations

import json
from pathlib import Path

from simtune.errors import ModelError
from simtune.outside_files import GIB, read_outside

# Of the transformers library: their ids are bytes or code points, for which the tokenizers library has no model.
_NO_PIECES = ("ByT5", "Perceiver", "Canine")


def declared_class(folder: str | Path) -> str:
    """The class of the transformers library that a folder names for its tokenizer; empty if it names none."""
    for name in ("tokenizer_config.json", "config.json"):
        try:
            settings = json.loads(read_outside(Path(folder).expanduser() / name, GIB))
        except (OSError, ValueError, RuntimeError):
            # The code that needs the folder or the file reports what is wrong with it.
            continue
        declared = settings.get("tokenizer_class") if isinstance(settings, dict) else None
        if isinstance(declared, str) and declared:
            return declared
    return ""


def refuse_byte_tokenizer(name: str, class_name: str, remedy: str, field: str) -> None:
    """Refuses the tokenizers that read bytes.

    Raises:
        ModelError: `class_name` is one of them.
    """
    if class_name.startswith(_NO_PIECES):
        raise ModelError(
            f"the tokenizer of {name!r} ({class_name}) reads bytes, not pieces of words. {remedy}", field=field
        )
