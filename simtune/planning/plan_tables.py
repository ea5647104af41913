"""A plan as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simtune.planning.plan import Plan
from simtune.planning.planned_trials import PlannedTrial, totals
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.tables import TextTable

_STATUSES = {
    "done": "done",
    "failed": "failed",
    "unsaved": "without saved weights",
    "damaged": "damaged",
    "missing": "left",
}


def _tokens(number: float, noun: str) -> str:
    millions = f"{number / 1e6:,.1f} M"
    return f"{millions} {noun}s" if number >= 1e6 else counted(round(number), noun)


def plan_table(plan: Plan) -> TextTable:
    """The plan for a terminal, seeds of an arm and size on one line."""
    from simtune.tables import TextTable

    left = plan.left
    costs = totals(left)
    table = TextTable(
        title=f"{counted(len(plan.trials), 'trial')}{_progress(plan)}; "
        + (f"{counted(plan.num_splits, 'split')}, of the first: " if plan.num_splits > 1 else "")
        + f"{counted(plan.pool_tasks, 'task')} in the pool, "
        f"{plan.test_tasks} held out, "
        f"{plan.dropped_tasks} dropped",
        caption=("Left: " if 0 < len(left) < len(plan.trials) else "")
        + (
            f"{counted(costs['num_steps'], 'step')}, {_tokens(costs['train_tokens'], 'training token')}, "
            f"{_tokens(costs['test_tokens'], 'test token')}. "
            if left
            else "Nothing is left to run. "
        )
        + f"Tokens: {plan.tokens_are}. "
        f"Effective batch {plan.effective_batch}. {plan.placement}."
        + (f" {plan.leaks}." if plan.leaks else "")
        + f" {plan.disk}."
        + (f" {plan.memory}." if plan.memory else "")
        + (f" {plan.retraining}." if plan.retraining else ""),
    )
    with_grid = any(trial.grid for trial in plan.trials)
    table.add_columns(*(("grid",) if with_grid else ()), "arm")
    with_done = any(trial.status == "done" for trial in plan.trials)
    table.add_number_columns("tasks", "seeds", *(("done",) if with_done else ()))
    table.add_number_columns("examples", "steps", "train tokens", "test tokens")
    table.add_columns("note")
    groups: dict[tuple[str, str, int | None], list[PlannedTrial]] = {}
    for trial in plan.trials:
        groups.setdefault((trial.grid, trial.arm, trial.size), []).append(trial)
    for (grid, arm, _), trials in groups.items():
        first = trials[0]
        seeds = ", ".join(str(trial.seed) for trial in trials if trial.seed is not None)
        numbers = (first.num_examples, first.num_steps, first.train_tokens, first.test_tokens)
        table.add_row(
            *((grid,) if with_grid else ()),
            arm,
            str(first.num_tasks),
            seeds,
            *((f"{sum(trial.status == 'done' for trial in trials)} of {len(trials)}",) if with_done else ()),
            *(f"{number:,}" for number in numbers),
            first.note,
        )
    return table


def _progress(plan: Plan) -> str:
    """How many trials are done, failed and left, in brackets; empty if none has been run."""
    counts = {text: sum(trial.status == status for trial in plan.trials) for status, text in _STATUSES.items()}
    if counts["left"] == len(plan.trials):
        return ""
    return f" ({', '.join(f'{number} {text}' for text, number in counts.items() if number)})"
