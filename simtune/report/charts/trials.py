"""Every trial for the page's scripts: its set, scores of its test tasks, loss, cost and a sample of its answers."""

from __future__ import annotations

from typing import Any

from simtune.report.answers import ANSWERS, Answers
from simtune.report.charts.run_data import RunData, finite
from simtune.report.charts.training import thinned
from simtune.report.results_view import Row, natural_key

_COSTS = (
    ("train_s", "seconds of training", 1),
    ("evaluate_s", "seconds of scoring", 1),
    ("peak_host_memory_mib", "most memory of a process, MiB", 0),
    ("peak_gpu_memory_mib", "most GPU memory, MiB", 0),
)


def trials_data(data: RunData, answers: Answers) -> dict[str, Any]:
    """`trials` in the order of the table, `sets` of task numbers, and `answers` by score.

    Equal sets and equal scores stand once: baselines and shared trials are in many rows.
    """
    sets: dict[tuple[int, ...], int] = {}
    tests = sorted({name for scores in data.task_scores.values() for name in scores}, key=natural_key)
    trials = [_trial(data, row, sets) for row in data.rows]
    scores = {}
    for row in data.rows:
        key = (row["trial"], row["score"])
        if key in data.task_scores or key in answers.samples:
            scores["-".join(key)] = _score(data, key, tests, answers)
    return {"trials": trials, "sets": [list(chosen) for chosen in sets], "scores": scores}


def _trial(data: RunData, row: Row, sets: dict[tuple[int, ...], int]) -> dict[str, Any]:
    chosen = tuple(data.chosen(row))
    return {
        **{name: row[name] for name in ("arm", "size", "seed", "num_tasks", "status")},
        "type": data.arm_types.get(row["arm"], "strategy"),
        "key": f"{row['trial']}-{row['score']}",
        "point": data.point_of(row),
        "set": sets.setdefault(chosen, len(sets)) if chosen else None,
        "error": row["error"] or "",
        "note": row["note"] or "",
    }


def _score(data: RunData, key: tuple[str, str], tests: list[str], answers: Answers) -> dict[str, Any]:
    """What belongs to a score and not to a row."""
    own = data.task_scores.get(key, {})
    cost = data.costs.get(key, {})
    costs = [
        [title, f"{value:,.{digits}f}"]
        for name, title, digits in _COSTS
        if (value := finite(cost.get(name))) is not None
    ]
    costs += [[name, str(cost[name])] for name in ("device", "host") if cost.get(name)]
    file = answers.files.get(key)
    return {
        "tasks": [round(own[name][-1], 2) if name in own else None for name in tests],
        "costs": costs,
        "losses": [[step, round(loss, 4)] for step, loss in thinned(answers.losses.get(key, ()))],
        "answers": answers.samples.get(key),
        "file": f"{ANSWERS}/{file}" if file else None,
    }
