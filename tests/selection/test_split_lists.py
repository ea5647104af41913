"""Split lists in a run's folder: written once, followed by those of another selection, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from arms import drawn

from simtune.config import SelectionSettings
from simtune.selection import split_lists as module
from simtune.selection.split_lists import folder_names, split_lists, write_split_lists
from simtune.selection.subsets import Subset, build_subsets


def subsets(*sizes: int, seeds: int = 2) -> list[Subset]:
    chosen = SelectionSettings(strategies=("different", "random"), sizes=sizes, seeds=tuple(range(seeds)))
    return build_subsets(drawn(12, 3), chosen)


def lists(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*_tasks.txt")}


def test_lists_that_are_there_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = split_lists(subsets(2, 4), ["held"])
    write_split_lists(tmp_path, made)
    before = lists(tmp_path / "splits")
    assert set(before) == {
        f"{folder}/{kind}_tasks.txt"
        for folder in (
            "different-2",
            "different-4",
            *(f"random-{size}-seed{seed}" for size in (2, 4) for seed in (0, 1)),
        )
        for kind in ("train", "test")
    }
    index = (tmp_path / "splits" / "subsets.json").read_bytes()
    (tmp_path / "splits" / "random-2-seed1" / "train_tasks.txt").write_text("changed\n")
    (tmp_path / "splits" / "different-2" / "test_tasks.txt").unlink()
    written: list[Path] = []

    def write(path: Path, text: str) -> None:
        written.append(path)
        path.write_text(text)

    monkeypatch.setattr(module, "write_text", write)
    write_split_lists(tmp_path, made)
    assert {path.relative_to(tmp_path / "splits").as_posix() for path in written} == {
        "random-2-seed1/train_tasks.txt",
        "different-2/test_tasks.txt",
    }
    assert lists(tmp_path / "splits") == before
    assert (tmp_path / "splits" / "subsets.json").read_bytes() == index


def test_another_selection_replaces_the_lists_and_leaves_other_folders(tmp_path: Path) -> None:
    write_split_lists(tmp_path, split_lists(subsets(2, 4), ["held"]))
    own = tmp_path / "splits" / "own" / "train_tasks.txt"
    own.parent.mkdir()
    own.write_text("mine\n")
    write_split_lists(tmp_path, split_lists(subsets(4, 6), ()))
    fresh = tmp_path / "fresh"
    write_split_lists(fresh, split_lists(subsets(4, 6), ()))
    assert lists(tmp_path / "splits") == {**lists(fresh / "splits"), "own/train_tasks.txt": "mine\n"}
    assert (tmp_path / "splits" / "subsets.json").read_bytes() == (fresh / "splits" / "subsets.json").read_bytes()
    write_split_lists(tmp_path, {})
    assert lists(tmp_path / "splits") == {"own/train_tasks.txt": "mine\n"}


def test_folders_of_thousands_of_subsets_are_named_in_one_pass() -> None:
    compared = 0

    class Counted(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    (subset,) = build_subsets(drawn(12, 3), SelectionSettings(strategies=("random",), sizes=(2,), seeds=(0,)))
    many = [
        Subset(Counted(f"arm {number}"), 0, 2, subset.tasks, subset.statistics, subset.quotas, "")
        for number in range(300)
    ]
    assert len(folder_names(many)) == 300
    assert compared < 10 * 300
