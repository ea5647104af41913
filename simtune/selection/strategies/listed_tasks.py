"""`list`: a fixed list of tasks from a file, so that published subsets can be used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from simtune.errors import ConfigError
from simtune.selection.partial_subset import PartialSubset
from simtune.selection.strategy import Parameter, Strategy
from simtune.wording import counted, nearest

_MOST_SHOWN = 50
# More absent names are unlikely to be typing errors.
_MOST_CORRECTED = 5


def task_list(subset: PartialSubset) -> None:
    """The tasks that `file` names, in its order; a name that the pool does not have is an error, or skipped.

    Optimises nothing: the choice was made by the author of the list. O(N).
    """
    index = subset.graph.index
    subset.add_in_order([index[name] for name in subset.parameters["names"] if name in index])


def check_list(parameters: Mapping[str, Any], pool: Collection[str], why_absent: Callable[[str], str]) -> None:
    """Refuses a list with names that the pool does not have, unless they are to be skipped and others remain.

    Args:
        parameters: the strategy's.
        pool: names of its tasks.
        why_absent: why the pool does not have a task of this name.

    Raises:
        ConfigError: it names each of them and why.
    """
    names = parameters["names"]
    absent = [name for name in names if name not in pool]
    if not absent or (parameters["missing"] == "skip" and len(absent) < len(names)):
        return
    if len(absent) < len(names):
        remedy = "correct the list, or skip such names with missing: skip"
    else:
        remedy = "check that it is a list of this corpus"
    raise ConfigError(
        f"list {parameters['file']}: the pool does not have {len(absent)} of its {counted(len(names), 'task')}: "
        f"{_reasons(absent, pool, why_absent)}; {remedy}"
    )


def skipped_note(arm: str, parameters: Mapping[str, Any], pool: Collection[str], why: Callable[[str], str]) -> str:
    """The warning for names of a list that are skipped; empty where there are none."""
    absent = [name for name in parameters.get("names", ()) if name not in pool]
    if not absent:
        return ""
    return f"{arm}: {counted(len(absent), 'name')} of its list skipped: {_reasons(absent, pool, why)}"


def _reasons(absent: Sequence[str], pool: Collection[str], why_absent: Callable[[str], str]) -> str:
    """Names that a pool does not have, each with the reason and the name that may be meant."""
    shown = []
    for name in absent[:_MOST_SHOWN]:
        meant = nearest(name, pool) if len(absent) <= _MOST_CORRECTED else ""
        why = f"{why_absent(name)}{meant}".removeprefix("; ")
        shown.append(f"{name} ({why})" if why else name)
    return ", ".join(shown) + (f", and {len(absent) - _MOST_SHOWN:,} more" if len(absent) > _MOST_SHOWN else "")


LIST = Strategy(
    task_list,
    {
        "file": Parameter("", help="task names, one per line"),
        "missing": Parameter(
            "refuse", choices=("refuse", "skip"), help="what to do about names that the pool does not have"
        ),
    },
    names_tasks=True,
    known_for="published subsets; a name that the pool does not have is refused with the reason (a test task, dropped "
    "by which rule, not in this corpus), or left out with `missing: skip`",
)
