"""Corpus formats by name: simtune's own, and those of installed packages.

A format is a function that opens a path, or returns None where the path is not of its format; the first that opens it
is the one. To add one, write a module with that function and a `CorpusSource`, and add its line to `BUILT_IN`; another
package registers the function under the entry point group `simtune.corpora` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from simtune.corpus.demo.source import DEMO
from simtune.corpus.installed import InstalledSource
from simtune.corpus.source import CorpusSource
from simtune.entry_points import failures_named, load_installed, load_lines
from simtune.errors import CorpusError

ENTRY_POINTS = "simtune.corpora"

Open = Callable[[str], CorpusSource | None]

BUILT_IN = {
    "demo": "demo.source:open_demo",
    "natural-instructions": "natural_instructions:open_natural_instructions",
}
"""Name -> module of this folder and the function in it that opens a path."""

FORMATS: Mapping[str, Open] = MappingProxyType(load_lines("simtune.corpus", BUILT_IN))


def open_corpus(path: str, field: str = "") -> CorpusSource:
    """Opens a corpus of any known format, or `demo`.

    Args:
        path: where it is.
        field: of the sweep file that names it.

    Raises:
        CorpusError: there is nothing at the path, or nothing of a known format.
    """
    for name, open_installed in _installed().items():
        with failures_named(f"corpus format {name}, path {path}"):
            source = open_installed(path)
        if source is not None:
            return InstalledSource(name, source)
    for open_format in FORMATS.values():
        if (source := open_format(path)) is not None:
            return source
    give = (
        f"Give {field or 'it'} a folder of task files, fetch one with `simtune data fetch natural-instructions`, or "
        "use `demo`"
    )
    if Path(path).is_dir():
        known = ", ".join(name for name in (*FORMATS, *_installed()) if name != DEMO)
        raise CorpusError(f"{path}: no task file of a known format here ({known}). {give}", field=field)
    raise CorpusError(f"{path}: {'not a folder' if Path(path).exists() else 'no such folder'}. {give}", field=field)


@cache
def _installed() -> dict[str, Open]:
    def accept(loaded: object) -> Open | None:
        return loaded if callable(loaded) else None

    expected = "a function from a path to a corpus or None"
    return load_installed(ENTRY_POINTS, "corpus format", FORMATS, accept, expected)
