"""Blocks of rows as Ray tasks on all CPUs of the cluster; the results equal those of `map_blocks_here`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray

from simtune.graph.blocks import T, Work

_MAX_RETRIES = 3
_BLOCKS_PER_CPU = 2


def _run_block(work: Work[T], arrays: Mapping[str, np.ndarray], begin: int, end: int) -> T:
    from threadpoolctl import threadpool_limits

    # A task has one CPU; a BLAS with one thread per core would oversubscribe the machine.
    with threadpool_limits(limits=1):
        return work(arrays, begin, end)


def map_blocks_with_ray(
    work: Work[T], arrays: Mapping[str, np.ndarray], starts: Sequence[tuple[int, int]]
) -> Iterator[T]:
    """Runs each block as a task with one CPU on the connected Ray; `ray.init` must have been called.

    The arrays are stored once. At most two blocks per CPU are in progress, which limits both the results that wait for
    their turn and the blocks that are wasted if the caller stops early or a block fails. Blocks are not cancelled: Ray
    2.60 ends the whole driver if a task ends while it is being cancelled (as in ray-project/ray#54527). A task whose
    process or host dies is retried at most three times; an error of `work` itself is raised unchanged.

    Args:
        work: a function of a module.
        arrays: what every block needs, by name.
        starts: the first row of each block and the row after its last.
    """
    if not starts:
        return
    task = ray.remote(num_cpus=1, max_retries=_MAX_RETRIES)(_run_block)
    stored = ray.put(dict(arrays))
    limit = _BLOCKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending: deque[Any] = deque()
    waiting = iter(starts)
    while True:
        while len(pending) < limit and (block := next(waiting, None)) is not None:
            pending.append(task.remote(work, stored, *block))
        if not pending:
            return
        yield ray.get(pending.popleft())
