"""How long planned trials will take, by what finished trials of the same run took.

Seconds of training are a straight line over tokens, and seconds of answering a straight line over test instances, each
fitted to the finished trials that ran in one attempt, on one device, with settings that compute at the same speed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from simtune.config import Sweep, expand_grid
from simtune.errors import ConfigError, RunError
from simtune.grid.grid_points import with_resolved_encoding
from simtune.planning.planned_trials import PlannedTrial
from simtune.planning.schedule import TrialWork
from simtune.storage.files import AnyPath, as_path
from simtune.sweep.results import Planned
from simtune.sweep.timings import DriverTimings, read_timings
from simtune.trial.files import read_outcomes
from simtune.trial.records import Costs
from simtune.trial.speed_settings import speed_fingerprint
from simtune.wording import counted

# Of a run whose driver has not ended yet. A slot starts some ten processes; a trial loads its model.
_USUAL_START_S, _USUAL_AROUND_S = 30.0, 2.0

_Line = Callable[[float], float]


@dataclass(frozen=True)
class TrialTimes:
    """The seconds of planned trials, and what there is beside them.

    Attributes:
        work: of each planned trial, in their order.
        start_s: from the start of a slot until its workers take their first trial.
        around_s: of every trial, beside its training and answering.
        before_s: before the first trial.
        after_s: after the last trial.
        num_rows: of the table whose report is in `after_s`.
        on_gpu: whether trials were measured on GPUs; None if they were not measured.
        source: where the numbers come from, in words.
    """

    work: tuple[TrialWork, ...]
    start_s: float
    around_s: float
    before_s: float
    after_s: float
    num_rows: int
    on_gpu: bool | None
    source: str


@dataclass
class _Finished:
    """A finished trial.

    Attributes:
        speed: fingerprint of the settings that decide how fast it computed.
        tokens: read in training; 0 for a baseline.
        device: with its threads, if it is a CPU.
        whole: whether its seconds are those of all its work.
        instances: that it answered, of all its suites.
    """

    speed: str
    tokens: int
    device: str
    whole: bool = True
    instances: int = 0
    train_s: float = 0.0
    evaluate_s: float = 0.0


def given_times(trials: Sequence[PlannedTrial], mean_s: float, mean_of: Sequence[PlannedTrial]) -> TrialTimes:
    """Times in proportion to the tokens that each trial reads in training and in its tests.

    Args:
        trials: as planned.
        mean_s: mean seconds of a trial.
        mean_of: the trials that have this mean.
    """
    total = sum(trial.train_tokens + trial.test_tokens for trial in mean_of)
    a_token_s = mean_s * len(mean_of) / max(1, total)
    return TrialTimes(
        work=tuple(TrialWork(a_token_s * trial.train_tokens, a_token_s * trial.test_tokens) for trial in trials),
        start_s=_USUAL_START_S,
        around_s=_USUAL_AROUND_S,
        before_s=0.0,
        after_s=0.0,
        num_rows=0,
        on_gpu=None,
        source=f"--trial-minutes: {mean_s / 60:g} per trial on average, in proportion to its tokens; stages before the "
        "first trial are not counted",
    )


def measured_times(trials: Sequence[PlannedTrial], sweep: Sweep, on_gpu: bool | None = None) -> TrialTimes:
    """Times by the finished trials of the sweep's run, of those on the device that most of them ran on.

    Args:
        trials: as planned.
        sweep: theirs.
        on_gpu: whether the planned trials will run on GPUs; None: as the finished ones did.

    Raises:
        ConfigError: no trial has finished in one attempt, on such a device, with settings that compute at the same
            speed.
        RunError: a result is damaged.
    """
    run_directory = as_path(sweep.storage) / sweep.name
    speeds = _speeds(sweep)
    wanted = {speed for _, speed in speeds}
    found = {trial: each for trial, each in _finished(run_directory).items() if each.speed in wanted}
    device = _device(found.values(), on_gpu, run_directory)
    by_id = {trial: each for trial, each in found.items() if each.device == device}
    lines = {speed: _Lines.fitted(group) for speed, group in _grouped(by_id.values()).items()}
    work = []
    for trial in trials:
        speed = next(speed for values, speed in speeds if _is_at(trial.grid, values))
        if speed not in lines:
            at = f" at {trial.grid}" if trial.grid else ""
            raise ConfigError(
                f"{run_directory}: no trial{at} has finished with these settings in one attempt"
                + (f" on {device}" if device else "")
                + ", so it is not known how long one takes. Run one first (`simtune run` with --set "
                "selection.sizes=[...] and one seed), or give --trial-minutes"
            )
        work.append(lines[speed].work(trial))
    drivers = read_timings(run_directory)
    start_s, around_s = _overheads(drivers, {name: each.train_s + each.evaluate_s for name, each in by_id.items()})
    longest = max(drivers, key=lambda driver: driver.before_s, default=None)
    last = max(drivers, key=lambda driver: driver.after_s, default=None)
    return TrialTimes(
        work=tuple(work),
        start_s=start_s,
        around_s=around_s,
        before_s=longest.before_s if longest else 0.0,
        after_s=last.after_s if last else 0.0,
        num_rows=last.num_rows if last else 0,
        on_gpu=not device.startswith("cpu") if device else None,
        source=_source(run_directory, device, Counter(each.device for each in found.values()), bool(drivers)),
    )


def _device(found: Iterable[_Finished], on_gpu: bool | None, run_directory: AnyPath) -> str:
    """The device that most trials ran on, of those that the planned trials will run on; empty if none ran."""
    devices = Counter(each.device for each in found)
    fitting = {device: number for device, number in devices.items() if on_gpu in (None, not device.startswith("cpu"))}
    if devices and not fitting:
        raise ConfigError(
            f"{run_directory}: its trials ran on {', '.join(sorted(devices))}, which does not say how long one takes "
            f"on a {'GPU' if on_gpu else 'CPU'}. Run one there first, give --trial-minutes, or plan with other nodes "
            "(--node-type gpus=N)"
        )
    return min(fitting, key=lambda device: (-fitting[device], device), default="")


def _source(run_directory: AnyPath, device: str, devices: Mapping[str, int], drivers: bool) -> str:
    others = sorted(other for other in devices if other != device)
    left_out = "".join(f"; {devices[other]} on {other} left out" for other in others)
    assumed = "" if drivers else "; what is beside them is assumed, because no driver of that run has ended"
    return f"measured on {counted(devices[device], 'finished trial')} of {run_directory} ({device}{left_out}){assumed}"


@dataclass(frozen=True)
class _Lines:
    """Seconds of training by tokens, and of answering by instances: of trained models, and of others."""

    train_s: _Line
    trained_evaluate_s: _Line
    other_evaluate_s: _Line

    @staticmethod
    def fitted(finished: Sequence[_Finished]) -> _Lines:
        trained = [each for each in finished if each.tokens]
        others = [each for each in finished if not each.tokens]
        return _Lines(
            _line([(each.tokens, each.train_s) for each in trained]),
            _line([(each.instances, each.evaluate_s) for each in trained]),
            _line([(each.instances, each.evaluate_s) for each in others or trained]),
        )

    def work(self, trial: PlannedTrial) -> TrialWork:
        if not trial.num_tasks:
            return TrialWork(0.0, self.other_evaluate_s(trial.test_instances))
        # Saved weights are scored, and nothing is trained.
        train_s = self.train_s(trial.train_tokens) if trial.train_tokens else 0.0
        return TrialWork(train_s, self.trained_evaluate_s(trial.test_instances))


def _line(points: Sequence[tuple[float, float]]) -> _Line:
    """A line that fits points: through the origin, unless different points show a constant part."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) > 1:
        slope, constant = map(float, np.polyfit(xs, ys, 1))
        if slope > 0 and constant > 0:
            return lambda x: constant + slope * x
    rate = sum(ys) / sum(xs) if sum(xs) else 0.0
    return lambda x: rate * x


def _grouped(finished: Iterable[_Finished]) -> dict[str, list[_Finished]]:
    groups: dict[str, list[_Finished]] = defaultdict(list)
    for each in finished:
        groups[each.speed].append(each)
    # Training has to be among what is known.
    return {speed: group for speed, group in groups.items() if any(each.tokens for each in group)}


def _finished(run_directory: AnyPath) -> dict[str, _Finished]:
    """What finished trials of a run took over all scores, by their ids; without those whose seconds are not whole."""
    try:
        planned = Planned.read(run_directory)
    except RunError:
        # No earlier run, or one that had not planned its trials.
        return {}
    took: dict[str, _Finished] = {}
    for (trial, _), outcome in read_outcomes(run_directory.parent / "trials", planned.scores):
        metrics, costs = outcome.metrics, outcome.costs
        # Baselines without a model have no settings that decide their speed.
        if metrics is None or costs is None or costs.speed is None:
            continue
        training = metrics.training
        tokens = training.num_source_tokens + training.num_target_tokens if training else 0
        each = took.setdefault(trial, _Finished(costs.speed, tokens, _device_of(costs)))
        each.whole = each.whole and not costs.failed_attempts and not costs.resumed
        each.instances += metrics.overall.num_instances
        each.train_s += costs.train_s or 0.0
        each.evaluate_s += costs.evaluate_s or 0.0
    # Without seconds of training, saved weights were scored, or another score has them.
    return {trial: each for trial, each in took.items() if each.whole and (each.train_s or not each.tokens)}


def _device_of(costs: Costs) -> str:
    """A GPU's name, or `cpu` with its threads: a worker with other CPUs computes at another speed."""
    device = costs.device or "cpu"
    return f"{device} with {counted(costs.threads, 'thread')}" if device == "cpu" and costs.threads else device


def _speeds(sweep: Sweep) -> list[tuple[dict[str, str], str]]:
    """The swept values of each grid point, and the fingerprint of what decides how fast its trials compute."""
    return [
        (
            {key: str(value) for key, value in point.values},
            speed_fingerprint(with_resolved_encoding(point.sweep)),
        )
        for point in expand_grid(sweep)
    ]


def _is_at(label: str, values: Mapping[str, str]) -> bool:
    """Whether the label of a grid point has these values; splits of a hold-out are in labels only."""
    return all(f"{key}={value}, " in f"{label}, " for key, value in values.items())


def _overheads(drivers: Sequence[DriverTimings], work_s: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of a slot's start, and of a trial beside its work: medians over trials whose work is known."""
    starts: list[float] = []
    around: list[float] = []
    for driver in drivers:
        # When the slots became free, as far as they are.
        free: list[float] = []
        for trial, (started, ended) in sorted(driver.trials.items(), key=lambda each: each[1]):
            before = [at for at in free if at <= started]
            if before:
                free.remove(max(before))
            free.append(ended)
            if trial in work_s:
                (around if before else starts).append(ended - max(before, default=0.0) - work_s[trial])
    around_s = max(0.0, median(around)) if around else None
    if not starts:
        return _USUAL_START_S, _USUAL_AROUND_S if around_s is None else around_s
    start_s = max(0.0, median(starts) - (around_s or 0.0))
    return start_s, around_s or 0.0
