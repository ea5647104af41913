"""Blocks of rows as Ray tasks on all CPUs of the cluster; the results equal those of `map_blocks_here`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from simtune.graph.blocks import T, Work

_MAX_RETRIES = 3
_BLOCKS_PER_CPU = 2
_LOOK_EVERY_S = 1.0


def _run_block(work: Work[T], arrays: Mapping[str, np.ndarray], begin: int, end: int) -> Iterator[T | None]:
    """Yields as soon as it has a CPU, and then the block's result."""
    from threadpoolctl import threadpool_limits

    yield None
    # A task has one CPU; a BLAS with one thread per core would oversubscribe the machine.
    with threadpool_limits(limits=1):
        yield work(arrays, begin, end)


class _Block:
    """A block that was given to Ray.

    Attributes:
        result: of the block, once it is done.
    """

    result: Any = None

    def __init__(self, start: Callable[[], Any]) -> None:
        """Starts it; `start` starts its task."""
        self._start, self._retries = start, _MAX_RETRIES
        self._task, self._has_started = start(), False

    def has_cpu(self) -> bool:
        """Whether it is being computed now."""
        is_news = bool(ray.wait([self._task], timeout=0)[0])
        if is_news and not self._has_started:
            self._take(0.0)
            return self._has_started
        return self._has_started and not is_news

    def is_done(self, wait_s: float) -> bool:
        """Whether its result is there, for whose next sign of life it waits at most so long."""
        has_started = self._has_started
        return self._take(wait_s) and has_started

    def _take(self, wait_s: float) -> bool:
        """Takes what the task says next: that it has a CPU, then its result; false if it says nothing, or was lost."""
        if not ray.wait([self._task], timeout=wait_s)[0]:
            return False
        try:
            self.result = ray.get(next(self._task))
        except RayError as error:
            if isinstance(error, RayTaskError) or not self._retries:
                raise
            # Its process or its host was lost, and it waits for a CPU again.
            self._retries -= 1
            self._task, self._has_started = self._start(), False
            return False
        self._has_started = True
        return True


def map_blocks_with_ray(
    work: Work[T],
    arrays: Mapping[str, np.ndarray],
    starts: Sequence[tuple[int, int]],
    on_wait: Callable[[bool], object] = lambda waits: None,
) -> Iterator[T]:
    """Runs each block as a task with one CPU on the connected Ray; `ray.init` must have been called.

    The arrays are stored once. At most two blocks per CPU are in progress, which limits both the results that wait for
    their turn and the blocks that are wasted if the caller stops early or a block fails. Blocks are not cancelled: Ray
    2.60 ends the whole driver if a task ends while it is being cancelled (as in ray-project/ray#54527). A task whose
    process or host dies is tried again at most three times; an error of `work` itself is raised unchanged.

    Args:
        work: a function of a module.
        arrays: what every block needs, by name.
        starts: the first row of each block and the row after its last.
        on_wait: called again and again while no result is there, with whether no block has a CPU.
    """
    if not starts:
        return
    # `_Block` tries again, because it has to know that a block waits once more.
    task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(_run_block)
    stored = ray.put(dict(arrays))
    limit = _BLOCKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: deque[_Block] = deque()
    waiting = iter(starts)
    while True:
        while len(pending) < limit and (block := next(waiting, None)) is not None:
            pending.append(_Block(partial(task.remote, work, stored, *block)))
        if not pending:
            return
        first = pending[0]
        while not first.is_done(_LOOK_EVERY_S):
            on_wait(not any(block.has_cpu() for block in pending))
        on_wait(False)
        yield pending.popleft().result
