"""The leak guard: near-duplicates of held-out tasks are refused, taken out of the pool, or allowed, and listed.

A score on a task that was as good as trained on says nothing about unseen tasks. Texts are looked at before anything
is written, embeddings as soon as they are there; in between nothing is trained that lasts.

Legend: N tasks of the pool, T test tasks, D dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simtune.corpus.leakage import Leak, leaks_table, shared_name, sorted_leaks, text_leaks, without_leaks
from simtune.errors import CorpusError
from simtune.progress import Display
from simtune.storage.files import AnyPath
from simtune.storage.parquet_files import write_table
from simtune.sweep.grid_points import PointTasks, check_names
from simtune.wording import counted

if TYPE_CHECKING:
    from simtune.embedding.embed import TaskEmbeddings

_MOST_LEAKS_SHOWN = 10
# Float32 vectors have length 1 to about this: equal ones must meet a threshold of 1.
_ROUNDING = 1e-6
_DECIDING = ("corpus.", "leakage.", "embedding.", "evaluation.instances_per_task")


def guard_texts(tasks_by_point: Sequence[PointTasks]) -> list[PointTasks]:
    """Looks for leaks in names, sources, definitions and instances, and does what each grid point's policy says.

    Raises:
        CorpusError: there are leaks and the policy is `error`, or removing them would empty the pool.
        ConfigError: the settings name a task that was removed.
    """
    found: dict[tuple[object, ...], tuple[Leak, ...]] = {}
    guarded = []
    for prepared in tasks_by_point:
        tasks, leakage = prepared.tasks, prepared.sweep.leakage
        # Grid points share task sets, not copies of them.
        key = (id(tasks), leakage.max_definition_similarity, leakage.max_shared_instances, leakage.sources)
        if key not in found:
            both = [shared_name(name, name) for name in tasks.shared_names]
            found[key] = (*both, *text_leaks(tasks.pool, prepared.scored, leakage))
        guarded.append(_apply_policy(_with(prepared, found[key]), found[key], None))
    check_names(guarded)
    return guarded


def guard_embeddings(
    tasks_by_point: Sequence[PointTasks],
    embeddings: Sequence[TaskEmbeddings],
    display: Display,
    run_directory: AnyPath | None = None,
) -> list[PointTasks]:
    """Looks for leaks in the embeddings, applies the policy of each grid point, and reports all leaks so far.

    Args:
        tasks_by_point: with the leaks that their texts show.
        embeddings: of the tasks of each grid point, in the same order.
        display: where leaks are reported.
        run_directory: where `leaks.parquet` is written, whatever the policy; None writes nothing.

    Raises:
        CorpusError: as of `guard_texts`; the list is written anyway.
    """
    found = [embedding_leaks(prepared, embedded) for prepared, embedded in zip(tasks_by_point, embeddings, strict=True)]
    prepared_points = [_with(prepared, leaks) for prepared, leaks in zip(tasks_by_point, found, strict=True)]
    listed = run_directory / "leaks.parquet" if run_directory is not None else None
    if listed is not None:
        _write(listed, prepared_points)
    guarded = [_apply_policy(prepared, leaks, listed) for prepared, leaks in zip(prepared_points, found, strict=True)]
    where = f"; {listed} lists them" if listed is not None else ""
    for told in dict.fromkeys(leaks_line(prepared) for prepared in guarded):
        if told:
            display.warn(told + where)
    return guarded


def embedding_leaks(prepared: PointTasks, embedded: TaskEmbeddings) -> tuple[Leak, ...]:
    """Pairs of pool and test tasks whose cosine reaches `leakage.max_similarity`."""
    pool, test = ([task.name for task in tasks] for tasks in (prepared.tasks.pool, prepared.scored))
    pool_ND, test_TD = (embedded.rows_of(names).astype(np.float64) for names in (pool, test))
    cosine_NT = np.clip(pool_ND @ test_TD.T, -1.0, 1.0)
    pairs_K2 = np.argwhere(cosine_NT >= prepared.sweep.leakage.max_similarity - _ROUNDING)
    leaks = []
    for row, column in pairs_K2.tolist():
        # Rounded: a matrix product's last digits depend on the order of tasks.
        value = round(float(cosine_NT[row, column]), 6)
        leaks.append(Leak(pool[row], test[column], "embedding", value, f"has cosine {value:.3f}"))
    return sorted_leaks(leaks)


def leaks_line(prepared: PointTasks) -> str:
    """The leaks of a grid point in one line, and what became of them; empty where there are none."""
    if not prepared.leaks:
        return ""
    leaked = {leak.pool_task for leak in prepared.leaks}
    pool = {task.name for task in prepared.tasks.pool}
    end = "trained on anyway" if leaked <= pool else "left out"
    return f"{_summary(prepared.leaks)}; the {len(leaked)} are {end} (leakage: {prepared.sweep.leakage.policy})"


def _with(prepared: PointTasks, leaks: tuple[Leak, ...]) -> PointTasks:
    return replace(prepared, leaks=sorted_leaks((*prepared.leaks, *leaks))) if leaks else prepared


def _apply_policy(prepared: PointTasks, leaks: tuple[Leak, ...], listed: AnyPath | None) -> PointTasks:
    if not leaks or prepared.sweep.leakage.policy == "allow":
        return prepared
    if prepared.sweep.leakage.policy == "error":
        raise CorpusError(_refusal(prepared, leaks, listed))
    tasks = without_leaks(prepared.tasks, leaks)
    kept = {task.name for task in (*tasks.pool, *tasks.test)}
    fingerprints = {name: value for name, value in prepared.task_fingerprints.items() if name in kept}
    return replace(prepared, tasks=tasks, task_fingerprints=fingerprints)


def _refusal(prepared: PointTasks, leaks: Sequence[Leak], listed: AnyPath | None) -> str:
    """What leaks, by which evidence, and the three things to do."""
    leakage = prepared.sweep.leakage
    lines = [f"{prepared.sweep.corpus.path}: {_summary(leaks)}"]
    lines += [f"  {leak.pool_task} {leak}" for leak in leaks[:_MOST_LEAKS_SHOWN]]
    if len(leaks) > _MOST_LEAKS_SHOWN:
        lines.append(f"  ... and {len(leaks) - _MOST_LEAKS_SHOWN} more" + (f" ({listed})" if listed else ""))
    thresholds = {
        "source": "set leakage.sources=false",
        "definition": f"raise leakage.max_definition_similarity from {leakage.max_definition_similarity:g}",
        "instances": f"raise leakage.max_shared_instances from {leakage.max_shared_instances:g}",
        "embedding": f"raise leakage.max_similarity from {leakage.max_similarity:g}",
    }
    found = {leak.evidence for leak in leaks}
    raised = [text for evidence, text in thresholds.items() if evidence in found]
    either = f"; or, if they are no duplicates, {', '.join(raised)}" if raised else ""
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


def _write(path: AnyPath, prepared_points: Sequence[PointTasks]) -> None:
    """Writes all leaks; column `grid` says which swept values rows belong to."""
    import pyarrow as pa

    tables: dict[str, pa.Table] = {}
    for prepared in prepared_points:
        label = ", ".join(f"{key}={value}" for key, value in prepared.point.values if key.startswith(_DECIDING))
        tables.setdefault(label, leaks_table(prepared.leaks))
    parts = [
        table.add_column(0, "grid", pa.array([label] * len(table), pa.string())) for label, table in tables.items()
    ]
    write_table(path, pa.concat_tables(parts).combine_chunks())
