"""The answer in words: which arm was best at each size, by how much, and how sure that is.

Sentences are computed from the rows and say no more than the rows do: ranges over seeds are named as ranges,
one seed is named as no uncertainty, and a lead inside the seeds' ranges is named as not settled.
"""

from __future__ import annotations

from dataclasses import dataclass

from simtune.report.results_view import Cell, GridPoint, best, one_line
from simtune.report.tables import size_label
from simtune.wording import counted

METRIC = "rouge_l"


@dataclass(frozen=True)
class Answer:
    """What one grid point says."""

    title: str
    """The grid point; empty where there is one only."""
    lead: str
    details: tuple[str, ...]
    """Sentences on scale, distance and uncertainty."""
    by_size: tuple[tuple[str, str], ...]
    """(size as printed, sentence)."""


def answer(point: GridPoint) -> Answer:
    """Puts a grid point's rows in words."""
    by_size = tuple((size_label(point.at(size), size), _at_size(point, size)) for size in point.sizes)
    details = [_distance(point), _scale_against_choice(point), _uncertainty(point), _lost(point)]
    return Answer(point.title, _lead(point), tuple(text for text in details if text), by_size)


def _names(cells: list[Cell]) -> str:
    names = [_quoted(cell.arm) for cell in cells]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _quoted(arm: str) -> str:
    return f"“{one_line(arm, 60)}”"


def _mean(cell: Cell | None) -> float | None:
    return None if cell is None else cell.mean(METRIC)


def _score(cell: Cell) -> str:
    """ "26.41 (26.10–26.90 over 3 seeds)"."""
    values = cell.values(METRIC)
    parts = [
        f"{min(values):.2f}–{max(values):.2f} over {counted(len(values), 'seed')}" if len(values) > 1 else "one seed"
    ]
    if cell.lost:
        parts.append(f"{len(cell.lost)} of {len(cell.rows)} did not finish")
    return f"{sum(values) / len(values):.2f} ({', '.join(parts)})"


def _compared(point: GridPoint) -> dict[int, list[Cell]]:
    """The best cells of every size at which arms can be compared: two finished, not all the same trials."""
    found = {}
    for size in point.sizes:
        cells = [cell for cell in point.at(size) if cell.done]
        if len({tuple(sorted(row["trial"] for row in cell.done)) for cell in cells}) > 1:
            found[size] = best(cells, METRIC)
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
        verb = "scored" if len(cells) == 1 else "tie for"
        return f"{_names(cells)} {verb} highest at {counted(cells[0].num_tasks or size, 'task')}."
    others = [f"{_quoted(arm)} at {wins[arm]}" for arm in ranked[1:]]
    head = f"{_quoted(ranked[0])} scored highest at {wins[ranked[0]]} of {counted(len(compared), 'size')}"
    return head + (f"; {', '.join(others)}." if others else ".")


def _at_size(point: GridPoint, size: int) -> str:
    cells = point.at(size)
    scored = [cell for cell in cells if cell.values(METRIC)]
    if not scored:
        return "No arm finished."
    if len(scored) == 1:
        return f"Only {_names(scored)} finished: {_score(scored[0])}." + _references(point, scored[0])
    top = _compared(point).get(size)
    if top is None:
        return f"Every arm is the same set of tasks: {_score(scored[0])}." + _references(point, scored[0])
    if len(top) > 1:
        return f"{_names(top)} tie at {_score(top[0])}." + _references(point, top[0])
    rest = [cell for cell in scored if cell is not top[0]]
    runner = max(rest, key=lambda cell: cell.mean(METRIC) or 0.0)
    lead = (_mean(top[0]) or 0.0) - (_mean(runner) or 0.0)
    text = f"{_names(top)} is highest with {_score(top[0])}, {lead:.2f} ahead of {_names([runner])}"
    if min(len(top[0].values(METRIC)), len(runner.values(METRIC))) > 1:
        overlap = min(top[0].values(METRIC)) <= max(runner.values(METRIC))
        text += "; their seeds overlap, so the order is not settled." if overlap else "; their seeds do not overlap."
    else:
        text += "."
    return text + _references(point, top[0])


def _references(point: GridPoint, cell: Cell) -> str:
    """ " 4.10 below the full pool, 12.30 above the untuned model." as far as those finished."""
    own = _mean(cell) or 0.0
    references = [("the full pool", point.full)]
    references += [("the untuned model", c) for c in point.baselines if c.arm == "untuned"]
    parts = []
    for name, reference in references:
        mean = _mean(reference)
        if mean is not None:
            parts.append(f"{abs(own - mean):.2f} {'above' if own >= mean else 'below'} {name}")
    return f" {', '.join(parts)}." if parts else ""


def _distance(point: GridPoint) -> str:
    """How near the best arm at the largest compared size comes to the full pool."""
    compared, full = _compared(point), _mean(point.full)
    if not compared or point.full is None or not full:
        return ""
    cell = compared[max(compared)][0]
    own = _mean(cell) or 0.0
    share = f"{abs(full - own) / full:.1%}".replace("%", " %")
    side = "below" if own < full else "above"
    fewer = point.full.num_tasks / cell.num_tasks if cell.num_tasks else 0.0
    times = f", with {fewer:.1f} times fewer tasks" if fewer > 1 else ""
    return (
        f"With {counted(cell.num_tasks, 'task')}, {_names([cell])} reaches {own:.2f} against {full:.2f} for "
        f"the full pool of {counted(point.full.num_tasks, 'task')}: {share} {side} it{times}."
    )


def _scale_against_choice(point: GridPoint) -> str:
    """Whether the number of tasks or their choice moved the score more."""
    compared = sorted(_compared(point))
    if len(compared) < 2:
        return ""
    means = {size: {c.arm: m for c in point.at(size) if (m := _mean(c)) is not None} for size in compared}
    first, last = compared[0], compared[-1]
    shared = [arm for arm in point.arms if arm in means[first] and arm in means[last]]
    if not shared:
        return ""
    change = sum(means[last][arm] - means[first][arm] for arm in shared) / len(shared)
    gaps = {size: max(means[size].values()) - min(means[size].values()) for size in compared}
    widest = max(compared, key=lambda size: (gaps[size], -size))
    tasks = {size: max(cell.num_tasks for cell in point.at(size)) for size in compared}
    signed = f"{change:+.2f}".replace("-", "−")
    return (
        f"Going from {tasks[first]:,} to {counted(tasks[last], 'task')} moves ROUGE-L by {signed} points on average "
        f"over {counted(len(shared), 'arm')}; at one size the arms differ by at most {gaps[widest]:.2f} "
        f"points (at {tasks[widest]:,})."
    )


def _uncertainty(point: GridPoint) -> str:
    counts = [len(cell.values(METRIC)) for cell in point.strategies if cell.values(METRIC)]
    if not counts:
        return ""
    if max(counts) == 1:
        return (
            "Every number comes from one seed: there is no estimate of uncertainty, and small differences "
            "may be chance."
        )
    widest = max(point.strategies, key=lambda c: max(c.values(METRIC), default=0) - min(c.values(METRIC), default=0))
    width = max(widest.values(METRIC)) - min(widest.values(METRIC))
    fewest = "" if min(counts) == max(counts) else f"{min(counts)} to "
    return (
        f"Numbers are means over {fewest}{counted(max(counts), 'seed')} with the lowest and the highest seed "
        "in parentheses; the "
        f"widest range is {width:.2f} points ({_names([widest])}, {counted(widest.num_tasks, 'task')}). A range over "
        "so few seeds is not a confidence interval."
    )


def _lost(point: GridPoint) -> str:
    lost = point.lost()
    if not lost:
        return ""
    total = sum(len(cell.rows) for cell in point.cells)
    verb = "is" if len(lost) == 1 else "are"
    share = f"{len(lost)} of {counted(total, 'trial')}"
    return f"{share} did not finish and {verb} in no mean; see the reasons below."
