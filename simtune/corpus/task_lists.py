"""Lists of task names, as the splits of a corpus have them: one name a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from simtune.corpus.task import name_flaw
from simtune.errors import CorpusError, shown
from simtune.outside_files import MIB, read_outside, text_file_errors

_LARGEST_LIST = 256 * MIB


def read_task_list(path: Path, root: Path | None = None) -> tuple[str, ...]:
    """Reads a list of task names; blank lines and a final `.json` are left out.

    Args:
        path: the list.
        root: the folder that it belongs to; no link may lead out of it.

    Raises:
        CorpusError: missing, no regular file, not text, a path instead of a name, a name twice, or no names; with file
            and line.
    """
    with text_file_errors(path, "split list", CorpusError):
        text = read_outside(path, _LARGEST_LIST, root).decode("utf-8-sig")
    names: dict[str, int] = {}
    for number, name in _numbered_names(text):
        if "/" in name or "\\" in name or name.startswith(".") or name_flaw(name):
            raise CorpusError.in_file(str(path), f"{shown(name)} is not a task name", f"line {number}")
        if name in names:
            problem = f"duplicate task name {shown(name)}, first on line {names[name]}"
            raise CorpusError.in_file(str(path), problem, f"line {number}")
        names[name] = number
    if not names:
        raise CorpusError.in_file(str(path), "lists no tasks")
    return tuple(names)


def _numbered_names(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.strip().removesuffix(".json")
        if name:
            yield number, name
