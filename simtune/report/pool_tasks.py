"""Which tasks a run could train on, and why the others could not be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from simtune.report.page.tables import Column, PageTable, page_table
from simtune.report.results_view import natural_key, one_line
from simtune.wording import counted


@dataclass(frozen=True)
class PoolPart:
    """What the page shows of the pool.

    Attributes:
        roles: counts by role.
        leaks: a sentence on near-duplicates of test tasks; empty where nothing is known.
        reasons: of the dropped tasks, as counts; None where none was dropped.
        dropped: every dropped task.
        dropped_summary: heading of `dropped`.
    """

    roles: PageTable
    leaks: str
    reasons: PageTable | None
    dropped: PageTable
    dropped_summary: str


def pool_part(tasks: pa.Table, leaks: pa.Table | None = None) -> PoolPart:
    """Counts by role, what leaks, reasons of the dropped tasks as counts, and every dropped task by name.

    Args:
        tasks: tasks.parquet.
        leaks: leaks.parquet, where the run has one.
    """
    rows = tasks.to_pylist()
    dropped = sorted((row for row in rows if row["role"] == "dropped"), key=lambda row: natural_key(row["task"]))
    groups = Counter(one_line(row["reason_group"] or "no reason recorded") for row in dropped)
    counts = [[group, f"{groups[group]:,}"] for group in sorted(groups, key=lambda group: (-groups[group], group))]
    return PoolPart(
        roles=_roles(rows),
        leaks="" if leaks is None else _leak_sentence(leaks.to_pylist(), rows),
        reasons=page_table("Why tasks were dropped.", ["reason", "tasks"], counts) if dropped else None,
        dropped=page_table("Dropped tasks.", ["task", "instances", Column("reason", True)], map(_dropped, dropped)),
        dropped_summary=f"All {counted(len(dropped), 'dropped task')}",
    )


def _roles(rows: list[dict[str, Any]]) -> PageTable:
    lines = []
    for role, label in (
        ("pool", "kept in the pool"),
        ("test", "held out for testing"),
        ("dropped", "dropped"),
    ):
        own = [row for row in rows if row["role"] == role]
        instances = sum(row["num_instances"] or 0 for row in own)
        categories = len({row["category"] for row in own if row["category"] is not None})
        lines.append([label, f"{len(own):,}", f"{categories:,}", f"{instances:,}"])
    return page_table("Tasks by role.", ["role", "tasks", "categories", "instances"], lines)


def _leak_sentence(leaks: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> str:
    """How many pairs leak, by evidence, and whether they were trained on."""
    if not leaks:
        return "Leak guard: no train task was found to be a near-duplicate of a test task."
    # A grid lists a pair at each of its points.
    pairs = {(leak["evidence"], leak["pool_task"], leak["test_task"]) for leak in leaks}
    counts = Counter(evidence for evidence, *_ in pairs)
    by_evidence = ", ".join(f"{count:,} by {evidence}" for evidence, count in sorted(counts.items()))
    leaking = {pool_task for _, pool_task, _ in pairs}
    in_pool = leaking & {row["task"] for row in tasks if row["role"] == "pool"}
    return (
        f"Leak guard: {counted(len({pair[1:] for pair in pairs}), 'near-duplicate pair')} of train and test tasks "
        f"({by_evidence}). Train tasks in these pairs: {len(leaking):,}, of which {len(in_pool):,} in the pool. "
        "leaks.parquet has every pair."
    )


def _dropped(row: dict[str, Any]) -> list[str]:
    count = row["num_instances"]
    return [row["task"], "–" if count is None else f"{count:,}", row["reason"] or ""]
