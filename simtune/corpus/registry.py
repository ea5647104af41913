"""Corpus formats by name: simtune's own, and those of installed packages.

A format is a function that opens a path, or returns None where the path is not of its format; the first that opens it
is the one. To add one, write a module with that function and a `CorpusSource`, and add its line to `FORMATS`; a package
of one's own registers the function under the entry point group `simtune.corpora` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType

from simtune.corpus.demo.source import DEMO, open_demo
from simtune.corpus.natural_instructions import open_natural_instructions
from simtune.corpus.source import CorpusSource
from simtune.errors import ConfigError, CorpusError

ENTRY_POINTS = "simtune.corpora"

Open = Callable[[str], CorpusSource | None]

FORMATS: MappingProxyType[str, Open] = MappingProxyType(
    {
        "demo": open_demo,
        "natural-instructions": open_natural_instructions,
    }
)


def open_corpus(path: str) -> CorpusSource:
    """Opens a corpus of any known format, or `demo`.

    Raises:
        CorpusError: there is nothing at the path, or nothing of a known format.
    """
    for format_ in (*_installed().values(), *FORMATS.values()):
        if (source := format_(path)) is not None:
            return source
    give = (
        "Give corpus.path a folder of task files, fetch one with `simtune data fetch natural-instructions`, or use "
        "`demo`"
    )
    if Path(path).is_dir():
        known = ", ".join(name for name in (*FORMATS, *_installed()) if name != DEMO)
        raise CorpusError(f"{path}: no task file of a known format here ({known}). {give}")
    raise CorpusError(f"{path}: {'not a folder' if Path(path).exists() else 'no such folder'}. {give}")


@cache
def _installed() -> dict[str, Open]:
    found: dict[str, Open] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        where = f"entry point {ENTRY_POINTS}: {entry.name} = {entry.value}"
        if entry.name in FORMATS or entry.name in found:
            raise ConfigError(f"{where}: there already is a corpus format {entry.name!r}; give this one another name")
        try:
            loaded = entry.load()
        except Exception as error:
            raise ConfigError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from error
        if not callable(loaded):
            raise ConfigError(f"{where}: not a function from a path to a corpus or None")
        found[entry.name] = loaded
    return found
