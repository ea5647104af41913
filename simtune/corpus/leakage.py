"""The leak guard's evidence in texts: pool tasks that share name, source, definition or inputs with a test task.

Super-NaturalInstructions excludes tasks "drawn from the same source data set as a test task" from training (Wang et
al. 2022) by hand; here any corpus is searched for it. A pair can leak in several ways; each is a `Leak` of its own.
The result depends on the texts alone, not on the order of tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from simtune.config.settings import LeakageSettings
from simtune.corpus.normalised_text import normalised
from simtune.corpus.pool import TaskRecord, TaskSets
from simtune.corpus.source_datasets import source_names
from simtune.corpus.task import Task
from simtune.errors import CorpusError
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

Evidence = Literal["name", "source", "definition", "instances", "embedding"]
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)

MIN_INPUT_CHARACTERS = 30
"""Inputs shorter than this, normalised, are not evidence: "yes" or a country's name is shared by chance.

English carries about one bit a character (Shannon 1951), so 30 characters stand for one text in a billion, which is
how many pairs of a pool and a test instance a sweep has (75,000 x 12,000). Among the public tasks it is where pairs
of unrelated tasks end (lists of countries, short orders) and pairs from one source stay.
"""
# Similarities such as 1 - 1/20 must meet a threshold of 0.95 whatever a division rounds to.
_ROUNDING = 1e-9
_REASON_GROUP = "near-duplicate of a test task"


@dataclass(frozen=True, slots=True)
class Leak:
    """One piece of evidence that a pool task and a held-out task are near-duplicates.

    Attributes:
        value: 1 for a shared name or source, the similarity of definitions, the share of the pool task's drawn
            instances, or the cosine.
        detail: what is shared, to be read before "with test task NAME".
    """

    pool_task: str
    test_task: str
    evidence: Evidence
    value: float
    detail: str

    def __str__(self) -> str:
        return f"{self.detail} with test task {self.test_task}"


def text_leaks(pool: Sequence[Task], test: Sequence[Task], settings: LeakageSettings) -> tuple[Leak, ...]:
    """All evidence found in names, sources, definitions and instances.

    Linear in instances; quadratic only in the lengths of definitions (674 x 103 public tasks: under half a second,
    the instances another one and a half).

    Args:
        pool: with the instances that were drawn.
        test: with the instances that are evaluated.
        settings: thresholds, and which evidence counts.

    Returns:
        Sorted by evidence, strongest first, then by the names of the tasks.
    """
    leaks = [*_name_leaks(pool, test), *_definition_leaks(pool, test, settings.max_definition_similarity)]
    leaks += _instance_leaks(pool, test, settings.max_shared_instances)
    if settings.sources:
        leaks += _source_leaks(pool, test)
    return sorted_leaks(leaks)


def sorted_leaks(leaks: Iterable[Leak]) -> tuple[Leak, ...]:
    """By evidence, strongest first, then by the names of the tasks."""
    return tuple(
        sorted(leaks, key=lambda leak: (EVIDENCE.index(leak.evidence), -leak.value, leak.pool_task, leak.test_task))
    )


def shared_name(name: str, test_name: str) -> Leak:
    """The evidence that two tasks have the same name."""
    return Leak(name, test_name, "name", 1.0, "shares its name")


def without_leaks(tasks: TaskSets, leaks: Sequence[Leak]) -> TaskSets:
    """The same tasks without those of the pool that leak, which are recorded as dropped with the strongest reason.

    Raises:
        CorpusError: no pool task is left.
    """
    found: dict[str, list[Leak]] = {}
    for leak in sorted_leaks(leaks):
        found.setdefault(leak.pool_task, []).append(leak)
    pool = tuple(task for task in tasks.pool if task.name not in found)
    if not pool:
        raise CorpusError(
            f"remove would empty the pool: each of its {counted(len(tasks.pool), 'task')} leaks (the first: "
            f"{next(iter(found))} {next(iter(found.values()))[0]}). Check corpus.holdout, or raise the leakage "
            "thresholds",
            field="leakage",
        )

    def recorded(record: TaskRecord) -> TaskRecord:
        if record.role != "pool" or record.task not in found:
            return record
        first, *others = found[record.task]
        more = f" (and {len(others)} more in leaks.parquet)" if others else ""
        return replace(record, role="dropped", num_drawn=0, reason=f"leak: {first}{more}", reason_group=_REASON_GROUP)

    return replace(tasks, pool=pool, records=tuple(map(recorded, tasks.records)))


def leaks_table(leaks: Sequence[Leak]) -> pa.Table:
    """`leaks.parquet`: one row a piece of evidence."""
    import pyarrow as pa

    text = pa.string()
    columns = {"pool_task": text, "test_task": text, "evidence": text, "value": pa.float64(), "detail": text}
    return pa.table(
        {name: [getattr(leak, name) for leak in leaks] for name in columns}, schema=pa.schema(list(columns.items()))
    )


def _name_leaks(pool: Sequence[Task], test: Sequence[Task]) -> list[Leak]:
    def key(name: str) -> str:
        return name.casefold().removesuffix(".json")

    tested = _grouped((key(task.name), task.name) for task in test)
    return [shared_name(task.name, name) for task in pool for name in tested.get(key(task.name), ())]


def _source_leaks(pool: Sequence[Task], test: Sequence[Task]) -> list[Leak]:
    tested = _grouped((key, task.name) for task in test for key in source_names(task.sources))
    leaks = []
    for task in pool:
        sources = source_names(task.sources)
        shared = _grouped((name, sources[key]) for key in sources for name in tested.get(key, ()))
        leaks += [
            Leak(task.name, name, "source", 1.0, f"shares source {' and '.join(sorted(both))}")
            for name, both in shared.items()
        ]
    return leaks


def _definition_leaks(pool: Sequence[Task], test: Sequence[Task], least: float) -> list[Leak]:
    import numpy as np
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    pool_texts, test_texts = (
        {task.name: text for task in tasks if (text := normalised(task.definition))} for tasks in (pool, test)
    )
    if not pool_texts or not test_texts:
        return []
    pool_names, test_names = list(pool_texts), list(test_texts)
    cutoff = max(0.0, least - _ROUNDING)
    # One thread: the guard runs beside others, and the cutoff leaves it little to do.
    similarity_NT = cdist(
        list(pool_texts.values()),
        list(test_texts.values()),
        scorer=Levenshtein.normalized_similarity,
        score_cutoff=cutoff,
        dtype=np.float64,
        workers=1,
    )
    leaks = []
    for row, column in np.argwhere(similarity_NT >= cutoff).tolist():
        value = float(similarity_NT[row, column])
        detail = "shares its definition" if value == 1 else f"shares {value:.1%} of its definition"
        leaks.append(Leak(pool_names[row], test_names[column], "definition", value, detail))
    return leaks


def _instance_leaks(pool: Sequence[Task], test: Sequence[Task], most: float) -> list[Leak]:
    def inputs(task: Task) -> list[str]:
        texts = (normalised(instance.input) for instance in task.instances)
        return [text for text in texts if len(text) >= MIN_INPUT_CHARACTERS]

    tested = _grouped((text, task.name) for task in test for text in inputs(task))
    leaks = []
    for task in pool:
        counts = Counter(name for text in inputs(task) for name in tested.get(text, ()))
        total = len(task.instances)
        leaks += [
            Leak(
                task.name,
                name,
                "instances",
                count / total,
                f"shares the inputs of {count} of {counted(total, 'instance')}",
            )
            for name, count in counts.items()
            if count / total > most
        ]
    return leaks


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, set()).add(value)
    return groups
