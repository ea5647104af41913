"""How much the sets of two arms have in common, over all pairs of their seeds.

S sets of a size have S * (S - 1) / 2 pairs, so pairs are counted and not listed: the numbers of shared tasks of many
pairs are one product of matrices. Legend: A and B are the sets of two arms, P the tasks of which any set has one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from simtune.selection.subsets import Subset

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_ROWS = 512
# Numbers of tasks that two sets share, and that they have together.
_Pairs = Counter[tuple[int, int]]


def overlaps_table(subsets: Sequence[Subset]) -> pa.Table:
    """`overlaps.parquet`: for every two arms of a size, and for the seeds of one arm, the Jaccard index of their sets.

    Where several seeds of an arm chose the same tasks, only the first counts.
    """
    import pyarrow as pa

    by_size: dict[int, dict[str, dict[frozenset[str], None]]] = {}
    for subset in subsets:
        by_size.setdefault(subset.size, {}).setdefault(subset.arm, {})[frozenset(subset.tasks)] = None
    rows = [row for size, arms in sorted(by_size.items()) for row in _rows_of_size(size, arms)]
    columns = [("size", pa.int64()), ("arm_a", pa.string()), ("arm_b", pa.string()), ("num_pairs", pa.int64())]
    numbers = ("mean_shared", "mean_jaccard", "min_jaccard", "max_jaccard")
    return pa.Table.from_pylist(rows, schema=pa.schema([*columns, *((name, pa.float64()) for name in numbers)]))


def _rows_of_size(size: int, arms: dict[str, dict[frozenset[str], None]]) -> Iterator[dict[str, Any]]:
    places: dict[str, int] = {}
    for sets in arms.values():
        for tasks in sets:
            for task in sorted(tasks):
                places.setdefault(task, len(places))
    members = {arm: _members(list(sets), places) for arm, sets in arms.items()}
    for arm, other in combinations_with_replacement(members, 2):
        pairs = _pairs(members[arm], members[other], same=arm == other)
        if pairs:
            yield {"size": size, "arm_a": arm, "arm_b": other, **_summary(pairs)}


def _members(sets: Sequence[frozenset[str]], places: dict[str, int]) -> np.ndarray:
    """Which tasks the sets have, float32 [A, P]."""
    members_AP = np.zeros((len(sets), len(places)), np.float32)
    for row, tasks in enumerate(sets):
        members_AP[row, [places[task] for task in tasks]] = 1
    return members_AP


def _pairs(members_AP: np.ndarray, members_BP: np.ndarray, same: bool) -> _Pairs:
    """How many pairs share that many tasks and have that many together; with `same`, of different sets of one arm."""
    sizes_A, sizes_B = (members.sum(axis=1).astype(np.int64) for members in (members_AP, members_BP))
    most = int(sizes_A.max() + sizes_B.max()) + 1
    found: _Pairs = Counter()
    for begin in range(0, len(members_AP), _BLOCK_ROWS):
        end = min(begin + _BLOCK_ROWS, len(members_AP))
        # Whole numbers far below 2**24, so float32 is exact.
        shared_AB = (members_AP[begin:end] @ members_BP.T).astype(np.int64)
        union_AB = sizes_A[begin:end, None] + sizes_B[None, :] - shared_AB
        codes_AB = shared_AB * most + union_AB
        if same:
            codes_AB = codes_AB[np.arange(begin, end)[:, None] < np.arange(len(members_BP))[None, :]]
        codes, numbers = np.unique(codes_AB, return_counts=True)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            found[divmod(code, most)] += number
    return found


def _summary(pairs: _Pairs) -> dict[str, Any]:
    """Exact sums, so that the order of blocks does not matter."""
    num_pairs = sum(pairs.values())
    jaccard = {pair: pair[0] / max(1, pair[1]) for pair in pairs}
    return {
        "num_pairs": num_pairs,
        "mean_shared": sum(shared * number for (shared, _), number in pairs.items()) / num_pairs,
        "mean_jaccard": math.fsum(jaccard[pair] * number for pair, number in pairs.items()) / num_pairs,
        "min_jaccard": min(jaccard.values()),
        "max_jaccard": max(jaccard.values()),
    }
