"""A subset that is being chosen: the tasks chosen so far, and those that may still be added.

Every option of `selection` is applied here and nowhere else, so that a strategy, including a user's own, decides only
which of the open tasks comes next.

Legend: N tasks of the pool, M some of them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from simtune.graph.blocks import MapBlocks, map_blocks_here
from simtune.graph.similarity import SimilarityGraph
from simtune.wording import counted

# Scores that differ only by rounding count as equal, on every machine; then the earlier name wins.
_TIE = 1e-10


@dataclass(frozen=True)
class Options:
    """What may be in a subset, as indices in the graph; the fields are those of `OptionSettings`."""

    per_category_cap: int | None = None
    per_source_cap: int | None = None
    max_pair_similarity: float | None = None
    start: int | None = None
    include: tuple[int, ...] = ()
    exclude: tuple[int, ...] = ()


class PartialSubset:
    """Tasks chosen so far; a strategy adds further ones until it is full.

    Attributes:
        graph: the pool; without test tasks unless the strategy is an oracle.
        size: number of tasks wanted.
        seed: for strategies that draw.
        parameters: the strategy's own, checked, every default filled in.
        map_blocks: runs work that is quadratic in the pool, block by block, here or on a cluster.
        chosen: tasks in the order of choice.
        open_N: which tasks may still be added, bool [N].
    """

    def __init__(
        self,
        graph: SimilarityGraph,
        size: int,
        seed: int = 0,
        parameters: Mapping[str, Any] | None = None,
        options: Options | None = None,
        on_add: Callable[[], None] = lambda: None,
        map_blocks: MapBlocks = map_blocks_here,
    ) -> None:
        self.graph = graph
        self.size = size
        self.seed = seed
        self.parameters = dict(parameters or {})
        self.map_blocks = map_blocks
        self.chosen: list[int] = []
        self.open_N = np.ones(len(graph), dtype=bool)
        self._options = options = options or Options()
        self._on_add = on_add
        self._in_category: Counter[str] = Counter()
        self._in_source: Counter[str] = Counter()
        self._row: tuple[int, np.ndarray] | None = None
        self.open_N[list(options.exclude)] = False
        self._may_run_out = size > len(graph) or options != Options(start=options.start, include=options.include)
        for task in (*options.include, *([options.start] if options.start is not None else [])):
            if len(self.chosen) < size and task not in self.chosen:
                self._add(task)

    @property
    def is_full(self) -> bool:
        """Whether no more tasks are wanted, or none is open."""
        return len(self.chosen) >= self.size or (self._may_run_out and not self.open_N.any())

    @property
    def num_missing(self) -> int:
        """Number of tasks still wanted."""
        return max(0, self.size - len(self.chosen))

    def add(self, task: int) -> None:
        """Adds a task and closes those that the options now rule out.

        Raises:
            ValueError: there is no such task, it is not open, or the subset is full: a mistake in the strategy.
        """
        if not 0 <= task < len(self.graph):
            raise ValueError(f"added task {task}; the pool has the tasks 0 to {len(self.graph) - 1}")
        if not self.open_N[task]:
            raise ValueError(
                f"added {self.graph.names[task]!r}, which is already chosen or ruled out (see PartialSubset.open_N)"
            )
        if not self.num_missing:
            raise ValueError(f"added more than the {counted(self.size, 'task')} wanted (see PartialSubset.is_full)")
        self._add(int(task))

    def add_in_order(self, tasks: Iterable[int]) -> None:
        """Adds the open ones of these tasks, in this order, until the subset is full."""
        for task in tasks:
            if self.is_full:
                return
            if self.open_N[task]:
                self.add(task)

    def row(self, task: int) -> np.ndarray:
        """Similarities of a task to all, [N]; the last row asked for is kept."""
        if self._row is None or self._row[0] != task:
            self._row = (task, self.graph.row(task))
        return self._row[1]

    def lowest(
        self, score_N: np.ndarray, error: float = 0.0, exact: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> int:
        """The open task with the lowest score; equal scores go to the earlier name.

        Args:
            score_N: one for each task; finite or infinite for open tasks, never NaN.
            error: the largest error of a score.
            exact: exact scores of some tasks [M] -> [M], called only where `error` leaves several candidates.
        """
        open_score_N = np.where(self.open_N, score_N, np.inf)
        best = float(open_score_N[open_score_N.argmin()])
        if not math.isfinite(best):
            return int((self.open_N & (score_N == best)).argmax())
        tie = _TIE * (1.0 + abs(best))
        near_N = open_score_N <= best + max(tie, 2 * error)
        if error and exact is not None:
            near_M = np.flatnonzero(near_N)
            if len(near_M) > 1:
                exact_M = exact(near_M)
                return int(near_M[(exact_M <= exact_M.min() + tie).argmax()])
        return int(near_N.argmax())

    @staticmethod
    def ranked(score_N: np.ndarray) -> np.ndarray:
        """All tasks by ascending score, [N]; equal scores by name."""
        step = _TIE * (1.0 + float(np.abs(score_N).max(initial=0.0)))
        return np.argsort(np.round(score_N / step), kind="stable")

    @cached_property
    def _members_of_category(self) -> dict[str, list[int]]:
        return _members((category,) for category in self.graph.categories)

    @cached_property
    def _members_of_source(self) -> dict[str, list[int]]:
        return _members(self.graph.sources)

    def _add(self, task: int) -> None:
        graph, options = self.graph, self._options
        self.chosen.append(task)
        self._on_add()
        self.open_N[task] = False
        category = graph.categories[task]
        self._in_category[category] += 1
        if self._in_category[category] == options.per_category_cap:
            self.open_N[self._members_of_category[category]] = False
        for source in set(graph.sources[task]):
            self._in_source[source] += 1
            if self._in_source[source] == options.per_source_cap:
                self.open_N[self._members_of_source[source]] = False
        if options.max_pair_similarity is not None:
            self._close_near(task, options.max_pair_similarity)

    def _close_near(self, task: int, limit: float) -> None:
        row_N = self.row(task)
        error = self.graph.row_error
        too_near_N = row_N > limit + max(error, _TIE)
        if error:
            unsure_M = np.flatnonzero(np.abs(row_N - limit) <= 2 * error)
            too_near_N[unsure_M] = self.graph.cosine(unsure_M, [task])[:, 0] > limit + _TIE
        self.open_N &= ~too_near_N


def _members(labels: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for task, own in enumerate(labels):
        for label in set(own):
            members[label].append(task)
    return members
