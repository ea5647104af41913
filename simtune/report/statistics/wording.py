"""Differences, intervals and what would settle a question, in words that need no statistics."""

from __future__ import annotations

from collections.abc import Sequence

from simtune.report.results_view import one_line
from simtune.report.statistics.intervals import Estimate
from simtune.report.statistics.power import Variances
from simtune.report.statistics.records import Covers, Interval
from simtune.report.table_metadata import MetricInfo
from simtune.wording import counted

ONE_SEED = "for these models; one seed does not show what other seeds would give"
_MOST_TIMES = 20
"""More test tasks than this many times those of the run are no advice."""


def quoted(arm: str) -> str:
    """An arm's name in a sentence."""
    return f"“{one_line(arm, 60)}”"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def signed(value: float | None, digits: int) -> str:
    """A number with its sign; an unbounded one is an ellipsis."""
    if value is None:
        return "…"
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text.lstrip("+−") if float(f"{value:.{digits}f}") == 0 else text


def span(interval: Interval, digits: int, unit: str = "") -> str:
    """An interval, such as `−8.20 to +5.41 points`."""
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}{unit and ' ' + unit}"


def over(covers: Covers) -> str:
    """What an interval allows for."""
    return "other test tasks and seeds" if covers == "test tasks and seeds" else "other test tasks"


def certainty(interval: Interval | None, covers: Covers, metric: MetricInfo, limit: float = 0.0) -> str:
    """A sentence on what the true difference may be.

    Args:
        interval: of the difference; None where there is none.
        covers: what it allows for.
        metric: of the scores.
        limit: what the difference is held against.
    """
    if interval is None:
        return "How far chance reaches is not known."
    between = span(interval, metric.digits, metric.unit)
    if contains(interval, limit):
        return f"That may be chance: with {over(covers)} it could be anything from {between} (95 % interval)."
    if covers == "test tasks and seeds":
        return f"With {over(covers)} it would be {between} (95 % interval)."
    return f"With {over(covers)} it would be {between} (95 % interval) {ONE_SEED}."


def contains(interval: Interval, value: float) -> bool:
    """Whether a value is inside; an end that is None is beyond every value."""
    return (interval.low is None or interval.low <= value) and (interval.high is None or value <= interval.high)


def what_settles(estimate: Estimate, distance: float, metric: MetricInfo) -> str:
    """What would settle an open question.

    Args:
        estimate: what is known.
        distance: what must be told apart from zero: the distance of the estimate to what it is held against.
        metric: of the scores.
    """
    if estimate.spread is None:
        return ""
    spread, needed = estimate.spread, Variances.of([estimate.spread])
    is_one_seed = estimate.covers != "test tasks and seeds"
    parts = ["two more seeds, which show how much is luck of training"] if is_one_seed else []
    interval = estimate.interval
    is_known = interval is not None and not contains(interval, estimate.value - distance)
    if not is_known:
        ways = []
        seeds = needed.seeds_for(abs(distance), spread.num_test_tasks)
        if seeds is not None and seeds > spread.num_seeds:
            ways.append(counted(seeds - spread.num_seeds, "more seed"))
        tasks = needed.test_tasks_for(abs(distance), spread.num_seeds)
        more = None if tasks is None else tasks - spread.num_test_tasks
        if more is not None and 0 < more <= _MOST_TIMES * spread.num_test_tasks:
            ways.append(f"about {counted(_round(more), 'more test task')}")
        if not ways and not is_one_seed:
            return f"Nothing practical would settle it: a difference of {metric.text(abs(distance))} is too small."
        parts += [" or ".join(ways)] if ways else []
    if not parts:
        return ""
    text = ", and ".join(parts)
    return f"What would settle it: {text}."


def _round(number: int) -> int:
    """Two digits: more would claim a precision that plans do not have."""
    digits = max(len(str(number)) - 2, 0)
    step = int(10**digits)
    return -(-number // step) * step
