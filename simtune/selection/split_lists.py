"""Subsets as split lists.

A split list is the official format of Super-NaturalInstructions: `train_tasks.txt` and `test_tasks.txt` in a folder of
their own. Any trainer that supports the collection reads them, and so does `corpus.holdout.split`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from simtune.selection.subsets import Subset
from simtune.storage.files import AnyPath, remove_tree, write_text
from simtune.storage.records import Record, read_record_if_present, write_record

SPLITS = "splits"
INDEX = "subsets.json"
_LONGEST_NAME = 150
# One folder, or one in a grid point's; neither begins with a dot.
_FOLDER = r"^([A-Za-z0-9_=][A-Za-z0-9._=-]{0,254}/)?[A-Za-z0-9_=][A-Za-z0-9._=-]{0,254}$"


class _Made(Record):
    arm: str
    size: int
    seed: int


class _Index(Record):
    """The folders that `write_split_lists` made: only they are removed later."""

    version: Literal[1] = 1
    folders: dict[Annotated[str, Field(pattern=_FOLDER)], _Made]


def write_split_lists(
    directory: AnyPath, subsets: Sequence[Subset], test_tasks: Sequence[str], grid: str = ""
) -> dict[str, Subset]:
    """Writes a folder for each different subset, named by arm, size and (where they differ) seed.

    Args:
        directory: a run directory; lists go under `splits/`.
        subsets: of one grid point.
        test_tasks: names for `test_tasks.txt`; the file is not written where there are none.
        grid: the grid point's label; names a folder in between.
    """
    between = f"{_folder_name(grid)}/" if grid else ""
    by_folder = {f"{between}{name}": subset for name, subset in folder_names(subsets).items()}
    # Written before the lists: folders that are not in it are never removed.
    index = directory / SPLITS / INDEX
    described = {folder: _Made(arm=s.arm, size=s.size, seed=s.seed) for folder, s in by_folder.items()}
    write_record(index, _Index(folders=_made(index) | described))
    for folder, subset in by_folder.items():
        root = directory / SPLITS / folder
        write_text(root / "train_tasks.txt", "".join(f"{task}\n" for task in subset.tasks))
        if test_tasks:
            write_text(root / "test_tasks.txt", "".join(f"{task}\n" for task in test_tasks))
    return by_folder


def folder_names(subsets: Sequence[Subset]) -> dict[str, Subset]:
    """Each different subset by its folder name: arm, size and, where they differ, seed."""
    named: dict[str, Subset] = {}
    for subset in subsets:
        same = [other for other in subsets if (other.arm, other.size) == (subset.arm, subset.size)]
        seeds_differ = any(other.tasks != subset.tasks for other in same)
        name = f"{_folder_name(subset.arm)}-{subset.size}" + (f"-seed{subset.seed}" if seeds_differ else "")
        # Two labels may differ only in characters that a folder name cannot contain.
        while named.get(name, subset).arm != subset.arm:
            name += "_"
        named.setdefault(name, subset)
    return named


def clear_split_lists(directory: AnyPath) -> None:
    """Removes the lists of an earlier selection, and nothing else."""
    index = directory / SPLITS / INDEX
    for folder in _made(index):
        remove_tree(directory / SPLITS / folder)
    index.unlink(missing_ok=True)


def _made(index: AnyPath) -> dict[str, _Made]:
    """The folders that the index names; none without one.

    Raises:
        RunError: the index is damaged.
    """
    found = read_record_if_present(index, _Index)
    return dict(found.folders) if found else {}


def _folder_name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.") or "arm"
    if len(name) > _LONGEST_NAME:
        # File systems allow 255 bytes; size and seed follow.
        name = f"{name[: _LONGEST_NAME - 13]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return name
