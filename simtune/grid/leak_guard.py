"""The leak guard: near-duplicates of held-out tasks are refused, taken out of the pool, or allowed, and listed.

A score on a task that was as good as trained on says nothing about unseen tasks. Leaks in texts are found before
anything is written, and refused then where the policy says so. Once the tasks are embedded, one function adds the leaks
that the embeddings show and applies the policy to both; nothing is chosen or trained before that.

Legend: N tasks of the pool, T test tasks, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simtune.corpus.leakage import Leak, leaks_table, shared_name, sorted_leaks, text_leaks, without_leaks
from simtune.corpus.pool import TaskSets
from simtune.errors import CorpusError
from simtune.grid.grid_points import SUBSETS_FOLLOW, PointTasks, grid_label
from simtune.progress import Display
from simtune.selection.subsets import check_named_tasks, resolve_arms
from simtune.storage.files import AnyPath
from simtune.storage.parquet_files import write_table
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.embedding.embed import TaskEmbeddings

_MOST_LEAKS_SHOWN = 10
# Float32 vectors have length 1 to about this: equal ones must meet a threshold of 1.
_ROUNDING = 1e-6


def find_text_leaks(points: Sequence[PointTasks], display: Display) -> list[tuple[Leak, ...]]:
    """Finds the leaks that names, sources, definitions and instances show at each grid point; changes no point.

    What texts alone are enough to refuse is refused here, before anything is written.

    Raises:
        CorpusError: there are leaks and the policy is `error`, or removing them would empty the pool.
        ConfigError: the settings name a task that the pool does not have, or that would be removed.
    """
    found: dict[tuple[object, ...], tuple[Leak, ...]] = {}
    leaks_by_point = []
    with display.stage("look for leaks"):
        for point in points:
            tasks, leakage = point.tasks, point.sweep.leakage
            # Grid points share task sets, not copies of them.
            key = (id(tasks), leakage.max_definition_similarity, leakage.max_shared_instances, leakage.sources)
            if key not in found:
                both = [shared_name(name, name) for name in tasks.shared_names]
                found[key] = sorted_leaks((*both, *text_leaks(tasks.pool, point.scored, leakage)))
            _tasks_left(point, found[key], None)
            leaks_by_point.append(found[key])
    return leaks_by_point


def guard_leaks(
    points: Sequence[PointTasks],
    leaks_by_point: Sequence[tuple[Leak, ...]],
    display: Display,
    embeddings: Sequence[TaskEmbeddings] | None = None,
    run_directory: AnyPath | None = None,
) -> list[PointTasks]:
    """The same grid points with the tasks that the policy leaves, and with all their leaks.

    Args:
        points: as they were read.
        leaks_by_point: what `find_text_leaks` found at each.
        display: where leaks are reported.
        embeddings: of the tasks of each point; None looks at texts alone.
        run_directory: where `leaks.parquet` is written, whatever the policy; None writes nothing.

    Raises:
        CorpusError: there are leaks and the policy is `error`, or removing them would empty the pool.
        ConfigError: the settings name a task that was removed.
    """
    if embeddings is not None:
        leaks_by_point = [
            sorted_leaks((*leaks, *embedding_leaks(point, embedded)))
            for point, leaks, embedded in zip(points, leaks_by_point, embeddings, strict=True)
        ]
    listed = run_directory / "leaks.parquet" if run_directory is not None else None
    if listed is not None:
        _write(listed, points, leaks_by_point)
    guarded = [
        replace(point, tasks=_tasks_left(point, leaks, listed), leaks=leaks)
        for point, leaks in zip(points, leaks_by_point, strict=True)
    ]
    where = f"; {listed} lists them" if listed is not None else ""
    for line in dict.fromkeys(map(leaks_line, guarded)):
        if line:
            display.warn(line + where)
    return guarded


def embedding_leaks(point: PointTasks, embedded: TaskEmbeddings) -> tuple[Leak, ...]:
    """Pairs of pool and test tasks whose cosine reaches `leakage.max_similarity`."""
    pool, test = ([task.name for task in tasks] for tasks in (point.tasks.pool, point.scored))
    pool_ND, test_TD = (embedded.rows_of(names).astype(np.float64) for names in (pool, test))
    cosine_NT = np.clip(pool_ND @ test_TD.T, -1.0, 1.0)
    pairs_K2 = np.argwhere(cosine_NT >= point.sweep.leakage.max_similarity - _ROUNDING)
    leaks = []
    for row, column in pairs_K2.tolist():
        # Rounded: a matrix product's last digits depend on the order of tasks.
        value = round(float(cosine_NT[row, column]), 6)
        leaks.append(Leak(pool[row], test[column], "embedding", value, f"has cosine {value:.3f}"))
    return sorted_leaks(leaks)


def leaks_line(point: PointTasks) -> str:
    """The leaks of a guarded grid point in one line, and what became of them; empty where there are none."""
    if not point.leaks:
        return ""
    policy, number = point.sweep.leakage.policy, len({leak.pool_task for leak in point.leaks})
    end = "trained on anyway" if policy == "allow" else f"left out, {len(point.tasks.pool)} remain"
    return f"{_summary(point.leaks)}; {counted(number, 'pool task')} {end} (leakage: {policy})"


def _tasks_left(point: PointTasks, leaks: tuple[Leak, ...], listed: AnyPath | None) -> TaskSets:
    """The tasks that the policy leaves a grid point; they must have what its settings name."""
    tasks, policy, selection = point.tasks, point.sweep.leakage.policy, point.sweep.selection
    if leaks and policy == "error":
        raise CorpusError(_refusal(point, leaks, listed))
    if leaks and policy == "remove":
        tasks = without_leaks(tasks, leaks)
    check_named_tasks(resolve_arms(selection), selection, {task.name for task in tasks.pool}, tasks.why_absent)
    return tasks


def _refusal(point: PointTasks, leaks: Sequence[Leak], listed: AnyPath | None) -> str:
    """What leaks, by which evidence, and the three things to do."""
    leakage = point.sweep.leakage
    lines = [f"{point.sweep.corpus.path}: {_summary(leaks)}"]
    lines += [f"  {leak.pool_task} {leak}" for leak in leaks[:_MOST_LEAKS_SHOWN]]
    if len(leaks) > _MOST_LEAKS_SHOWN:
        lines.append(f"  ... and {len(leaks) - _MOST_LEAKS_SHOWN} more" + (f" ({listed})" if listed else ""))
    thresholds = {
        "source": "--set leakage.sources=false",
        "definition": f"a leakage.max_definition_similarity above {leakage.max_definition_similarity:g}",
        "instances": f"a leakage.max_shared_instances above {leakage.max_shared_instances:g}",
        "embedding": f"a leakage.max_similarity above {leakage.max_similarity:g}",
    }
    found = {leak.evidence for leak in leaks}
    raised = [text for evidence, text in thresholds.items() if evidence in found]
    either = f"; or, if they are not duplicates, {' and '.join(raised)}" if raised else ""
    number = len({leak.pool_task for leak in leaks})
    return "\n".join(lines) + (
        f"\nTrain without {counted(number, 'pool task')}: --set leakage.policy=remove; train on all of them "
        f"anyway, with every pair listed in the run's leaks.parquet: --set leakage.policy=allow{either}"
    )


def _summary(leaks: Sequence[Leak]) -> str:
    pairs = len({(leak.pool_task, leak.test_task) for leak in leaks})
    counts = Counter(leak.evidence for leak in leaks)
    by_evidence = ", ".join(f"{number} by {evidence}" for evidence, number in counts.items())
    pool, test = len({leak.pool_task for leak in leaks}), len({leak.test_task for leak in leaks})
    return (
        f"{counted(pairs, 'pair')} of pool and held-out tasks {'leaks' if pairs == 1 else 'leak'} ({by_evidence}): "
        f"{pool} of the pool, {test} held out"
    )


def _write(path: AnyPath, points: Sequence[PointTasks], leaks_by_point: Sequence[tuple[Leak, ...]]) -> None:
    """Writes all leaks; column `grid` says which swept values rows belong to."""
    import pyarrow as pa

    by_label: dict[str, dict[Leak, None]] = {}
    for point, leaks in zip(points, leaks_by_point, strict=True):
        by_label.setdefault(grid_label(point.point.values, SUBSETS_FOLLOW), {}).update(dict.fromkeys(leaks))
    parts = [
        table.add_column(0, "grid", pa.array([label] * len(table), pa.string()))
        for label, leaks in by_label.items()
        for table in [leaks_table(sorted_leaks(leaks))]
    ]
    write_table(path, pa.concat_tables(parts).combine_chunks())
