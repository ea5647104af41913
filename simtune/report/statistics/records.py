"""What the scores of a run show, as records: `statistics.json`, and what tables, sentences and the page print.

Scores and differences are in the units of the metric (first minus second), whatever its direction: a record says which
side is better. All intervals are 95 % ones. They cover other test tasks of the same kind; those of comparisons with
several seeds cover other seeds too, and `covers` says so.
"""

from __future__ import annotations

from typing import Literal

from simtune.storage.records import Record

STATISTICS = "statistics.json"
"""The file in a run's directory."""
LEVEL = 0.95
NUM_DRAWS = 10_000

Covers = Literal["nothing", "test tasks", "test tasks and seeds"]
"""What an interval allows for. With one seed nothing is known about other seeds."""
Verdict = Literal["supported", "contradicted", "open"]


class Interval(Record):
    """A 95 % interval."""

    low: float | None
    """None: beyond what was measured."""
    high: float | None
    """None: beyond what was measured."""


class ArmAtSize(Record):
    """One arm at one size."""

    arm: str
    size: int | None
    """As asked for; None for baselines."""
    num_tasks: int
    """Training tasks there really were."""


class ArmScore(Record):
    """The headline score of one arm at one size."""

    of: ArmAtSize
    type: Literal["strategy", "full", "baseline"]
    mean: float
    """The number of the results table: the mean over finished seeds."""
    num_seeds: int
    """Finished trials that differ."""
    lowest: float
    """Of the seeds."""
    highest: float
    standard_deviation: float | None
    """Over seeds; None with one."""
    interval: Interval | None
    """Of the mean; None without scores of each test task."""
    covers: Covers
    is_best: bool
    """Whether it has the best mean of its size."""


class Comparison(Record):
    """The difference of two arms, paired by test task, and by seed where both have the same seeds."""

    family: str
    """What is corrected together: "size 36", "full", or "baseline copy-input"."""
    first: ArmAtSize
    second: ArmAtSize
    difference: float
    """First minus second: exactly the difference of the two means of the results table."""
    interval: Interval | None
    """None where there is none; `reason` says why."""
    covers: Covers
    standard_error: float | None
    p: float | None
    """Two-sided, for a difference of 0."""
    p_holm: float | None
    """With Holm's correction inside the family."""
    p_fdr: float | None
    """With Benjamini and Hochberg's correction inside the family."""
    smallest_visible: float | None
    """A difference of this size would show in four of five runs like this one."""
    num_seeds: int
    """The lower one of the two arms."""
    num_test_tasks: int
    same_trials: bool
    """Both trained on the same set with the same seeds: one result under two names."""
    better: Literal["first", "second"] | None
    """Which side is better with Holm's correction; None where they cannot be told apart."""
    reason: str


class Fit(Record):
    """A straight line through the scores of an arm against the logarithm of its number of training tasks."""

    arm: str
    num_sizes: int
    least_tasks: int
    most_tasks: int
    intercept: float
    """score = intercept + slope * ln(number of tasks)."""
    slope: float
    per_doubling: float
    """Change of the score when the number of tasks doubles: slope * ln 2."""
    interval: Interval | None
    """Of `per_doubling`."""
    covers: Covers
    largest_residual: float
    """Largest distance of a mean to the line; 0 with two sizes, which show nothing about the shape."""


class Equivalent(Record):
    """Data efficiency: how many tasks another arm needs for the score that this arm has."""

    of: ArmAtSize
    score: float
    other: str
    num_tasks: float | None
    """On the other arm's line; None where that is beyond its sizes."""
    beyond: Literal["", "fewer", "more"]
    """Where `num_tasks` is None: whether the other arm needs fewer tasks than it was measured with, or more."""
    interval: Interval | None
    """Ends that are None are beyond the other arm's sizes. None where there is none."""
    covers: Covers
    least_tasks: int
    """The range of sizes of the other arm."""
    most_tasks: int


class OfFull(Record):
    """How near an arm comes to the full pool with how many times fewer tasks."""

    of: ArmAtSize
    full_tasks: int
    times_fewer: float
    change: float
    """Relative change of the score: -0.04 is 4 % below the full pool."""
    interval: Interval | None
    covers: Covers


class Power(Record):
    """What a difference of this size takes to be seen in four of five runs, for a typical pair of arms."""

    difference: float
    num_seeds: int
    """Seeds of each arm."""
    num_test_tasks: int | None
    """None: no number of test tasks is enough with these seeds."""


class Claim(Record):
    """One claim of the study, with what the run says about it."""

    name: str
    """A few words."""
    sentence: str
    """For a reader who knows no statistics: number, interval, what it means."""
    verdict: Verdict
    difference: float | None
    interval: Interval | None
    covers: Covers
    settles: str
    """What would settle an open claim; empty for others."""


class PointStatistics(Record):
    """All of one grid point."""

    title: str
    """What differs from the other grid points; empty where there is one only."""
    metric: str
    """The column of the headline metric in `results.parquet`."""
    num_test_tasks: int
    """0 where scores of each test task are missing."""
    num_seeds: int
    """The most that an arm has."""
    scores: tuple[ArmScore, ...]
    comparisons: tuple[Comparison, ...]
    fits: tuple[Fit, ...]
    equivalents: tuple[Equivalent, ...]
    of_full: tuple[OfFull, ...]
    power: tuple[Power, ...]
    claims: tuple[Claim, ...]


class Statistics(Record):
    """The content of `statistics.json`."""

    version: Literal[1] = 1
    level: float = LEVEL
    num_draws: int = NUM_DRAWS
    points: tuple[PointStatistics, ...]
    """In the order of the grid points of the report."""
