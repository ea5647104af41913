"""The overlaps of arms beside a count of all pairs."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
from arms import drawn

from simtune.config import SelectionSettings
from simtune.selection import overlaps as module
from simtune.selection.overlaps import overlaps_table
from simtune.selection.subsets import Subset, build_subsets


@pytest.fixture(scope="module")
def subsets() -> list[Subset]:
    arms = ("different", "random", "lowest-mean")
    selection = SelectionSettings(strategies=arms, sizes=(5, 8, 30), seeds=tuple(range(7)))
    return build_subsets(drawn(30, 4), selection)


@pytest.mark.parametrize("block_rows", [1, 3, 512])
def test_they_are_those_of_all_pairs(subsets: list[Subset], block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", block_rows)
    found = {(row["size"], row["arm_a"], row["arm_b"]): row for row in overlaps_table(subsets).to_pylist()}
    different = list({(s.size, s.arm, frozenset(s.tasks)): None for s in subsets})
    pairs: dict[tuple[int, str, str], list[tuple[int, float]]] = {}
    for (size, arm, tasks), (other_size, other_arm, others) in combinations(different, 2):
        if size == other_size:
            shared = len(tasks & others)
            pairs.setdefault((size, arm, other_arm), []).append((shared, shared / len(tasks | others)))
    assert set(found) == set(pairs)
    for key, of_key in pairs.items():
        row = found[key]
        assert row["num_pairs"] == len(of_key)
        assert row["mean_shared"] == pytest.approx(fmean(shared for shared, _ in of_key))
        assert row["mean_jaccard"] == pytest.approx(fmean(jaccard for _, jaccard in of_key))
        assert (row["min_jaccard"], row["max_jaccard"]) == (
            min(jaccard for _, jaccard in of_key),
            max(jaccard for _, jaccard in of_key),
        )
    # Seven seeds of the arm that draws: 21 pairs, and one with each of the two others.
    assert [found[5, "random", arm]["num_pairs"] for arm in ("random", "lowest-mean")] == [21, 7]


def test_rows_do_not_grow_with_the_number_of_seeds() -> None:
    seeds = tuple(range(300))
    many = build_subsets(drawn(30, 4), SelectionSettings(strategies=("random",), sizes=(5,), seeds=seeds))
    (row,) = overlaps_table(many).to_pylist()
    distinct = len({frozenset(subset.tasks) for subset in many})
    assert row["num_pairs"] == distinct * (distinct - 1) // 2
