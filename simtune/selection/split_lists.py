"""Subsets as split lists.

A split list is the official format of Super-NaturalInstructions: `train_tasks.txt` and `test_tasks.txt` in a folder of
their own. Any trainer that supports the collection reads them, and so does `corpus.holdout.split`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from simtune.selection.subsets import Subset
from simtune.storage.file_types import read_file
from simtune.storage.files import AnyPath, files_below, remove_tree, write_text
from simtune.storage.many_files import in_threads, read_each
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


@dataclass(frozen=True)
class SplitList:
    """A subset as split lists: the text of each file by its name."""

    subset: Subset
    files: Mapping[str, str]


def split_lists(subsets: Sequence[Subset], test_tasks: Sequence[str], grid: str = "") -> dict[str, SplitList]:
    """The split lists of each different subset, by a folder that is named by arm, size and (where they differ) seed.

    Args:
        subsets: of one grid point.
        test_tasks: names for `test_tasks.txt`; there is no such file where there are none.
        grid: the grid point's label; names a folder in between.
    """
    between = f"{_folder_name(grid)}/" if grid else ""
    test = {"test_tasks.txt": _lines(test_tasks)} if test_tasks else {}
    return {
        f"{between}{name}": SplitList(subset, {"train_tasks.txt": _lines(subset.tasks), **test})
        for name, subset in folder_names(subsets).items()
    }


def write_split_lists(directory: AnyPath, lists: Mapping[str, SplitList]) -> None:
    """Writes split lists under `splits/`, and removes those of an earlier selection and nothing else.

    Lists that are there already are read and not written again: a run of thousands of subsets is continued often.

    Args:
        directory: a run directory.
        lists: by folder.
    """
    root = directory / SPLITS
    earlier = _made(root / INDEX)
    made = {folder: _describe(each.subset) for folder, each in lists.items()}
    texts = {f"{folder}/{name}": text for folder, each in lists.items() for name, text in each.files.items()}
    there = files_below(root, "**/*_tasks.txt")
    found = read_each(root, sorted(set(texts) & set(there)), lambda file: read_file(there[file]))
    both = earlier | made
    if earlier != both:
        # Before the lists: folders that the index does not name are never removed.
        write_record(root / INDEX, _Index(folders=both))
    in_threads(lambda folder: remove_tree(root / folder), sorted(set(earlier) - set(made)))
    kept = earlier.keys() & made.keys()
    for file in sorted(there.keys() - texts.keys()):
        if file.rpartition("/")[0] in kept:
            there[file].unlink(missing_ok=True)
    changed = [file for file, text in texts.items() if found.get(file) != text.encode()]
    in_threads(lambda file: write_text(root / file, texts[file]), changed)
    if list(both) != list(made):
        write_record(root / INDEX, _Index(folders=made))


def _describe(subset: Subset) -> _Made:
    return _Made(arm=subset.arm, size=subset.size, seed=subset.seed)


def _lines(tasks: Sequence[str]) -> str:
    return "".join(f"{task}\n" for task in tasks)


def folder_names(subsets: Sequence[Subset]) -> dict[str, Subset]:
    """Each different subset by its folder name: arm, size and, where they differ, seed."""
    sets: dict[tuple[str, int], set[tuple[str, ...]]] = {}
    for subset in subsets:
        sets.setdefault((subset.arm, subset.size), set()).add(subset.tasks)
    named: dict[str, Subset] = {}
    for subset in subsets:
        seeds_differ = len(sets[subset.arm, subset.size]) > 1
        name = f"{_folder_name(subset.arm)}-{subset.size}" + (f"-seed{subset.seed}" if seeds_differ else "")
        # Two labels may differ only in characters that a folder name cannot contain.
        while named.get(name, subset).arm != subset.arm:
            name += "_"
        named.setdefault(name, subset)
    return named


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
