"""How often stated 95 % intervals cover the true difference, in simulated sweeps whose truth is known.

    python benchmarks/interval_coverage.py                 2,000 sweeps a line
    python benchmarks/interval_coverage.py --sweeps 200    a first look

A sweep has two arms at two sizes and a baseline, all scored on the same instances of the same test tasks. The chance
that an answer is right depends on the test task, the arm on that task, the seed, and the seed on that task; an answer
that is right scores 100. With one seed the truth is that of the two trained models over all tasks, and with several
that of the arms over all tasks and seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from harness import machine, save, show

from simtune.report.statistics.intervals import Intervals
from simtune.report.statistics.records import ArmAtSize
from simtune.report.statistics.task_scores import PointScores, TaskScores


@dataclass(frozen=True)
class Setting:
    """What simulated sweeps have in common; standard deviations in points."""

    name: str
    num_test_tasks: int
    num_seeds: int
    tasks_sd: float = 4.0
    """Of an arm's effect on single test tasks."""
    seeds_sd: float = 0.7
    both_sd: float = 2.0
    instances: tuple[int, int] = (100, 100)
    """Least and most of a test task."""
    shape: str = "normal"
    """Of the effects on test tasks: normal, skewed, or half of them 0."""


SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, number: rng.normal(0, 1, number),
    "skewed": lambda rng, number: rng.exponential(1, number) - 1,
    "half zero": lambda rng, number: np.where(rng.random(number) < 0.5, 0, rng.normal(0, np.sqrt(2), number)),
}
EFFECTS = (0.0, 1.0, 3.0, 4.0, -5.0)
"""Of arm a and b at the small size, a and b at the large one, and the baseline."""
CONTRASTS: dict[str, dict[int, float]] = {
    "two arms": {0: 1.0, 1: -1.0},
    "arm and baseline": {2: 1.0, 4: -1.0},
    "more tasks": {2: 0.5, 3: 0.5, 0: -0.5, 1: -0.5},
}


def simulated(setting: Setting, rng: np.random.Generator) -> tuple[PointScores, np.ndarray]:
    """One sweep, and the true score of each arm."""
    number, seeds = setting.num_test_tasks, setting.num_seeds
    low, high = setting.instances
    instances_T = rng.integers(low, high + 1, number)
    base_T = rng.uniform(35, 65, number)
    instance = np.arange(high)[None, :] < instances_T[:, None]
    luck_TI = rng.random((number, high)) * 100
    arms, truth = [], []
    for index, effect in enumerate(EFFECTS):
        is_baseline = index == len(EFFECTS) - 1
        own = 1 if is_baseline else seeds
        seed_S = np.zeros(1) if is_baseline else rng.normal(0, setting.seeds_sd, own)
        both_ST = np.zeros((1, number)) if is_baseline else rng.normal(0, setting.both_sd, (own, number))
        of_task_T = setting.tasks_sd * SHAPES[setting.shape](rng, number)
        chance_ST = np.clip(base_T + effect + of_task_T + seed_S[:, None] + both_ST, 1, 99)
        right_STI = (luck_TI < chance_ST[:, :, None]) & instance
        values_ST = 100 * right_STI.sum(axis=2) / instances_T
        mean = float((values_ST @ (instances_T / instances_T.sum())).mean())
        of = ArmAtSize(arm=f"arm {index}", size=None if is_baseline else 10, num_tasks=0 if is_baseline else 10)
        arms.append(TaskScores(of, mean, tuple(range(own)), not is_baseline, values_ST))
        truth.append(effect + (seed_S[0] if own == 1 else 0.0))
    return PointScores(tuple(arms), (), instances_T / instances_T.sum()), np.array(truth)


def coverage(setting: Setting, num_sweeps: int, seed: int = 1) -> dict[str, float]:
    """Percent of sweeps whose interval covers the truth, by contrast."""
    rng = np.random.default_rng(seed)
    hits = dict.fromkeys(CONTRASTS, 0)
    for _ in range(num_sweeps):
        scores, truth = simulated(setting, rng)
        for name, found in zip(CONTRASTS, Intervals(scores).estimate(list(CONTRASTS.values())), strict=True):
            true = sum(factor * truth[index] for index, factor in CONTRASTS[name].items())
            assert found.interval is not None
            low, high = found.interval.low, found.interval.high
            assert low is not None
            assert high is not None
            hits[name] += bool(low <= true <= high)
    return {name: round(100 * count / num_sweeps, 1) for name, count in hits.items()}


SETTINGS = (
    *(Setting("usual", tasks, seeds) for tasks in (12, 30, 119) for seeds in (1, 2, 3, 5)),
    *(Setting("seeds matter", tasks, seeds, seeds_sd=3.0) for tasks in (12, 119) for seeds in (3, 5)),
    *(Setting("seeds hardly matter", tasks, 3, seeds_sd=0.1) for tasks in (12, 119)),
    *(Setting("tasks alike", tasks, 3, tasks_sd=0.5) for tasks in (12, 119)),
    *(Setting("20 to 100 instances", tasks, seeds, instances=(20, 100)) for tasks in (18, 119) for seeds in (1, 3)),
    *(Setting("skewed", tasks, seeds, shape="skewed", tasks_sd=8.0) for tasks in (12, 119) for seeds in (1, 3)),
    *(Setting("half zero", tasks, seeds, shape="half zero") for tasks in (12, 119) for seeds in (1, 3)),
    Setting("few tasks", 5, 1),
    Setting("few tasks", 5, 3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=2000, help="simulated sweeps a line (default: 2000)")
    num_sweeps = parser.parse_args().sweeps
    rows: list[dict[str, Any]] = []
    for setting in SETTINGS:
        found = coverage(setting, num_sweeps)
        rows.append(
            {
                "sweeps": setting.name,
                "test_tasks": setting.num_test_tasks,
                "seeds": setting.num_seeds,
                **{f"{name}, %": value for name, value in found.items()},
            }
        )
        print(rows[-1], flush=True)
    about = machine("numpy", "scipy")
    show(f"Coverage of 95 % intervals in {num_sweeps:,} simulated sweeps a line", rows, about)
    save("interval_coverage", rows, about, sweeps=num_sweeps)


if __name__ == "__main__":
    main()
