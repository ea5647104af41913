"""What a planned sweep takes on a cluster that is not there yet: wall time, hours and price, by arm and by nodes.

The schedule of the trials that are left is simulated (`schedule.py`) with times that follow from those of finished ones
(`cluster_times.py`). Losses of nodes are drawn several times with fixed seeds, and the means are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from simtune.config import Sweep
from simtune.executors.placement import Host, WorkerResources, worker_resources
from simtune.outside_files import GIB
from simtune.planning.cluster_times import TrialTimes, given_times, measured_times
from simtune.planning.plan import Plan
from simtune.planning.planned_trials import PlannedTrial
from simtune.planning.schedule import Cluster, Overheads, simulate

# To open a slot takes some 6 CPU seconds of processes on the driver's host (docs/performance.md), here of six cores.
# Assumed: the seconds to record that a trial has ended, and those of its part of the tables and the report.
_OPEN_SLOT_S, _RECORD_TRIAL_S, _REPORT_TRIAL_S = 1.0, 0.02, 0.01
# The longest time until a lost host is noticed, and the usual one until an autoscaler's next host has started Ray.
_NOTICE_S, _REPLACE_S = 20.0, 300.0
_MOST_NODES = 1000
_DRAWS = 5
# Nodes stop paying where twice as many shorten the sweep by less than this share.
_WORTH = 0.1


@dataclass(frozen=True)
class NodeType:
    """What every node has.

    Attributes:
        cpus: for workers; None: as many as one trial needs.
        gpus: None: as many as one trial needs.
        gpu_gib: memory of a GPU, in GiB; None does not check whether a model fits.
        price: of a node for an hour, in any currency; None if prices do not matter.
    """

    cpus: int | None = None
    gpus: int | None = None
    gpu_gib: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Duration:
    """How long a sweep takes on some nodes.

    Attributes:
        slots: trials at once.
        wall_s: mean over the draws of losses, from the driver's start to its report.
        shortest_s: of the draws.
        longest_s: of the draws.
        hours: GPU-hours of all nodes over the wall time, or CPU-hours of nodes without GPUs.
        price: of all nodes over the wall time; None without a price.
    """

    nodes: int
    slots: int
    wall_s: float
    shortest_s: float
    longest_s: float
    hours: float
    price: float | None


@dataclass(frozen=True)
class ArmCost:
    """What the trials of an arm take.

    Attributes:
        hours: GPU-hours or CPU-hours that they occupy, starts of workers and repeated work included.
        price: their share of the price of all nodes; None without a price.
    """

    arm: str
    trials: int
    hours: float
    price: float | None


@dataclass(frozen=True)
class ClusterPlan:
    """A sweep on a cluster.

    Attributes:
        node: what every node has.
        spot_loss: expected losses of a node in an hour.
        hours_of: what hours are counted of.
        num_left: trials that nodes compute.
        num_done: trials that the sweep's run has, and that nodes would compute.
        expected: on the nodes that were asked for.
        losses: nodes lost while they work, on average.
        repeated_hours: of the hours, those of work that was repeated after losses.
        curve: the same with other numbers of nodes.
        pays_up_to: the number of nodes from which twice as many shorten the sweep by less than a tenth; None if even
            the largest number of the curve pays.
        times_are: where the trials' times come from.
        memory_warning: that the longest batch may not fit a GPU; empty if it does.
    """

    node: NodeType
    spot_loss: float
    hours_of: str
    num_left: int
    num_done: int
    expected: Duration
    losses: float
    repeated_hours: float
    arms: tuple[ArmCost, ...]
    curve: tuple[Duration, ...]
    pays_up_to: int | None
    times_are: str
    memory_warning: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_cluster(
    sweep: Sweep, plan: Plan, nodes: int, node: NodeType, spot_loss: float = 0.0, trial_minutes: float | None = None
) -> ClusterPlan:
    """Plans a sweep on a cluster.

    Args:
        sweep: as planned.
        plan: its trials.
        nodes: number of nodes that trials run on.
        node: what each of them has.
        spot_loss: expected losses of a node in an hour.
        trial_minutes: the mean of a trial's minutes; None: as finished trials of the sweep's run took.

    Raises:
        ConfigError: a trial does not fit on the nodes or their GPUs, or nothing says how long it takes.
        RunError: a result of the run is damaged.
    """
    memory_warning = _check_memory(plan, node)
    # Longest first, as executors start them; baselines that only copy are the driver's own work.
    trials = sorted((trial for trial in plan.left if trial.test_tokens), key=lambda trial: -trial.num_tasks)
    every = [trial for trial in plan.trials if trial.test_tokens]
    if trial_minutes is None:
        times = measured_times(trials, sweep, _on_gpu(node, sweep))
    else:
        times = given_times(trials, 60 * trial_minutes, every)
    simulated = _Simulated(sweep, trials, times, node, spot_loss, nodes, len(every))
    counts = sorted({*_doublings(), nodes, _MOST_NODES})
    found = {count: simulated.on(count) for count in counts if simulated.slots(count)}
    expected = found[nodes]
    return ClusterPlan(
        node=simulated.node,
        spot_loss=spot_loss,
        hours_of="GPU" if simulated.node.gpus else "CPU",
        num_left=len(trials),
        num_done=sum(trial.status == "done" for trial in every),
        expected=expected.duration,
        losses=expected.losses,
        repeated_hours=expected.repeated_s * simulated.units_per_trial / 3600,
        arms=simulated.arms(expected),
        curve=tuple(each.duration for count, each in found.items() if count <= _MOST_NODES or count == nodes),
        pays_up_to=_pays_up_to([found[count].duration for count in _doublings() if count in found]),
        times_are=times.source,
        memory_warning=memory_warning,
    )


def _check_memory(plan: Plan, node: NodeType) -> str:
    """Refuses a model whose states do not fit a GPU; the warning that its longest batch may not."""
    if plan.memory is None or node.gpu_gib is None or plan.memory.gpu_share == 0 or node.gpus == 0:
        return ""
    gpu_bytes = int(node.gpu_gib * GIB)
    plan.memory.refuse_small_gpus(gpu_bytes)
    return plan.memory.warning(gpu_bytes)


def _doublings() -> Iterable[int]:
    count = 1
    while count < 2 * _MOST_NODES:
        yield count
        count *= 2


def _pays_up_to(doubled: Sequence[Duration]) -> int | None:
    """The first number of nodes whose double is not worth it."""
    for fewer, twice in pairwise(doubled):
        if twice.wall_s > (1 - _WORTH) * fewer.wall_s:
            return fewer.nodes
    return None


@dataclass(frozen=True)
class _Expected:
    """Means over the draws."""

    duration: Duration
    occupied_s: tuple[float, ...]
    repeated_s: float
    losses: float


class _Simulated:
    """Simulations of one sweep on different numbers of nodes."""

    def __init__(
        self,
        sweep: Sweep,
        trials: Sequence[PlannedTrial],
        times: TrialTimes,
        node: NodeType,
        spot_loss: float,
        nodes: int,
        num_rows: int,
    ) -> None:
        self._trials, self._times, self._num_rows = trials, times, num_rows
        self.node = _filled(node, sweep, node.gpu_gib is not None or bool(times.on_gpu))
        host = Host("node", self.node.cpus or 0, float(self.node.gpus or 0))
        each, _ = worker_resources(sweep.resources, [host] * nodes)
        most = sweep.resources.max_concurrent
        self._cluster = Cluster(
            hosts=nodes,
            workers_per_host=each.workers_on(host),
            workers_per_trial=each.workers,
            most_slots=None if most == "auto" else most,
            losses_per_hour=spot_loss,
            replaced_s=_REPLACE_S,
        )
        self._overheads = Overheads(_OPEN_SLOT_S, times.start_s, times.around_s, _RECORD_TRIAL_S, _NOTICE_S)
        minutes = sweep.resources.checkpoint_minutes
        self._checkpoint_s = None if minutes is None else 60 * minutes
        self.units_per_trial = _units(each)

    def slots(self, nodes: int) -> int:
        return replace(self._cluster, hosts=nodes).num_slots

    def on(self, nodes: int) -> _Expected:
        cluster = replace(self._cluster, hosts=nodes)
        found = [
            simulate(self._times.work, cluster, self._overheads, self._checkpoint_s, seed)
            for seed in range(_DRAWS if cluster.losses_per_hour else 1)
        ]
        more_rows = max(0, self._num_rows - self._times.num_rows)
        beside_s = self._times.before_s + self._times.after_s + _REPORT_TRIAL_S * more_rows
        walls_s = [beside_s + each.wall_s for each in found]
        wall_s = fmean(walls_s)
        price = self.node.price
        return _Expected(
            Duration(
                nodes=nodes,
                slots=cluster.num_slots,
                wall_s=wall_s,
                shortest_s=min(walls_s),
                longest_s=max(walls_s),
                hours=nodes * (self.node.gpus or self.node.cpus or 0) * wall_s / 3600,
                price=None if price is None else nodes * price * wall_s / 3600,
            ),
            tuple(map(fmean, zip(*(each.occupied_s for each in found), strict=True))),
            fmean(each.repeated_s for each in found),
            fmean(each.num_losses for each in found),
        )

    def arms(self, expected: _Expected) -> tuple[ArmCost, ...]:
        total_s = sum(expected.occupied_s) or 1.0
        by_arm: dict[str, list[float]] = {}
        for trial, occupied_s in zip(self._trials, expected.occupied_s, strict=True):
            by_arm.setdefault(trial.arm, []).append(occupied_s)
        price = expected.duration.price
        return tuple(
            ArmCost(
                arm=arm,
                trials=len(seconds),
                hours=sum(seconds) * self.units_per_trial / 3600,
                price=None if price is None else price * sum(seconds) / total_s,
            )
            for arm, seconds in by_arm.items()
        )


def _units(each: WorkerResources) -> float:
    """GPUs of a trial, or its CPUs if it uses no GPU."""
    return each.workers * (each.gpus_per_worker or each.cpus_per_worker)


def _on_gpu(node: NodeType, sweep: Sweep) -> bool | None:
    """Whether trials will run on GPUs; None if neither the sweep nor the nodes say so."""
    gpus_each = sweep.resources.gpus_per_worker
    if gpus_each != "auto":
        return gpus_each > 0
    if node.gpus is None:
        return None if node.gpu_gib is None else True
    return node.gpus > 0


def _filled(node: NodeType, sweep: Sweep, on_gpus: bool) -> NodeType:
    """The node type; what is not given is what one trial needs."""
    resources = sweep.resources
    gpus_each = resources.gpus_per_worker
    if gpus_each == "auto":
        gpus_each = 1.0 if node.gpus or (node.gpus is None and on_gpus) else 0.0
    gpus = math.ceil(resources.workers * gpus_each) if node.gpus is None else node.gpus
    cpus_each = resources.cpus_per_worker
    if cpus_each == "auto":
        cpus_each = 4 if gpus else 1
    return replace(node, cpus=resources.workers * cpus_each if node.cpus is None else node.cpus, gpus=gpus)
