"""The answer in words: which arm was best at each size, by how much, and how certain that is.

Sentences are computed from the rows and claim no more than the rows show: a range over seeds is called a range, one
seed is called no estimate of uncertainty, and a lead inside the seeds' ranges is called uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtune.report.best_arms import best_arms
from simtune.report.results_view import Cell, GridPoint, one_line, range_over_seeds
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
    """Sentences on scale, distance and uncertainty."""
    by_size: tuple[tuple[str, str], ...]
    """(size as printed, sentence)."""


def answer(point: GridPoint) -> Answer:
    """Describes a grid point's rows in words, by its headline metric."""
    by_size = tuple((size_label(point.at(size), size), _at_size(point, size)) for size in point.sizes)
    details = [_distance(point), _scale_against_choice(point), _uncertainty(point), _unfinished(point)]
    return Answer(point.title, _lead(point), tuple(text for text in details if text), by_size)


def _names(cells: list[Cell]) -> str:
    names = [_quoted(cell.arm) for cell in cells]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _quoted(arm: str) -> str:
    return f"“{one_line(arm, 60)}”"


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


def _lead(point: GridPoint) -> str:
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
        return f"{_names(cells)} {verb} best at {counted(cells[0].num_tasks or size, 'task')}."
    others = [f"{_quoted(arm)} at {wins[arm]}" for arm in ranked[1:]]
    head = f"{_quoted(ranked[0])} scored best at {wins[ranked[0]]} of {counted(len(compared), 'size')}"
    return head + (f"; {', '.join(others)}." if others else ".")


def _at_size(point: GridPoint, size: int) -> str:
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
    return text + _overlap(top[0], runner_up, metric) + _references(point, top[0])


def _overlap(top: Cell, runner_up: Cell, metric: MetricInfo) -> str:
    """The end of a sentence on two arms: whether the ranges of their seeds overlap."""
    own, other = ([metric.merit(value) for value in cell.values(metric.column)] for cell in (top, runner_up))
    if min(len(own), len(other)) < 2:
        return "."
    if min(own) <= max(other):
        return "; their seeds overlap, so the order is uncertain."
    return "; their seeds do not overlap."


def _references(point: GridPoint, cell: Cell) -> str:
    """A sentence such as "4.10 below the full pool, 12.30 above untuned."; unfinished ones are left out."""
    metric = point.headline
    own = _mean(cell, metric) or 0.0
    parts = []
    for name, reference in [("the full pool", point.full), *((_quoted(c.arm), c) for c in point.baselines)]:
        mean = _mean(reference, metric)
        if mean is None:
            continue
        distance = metric.text(abs(own - mean))
        equal = distance == metric.text(0.0)
        parts.append(f"equal to {name}" if equal else f"{distance} {'above' if own > mean else 'below'} {name}")
    text = ", ".join(parts)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _distance(point: GridPoint) -> str:
    """How close the best arm at the largest compared size comes to the full pool."""
    metric = point.headline
    compared, full = _compared(point), _mean(point.full, metric)
    if not compared or point.full is None or not full:
        return ""
    cell = compared[max(compared)][0]
    own = _mean(cell, metric) or 0.0
    share = f"{abs(full - own) / abs(full):.1%}".replace("%", " %")
    side = "below" if own < full else "above"
    fewer = point.full.num_tasks / cell.num_tasks if cell.num_tasks else 0.0
    times = f", with {fewer:.1f} times fewer tasks" if fewer > 1 else ""
    return (
        f"With {counted(cell.num_tasks, 'task')}, {_names([cell])} reaches {metric.text(own)}; the full pool of "
        f"{counted(point.full.num_tasks, 'task')} reaches {metric.text(full)}: {share} {side} it{times}."
    )


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
    signed = f"{change:+.{metric.digits}f}".replace("-", "−")
    return (
        f"Going from {tasks[first]:,} to {counted(tasks[last], 'task')} changes {metric.title} by {signed} "
        f"{metric.unit} on average over {counted(len(shared), 'arm')}; at one size the arms differ by at most "
        f"{metric.text(gaps[widest])} {metric.unit} (at {tasks[widest]:,})."
    )


def _uncertainty(point: GridPoint) -> str:
    metric = point.headline
    scored = [(cell, values) for cell in point.strategies if (values := cell.values(metric.column))]
    if not scored:
        return ""
    counts = [len(values) for _, values in scored]
    if max(counts) == 1:
        return (
            "Every number comes from one seed: there is no estimate of uncertainty, and small differences "
            "may be due to chance."
        )
    widest, values = max(scored, key=lambda item: max(item[1]) - min(item[1]))
    fewest = "" if min(counts) == max(counts) else f"{min(counts)} to "
    return (
        f"Numbers are means over {fewest}{counted(max(counts), 'seed')}, with the lowest and the highest seed "
        f"in parentheses; the widest range is {metric.text(max(values) - min(values))} {metric.unit} "
        f"({_names([widest])}, {counted(widest.num_tasks, 'task')}). A range over so few seeds is not a confidence "
        "interval."
    )


def _unfinished(point: GridPoint) -> str:
    num_unfinished = len(point.unfinished)
    if not num_unfinished:
        return ""
    total = sum(len(cell.rows) for cell in point.cells)
    verb = "is" if num_unfinished == 1 else "are"
    share = f"{num_unfinished} of {counted(total, 'trial')}"
    return f"{share} did not finish and {verb} left out of every mean; the reasons are below."
