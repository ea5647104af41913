"""Waiting for what a cluster does not have yet: hosts, room for encoders, a turn. What is asked of its autoscaler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from simtune.errors import ClusterError
from simtune.executors.placement import Host, WorkerResources
from simtune.wording import duration, some, time_of_day

NOTED_AFTER_S = 30.0
"""What fits has started by then, even on a busy machine; until then a wait is not worth a message."""
# The autoscaler adds as many hosts as its `max_workers` allows; a longer request only costs it time.
_MOST_WORKERS_ASKED = 1000
_MOST_HOSTS_NAMED = 8


class RunWait:
    """Waits of a whole run, one after another: a line for each that lasts, and an error at the limit."""

    def __init__(
        self,
        what: str,
        note: Callable[[str], object],
        limit_s: float,
        noted_after_s: float = NOTED_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Waits for nothing yet.

        Args:
            what: is waited for, in words.
            note: is given the line.
            limit_s: after which a wait is an error (`resources.wait_minutes`).
            noted_after_s: after which it is worth a line.
            clock: in seconds.
        """
        self._what, self._note, self._limit_s = what, note, limit_s
        self._noted_after_s, self._clock = noted_after_s, clock
        self._since: float | None = None
        self._is_noted = False

    def look(self, waits: bool, why: str = "") -> None:
        """Notes whether there is a wait now.

        Args:
            waits: whether what is waited for is not there.
            why: more about it, in words.

        Raises:
            ClusterError: this wait has lasted to the limit.
        """
        if not waits:
            self._since, self._is_noted = None, False
            return
        now = self._clock()
        self._since = now if self._since is None else self._since
        waited_s, reason = now - self._since, f": {why}" if why else ""
        if waited_s >= self._limit_s:
            raise ClusterError(
                f"waited {duration(waited_s)} for {self._what}{reason}. This is the limit (resources.wait_minutes). "
                "See `simtune cluster status`, start hosts, or wait longer"
            )
        if not self._is_noted and waited_s >= self._noted_after_s:
            self._is_noted = True
            self._note(f"waiting for {self._what} since {time_of_day(time.time() - waited_s)}{reason}")


def wait_for_hosts(
    find: Callable[[], tuple[Sequence[Host], bool]],
    wait: RunWait,
    sleep: Callable[[float], object] = time.sleep,
) -> Sequence[Host]:
    """The hosts for workers, once there are enough.

    Args:
        find: finds those that are there now, and whether they are enough.
        wait: for them.
        sleep: waits for some seconds.

    Raises:
        ClusterError: they are not enough at the limit.
    """
    while True:
        hosts, are_enough = find()
        if are_enough:
            return hosts
        named = some([str(host) for host in hosts], _MOST_HOSTS_NAMED)
        wait.look(True, f"so far there is {named}" if hosts else "no host offers CPUs")
        sleep(1.0)


def bundles_for(num_trials: int, each: WorkerResources) -> list[dict[str, float]]:
    """What to ask an autoscaler for: the resources of each worker of some trials."""
    worker: dict[str, float] = {"CPU": each.cpus_per_worker}
    if each.gpus_per_worker:
        worker["GPU"] = each.gpus_per_worker
    return [dict(worker) for _ in range(min(num_trials * each.workers, max(each.workers, _MOST_WORKERS_ASKED)))]
