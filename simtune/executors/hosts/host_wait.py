"""Waiting for the first hosts of a cluster, and asking its autoscaler for as many as trials can use."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from simtune.errors import RunError
from simtune.executors.placement import Host, WorkerResources

# The autoscaler adds as many hosts as its `max_workers` allows; a longer request only costs it time.
_MOST_WORKERS_ASKED = 1000


def wait_for_hosts(
    find: Callable[[], Sequence[Host]],
    needs: str,
    note: Callable[[str], object],
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Sequence[Host]:
    """The hosts for workers, once there are any.

    Args:
        find: finds those that are there now.
        needs: what is waited for, in words.
        note: is given a line if there is none yet.
        limit_s: after which to give up.
        clock: in seconds.
        sleep: waits for some seconds.

    Raises:
        RunError: there is none at the limit.
    """
    started = clock()
    is_noted = False
    while not (hosts := find()):
        if clock() - started >= limit_s:
            raise RunError(
                f"no host offered CPUs within {limit_s / 60:g} min (resources.wait_minutes). See `simtune cluster "
                "status`, start hosts, or wait longer"
            )
        if not is_noted:
            is_noted = True
            note(f"waiting for {needs} since {time.strftime('%H:%M:%S')}: no host offers CPUs")
        sleep(1.0)
    return hosts


def bundles_for(num_trials: int, each: WorkerResources) -> list[dict[str, float]]:
    """What to ask an autoscaler for: the resources of each worker of some trials."""
    worker: dict[str, float] = {"CPU": each.cpus_per_worker}
    if each.gpus_per_worker:
        worker["GPU"] = each.gpus_per_worker
    return [dict(worker) for _ in range(min(num_trials * each.workers, max(each.workers, _MOST_WORKERS_ASKED)))]
