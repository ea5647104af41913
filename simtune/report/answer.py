"""The answer in words: which arm was best at each size, what may be chance, and what would settle it.

Sentences are computed from the rows and their statistics, and claim no more than these show.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from simtune.report.best_arms import best_arms
from simtune.report.results_view import Cell, GridPoint, range_over_seeds
from simtune.report.statistics.records import ArmAtSize, Comparison, Equivalent, Interval, PointStatistics
from simtune.report.statistics.wording import contains, listed, over, quoted, signed, span
from simtune.report.table_metadata import MetricInfo
from simtune.report.tables import size_label
from simtune.wording import counted


@dataclass(frozen=True)
class Answer:
    """What one grid point shows."""

    title: str
    """The grid point; empty where there is only one."""
    lead: str
    details: tuple[str, ...]
    """Sentences on the study's claims, baselines, scale, power and how to read intervals."""
    by_size: tuple[tuple[str, str], ...]
    """(size as printed, sentence)."""


def answer(point: GridPoint, found: PointStatistics) -> Answer:
    """Describes a grid point in words, by its headline metric.

    Args:
        point: its rows.
        found: its statistics.
    """
    by_size = tuple((size_label(point.at(size), size), _at_size(point, found, size)) for size in point.sizes)
    claims = [f"{claim.sentence} {claim.settles}".strip() for claim in found.claims]
    others = [_scale_against_choice(point), _efficiency(point, found), _power(point, found), _how_to_read(found)]
    details = [*claims, *others, _unfinished(point)]
    return Answer(point.title, _lead(point, found), tuple(text for text in details if text), by_size)


def _names(cells: list[Cell]) -> str:
    return listed([quoted(cell.arm) for cell in cells])


def _mean(cell: Cell | None, metric: MetricInfo) -> float | None:
    return None if cell is None else cell.mean(metric.column)


def _score(cell: Cell, metric: MetricInfo) -> str:
    """A mean with its range, such as "26.41 (26.10–26.90 over 3 seeds)"."""
    values = cell.values(metric.column)
    spread = range_over_seeds(values, metric.digits)
    parts = [f"{spread} over {counted(len(values), 'seed')}" if spread else "one seed"]
    if cell.unfinished:
        parts.append(f"{len(cell.unfinished)} of {len(cell.rows)} did not finish")
    return f"{metric.text(sum(values) / len(values))} ({', '.join(parts)})"


def _compared(point: GridPoint) -> dict[int, list[Cell]]:
    """The best cells of every size at which arms can be compared: two finished, not all the same trials."""
    found = {}
    for size in point.sizes:
        cells = [cell for cell in point.at(size) if cell.done]
        if len({tuple(sorted(row["trial"] for row in cell.done)) for cell in cells}) > 1:
            found[size] = best_arms(cells, point.headline)
    return {size: cells for size, cells in found.items() if cells}


def _lead(point: GridPoint, found: PointStatistics) -> str:
    compared = _compared(point)
    if not compared:
        return "No two arms finished at the same size, so there is nothing to compare yet."
    wins: dict[str, int] = {}
    for cells in compared.values():
        for cell in cells:
            wins[cell.arm] = wins.get(cell.arm, 0) + 1
    ranked = sorted(wins, key=lambda arm: (-wins[arm], point.arms.index(arm)))
    if len(compared) == 1:
        size, cells = next(iter(compared.items()))
        verb = "scored" if len(cells) == 1 else "tied for"
        head = f"{_names(cells)} {verb} best at {counted(cells[0].num_tasks or size, 'task')}."
    else:
        others = [f"{quoted(arm)} at {wins[arm]}" for arm in ranked[1:]]
        head = f"{quoted(ranked[0])} scored best at {wins[ranked[0]]} of {counted(len(compared), 'size')}"
        head += f"; {', '.join(others)}." if others else "."
    return f"{head} {_chance(found, compared)}"


def _chance(found: PointStatistics, compared: dict[int, list[Cell]]) -> str:
    """A sentence on how many of the best arms are better than every other one."""
    if not found.num_test_tasks:
        return "Without the scores of single test tasks, nothing is known about chance."
    clear = [size for size, cells in compared.items() if len(cells) == 1 and _is_clear(found, cells[0])]
    seeds = "" if found.num_seeds > 1 else " One seed: another one may give another order."
    if not clear:
        return f"That may be chance: no best arm can be told apart from all the others of its size.{seeds}"
    if len(clear) == len(compared):
        return f"It can be told apart from every other arm{' of its size' if len(compared) > 1 else ''}.{seeds}"
    return f"At {len(clear)} of {counted(len(compared), 'size')} that is more than chance gives.{seeds}"


def _is_clear(found: PointStatistics, cell: Cell) -> bool:
    """Whether an arm is better than every other one of its size that is not the same trials."""
    own = [c for c in found.comparisons if c.family == f"size {cell.size}" and cell.arm in (c.first.arm, c.second.arm)]
    own = [c for c in own if not c.same_trials]
    return bool(own) and all(c.better == ("first" if c.first.arm == cell.arm else "second") for c in own)


def _at_size(point: GridPoint, found: PointStatistics, size: int) -> str:
    metric = point.headline
    scored = [cell for cell in point.at(size) if cell.values(metric.column)]
    if not scored:
        return "No arm finished."
    if len(scored) == 1:
        return f"Only {_names(scored)} finished: {_score(scored[0], metric)}." + _references(point, scored[0])
    top = _compared(point).get(size)
    if top is None:
        text = f"All arms trained on the same set of tasks: {_score(scored[0], metric)}."
        return text + _references(point, scored[0])
    if len(top) > 1:
        return f"{_names(top)} tied at {_score(top[0], metric)}." + _references(point, top[0])
    rest = [cell for cell in scored if cell is not top[0]]
    runner_up = max(rest, key=lambda cell: metric.merit(cell.mean(metric.column) or 0.0))
    lead = abs((_mean(top[0], metric) or 0.0) - (_mean(runner_up, metric) or 0.0))
    text = f"{_names(top)} is best with {_score(top[0], metric)}, {metric.text(lead)} ahead of {_names([runner_up])}"
    return text + _true_lead(found, top[0], runner_up, metric) + _references(point, top[0])


def _true_lead(found: PointStatistics, top: Cell, runner_up: Cell, metric: MetricInfo) -> str:
    """The end of a sentence on two arms: how large the lead may be."""
    for comparison in found.comparisons:
        if comparison.family == f"size {top.size}" and comparison.interval is not None:
            arms = (comparison.first.arm, comparison.second.arm)
            if set(arms) == {top.arm, runner_up.arm}:
                lead = _of_the_better(comparison, arms[0] == top.arm, metric)
                with_ = f"with {over(comparison.covers)}"
                if contains(lead, 0.0):
                    return f"; {with_} the lead may be {span(lead, metric.digits)}, so the order is uncertain."
                return f"; {with_} the lead is {span(lead, metric.digits)}."
    return "."


def _of_the_better(comparison: Comparison, is_first: bool, metric: MetricInfo) -> Interval:
    """The interval of a lead, which is positive where the arm is better."""
    interval = comparison.interval
    assert interval is not None  # noqa: S101 (the caller has looked)
    if is_first == metric.higher_is_better:
        return interval
    low, high = (None if end is None else -end for end in (interval.high, interval.low))
    return Interval(low=low, high=high)


def _references(point: GridPoint, cell: Cell) -> str:
    """A sentence such as "4.10 below the full pool, 12.30 above untuned."; unfinished ones are left out."""
    metric = point.headline
    own = _mean(cell, metric) or 0.0
    parts = []
    for name, reference in [("the full pool", point.full), *((quoted(c.arm), c) for c in point.baselines)]:
        mean = _mean(reference, metric)
        if mean is None:
            continue
        distance = metric.text(abs(own - mean))
        equal = distance == metric.text(0.0)
        parts.append(f"equal to {name}" if equal else f"{distance} {'above' if own > mean else 'below'} {name}")
    text = ", ".join(parts)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _scale_against_choice(point: GridPoint) -> str:
    """Whether the number of tasks or their choice changed the score more."""
    metric, compared = point.headline, sorted(_compared(point))
    if len(compared) < 2:
        return ""
    means = {size: {c.arm: m for c in point.at(size) if (m := _mean(c, metric)) is not None} for size in compared}
    first, last = compared[0], compared[-1]
    shared = [arm for arm in point.arms if arm in means[first] and arm in means[last]]
    if not shared:
        return ""
    change = sum(means[last][arm] - means[first][arm] for arm in shared) / len(shared)
    gaps = {size: max(means[size].values()) - min(means[size].values()) for size in compared}
    widest = max(compared, key=lambda size: (gaps[size], -size))
    tasks = {size: max(cell.num_tasks for cell in point.at(size)) for size in compared}
    return (
        f"Scale against choice: from {tasks[first]:,} to {counted(tasks[last], 'task')} the means change by "
        f"{signed(change, metric.digits)} {metric.unit} on average; at one size the arms differ by at most "
        f"{metric.text(gaps[widest])} {metric.unit} (at {tasks[widest]:,})."
    )


def _efficiency(point: GridPoint, found: PointStatistics) -> str:
    """How many tasks other arms need for the score of the best arm at the largest compared size."""
    compared = _compared(point)
    if not compared:
        return ""
    best = compared[max(compared)][0]
    own = [e for e in found.equivalents if (e.of.arm, e.of.size) == (best.arm, best.size)]
    if not own:
        return ""
    parts = [f"{quoted(equivalent.other)} {_tasks_needed(equivalent)}" for equivalent in own[:4]]
    return f"For the score of {_at(own[0].of)}, the lines through their scores say that {'; '.join(parts)}."


def _at(arm: ArmAtSize) -> str:
    return f"{quoted(arm.arm)} with {counted(arm.num_tasks, 'task')}"


def _tasks_needed(equivalent: Equivalent) -> str:
    """Such as "needs 420 tasks (350 to 510)"; what is beyond the measured sizes is not extrapolated."""
    least, most = equivalent.least_tasks, equivalent.most_tasks
    if equivalent.num_tasks is None:
        is_fewer = equivalent.beyond == "fewer"
        beyond = f"fewer than {counted(least, 'task')}" if is_fewer else f"more than {counted(most, 'task')}"
        number = f"needs {beyond}, beyond what was measured"
    else:
        number = f"needs {counted(round(equivalent.num_tasks), 'task')}"
    interval = equivalent.interval
    if interval is None or (equivalent.num_tasks is None and interval.low is None and interval.high is None):
        return number
    low = f"fewer than {least:,}" if interval.low is None else f"{interval.low:,.0f}"
    high = f"more than {most:,}" if interval.high is None else f"{interval.high:,.0f}"
    return f"{number} (95 % interval {low} to {high})"


def _power(point: GridPoint, found: PointStatistics) -> str:
    """How large a difference must be to be seen, and what a smaller one takes."""
    visible = [c.smallest_visible for c in found.comparisons if c.family.startswith("size ") and c.smallest_visible]
    if not visible:
        return ""
    metric, typical = point.headline, median(visible)
    seeds = counted(found.num_seeds, "seed")
    text = (
        f"With {counted(found.num_test_tasks, 'test task')} and {seeds}, two arms must differ by about "
        f"{metric.text(typical)} {metric.unit} to be told apart in four of five runs."
    )
    smaller = [row for row in found.power if row.difference < typical and row.num_test_tasks]
    if not smaller:
        return text
    row = max(smaller, key=lambda row: (row.difference, -row.num_seeds))
    needed = f"{counted(row.num_test_tasks or 0, 'test task')} with {counted(row.num_seeds, 'seed')}"
    return f"{text} To see {row.difference:g} {metric.unit} takes about {needed}."


def _how_to_read(found: PointStatistics) -> str:
    if not found.num_test_tasks:
        return ""
    text = (
        "A 95 % interval is the range in which the true difference lies in 95 of 100 such runs. It is a bootstrap of "
        "whole test tasks, and arms are paired by task."
    )
    if found.num_seeds > 1:
        return f"{text} It allows for other seeds, too."
    return f"{text} With one seed it says nothing about other seeds, so the claims about strategies stay open."


def _unfinished(point: GridPoint) -> str:
    num_unfinished = len(point.unfinished)
    if not num_unfinished:
        return ""
    total = sum(len(cell.rows) for cell in point.cells)
    verb = "is" if num_unfinished == 1 else "are"
    share = f"{num_unfinished} of {counted(total, 'trial')}"
    return f"{share} did not finish and {verb} left out of every mean; the reasons are below."
