"""How many trials a sweep may run at once: all that fit on a machine of its own, or its fair share of a cluster."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simtune.executors.hosts.host_wait import RunWait
from simtune.executors.hosts.ray_hosts import hosts_by_id
from simtune.executors.placement import WorkerResources
from simtune.executors.sharing.sweep_registry import SweepRegistry, Usage

# The drivers of a cluster share the registry with this name; a simtune whose registry differs gives it another one.
_NAMESPACE, _NAME = "simtune", "sweeps-2"
_REPORT_EVERY_S = 3.0
# A process has started by then, even on a busy machine.
_FIRST_ANSWER_S = 60.0
_ANSWER_S = 10.0


class Share(ABC):
    """How much of a Ray a sweep may use at once, in trials or other units of one size.

    Attributes:
        usage: how many units the sweep has still to run, how many have their CPUs and GPUs, and how many of their
            workers are on each host, by its id, as far as that is known.
    """

    def __init__(self, wanted: int) -> None:
        """A share of which nothing is used yet.

        Args:
            wanted: how many units the sweep would run at once at most.
        """
        self.usage: Callable[[], tuple[int, int, Mapping[str, int]]] = lambda: (wanted, 0, {})

    @abstractmethod
    def limit(self) -> int:
        """How many units may be used now."""

    def take_turn(self, wait: RunWait) -> int:
        """Waits until something may be used; returns how much, which is then used until the share is given back.

        Args:
            wait: for the turn.

        Raises:
            ClusterError: it has lasted to its limit.
        """
        while not (limit := self.limit()):
            wait.look(True)
            time.sleep(1.0)
        self.usage = lambda: (limit, limit, {})
        return limit


class WholeMachine(Share):
    """Everything, since no other sweep uses this Ray."""

    def __init__(self, num_units: int) -> None:
        super().__init__(num_units)
        self._num_units = num_units

    def limit(self) -> int:
        return self._num_units


class ClusterShare(Share):
    """A fair share of the connected cluster, for as long as the context is entered.

    A thread reports to the registry that the drivers of all sweeps share, and learns the share from it. The registry is
    an actor of the driver that came first. It ends with that driver, and the next report of another creates a new one,
    so nothing is left of drivers that were killed.
    """

    def __init__(self, priority: float, each: WorkerResources, wanted: int) -> None:
        """Reports nothing yet.

        Args:
            priority: the sweep's weight.
            each: what a unit takes.
            wanted: how many units the sweep would run at once at most.
        """
        super().__init__(wanted)
        self._priority, self._each, self._wanted = priority, each, wanted
        self._name = uuid.uuid4().hex
        self._registry: Any = None
        self._limit, self._answer_by = 0, 0.0
        self._answered, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._report_repeatedly, name="share", daemon=True)

    def __enter__(self) -> Self:
        self._answer_by = time.monotonic() + _FIRST_ANSWER_S
        self._thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives the share to others."""
        self._stop.set()
        self._thread.join(_ANSWER_S)
        if self._registry is not None:
            # Without waiting: if the message is lost, the registry forgets the sweep by itself.
            with contextlib.suppress(Exception):
                self._registry.leave.remote(self._name)

    def limit(self) -> int:
        """How many units may be used now; the first time, waits for the registry's first answer."""
        answered = self._answered.wait(max(0.0, self._answer_by - time.monotonic()))
        return self._limit if answered else 1

    def _report_repeatedly(self) -> None:
        while not self._stop.is_set():
            # Whatever went wrong, such as a head that does not answer for a moment: the next report tries again.
            with contextlib.suppress(Exception):
                self._report()
            self._stop.wait(_REPORT_EVERY_S)

    def _report(self) -> None:
        if not ray.is_initialized():
            # Calls would start another Ray.
            return
        left, held, held_on = self.usage()
        hosts, free = hosts_by_id()
        usage = Usage(self._each, min(left, self._wanted), held, hosts, free, held_on)
        if self._registry is None:
            self._registry = _registry()
        limit_s = _ANSWER_S if self._answered.is_set() else _FIRST_ANSWER_S
        try:
            self._limit = ray.get(self._registry.report.remote(self._name, self._priority, usage), timeout=limit_s)
        except Exception as error:
            # Where the machine is only busy, the handle stays: without it, a registry of this driver would end.
            if not isinstance(error, GetTimeoutError):
                self._registry = None
            raise
        self._answered.set()


def _registry() -> Any:
    """The cluster's registry; if there is none, a new one on this machine, for as long as this driver has it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": _NAME, "namespace": _NAMESPACE, "get_if_exists": True, "scheduling_strategy": here}
    return ray.remote(num_cpus=0)(SweepRegistry).options(**options).remote()
