"""`list`: a fixed list of tasks, so that published subsets can be run."""

from __future__ import annotations

from simtune.errors import ConfigError
from simtune.selection.draft import Draft
from simtune.wording import counted, some


def task_list(draft: Draft) -> None:
    """The tasks that `names` gives, in its order; names that the pool does not have are left out.

    Optimises nothing: whoever published the list chose. O(N).

    Raises:
        ConfigError: the pool has none of them.
    """
    names: tuple[str, ...] = draft.parameters["names"]
    index = draft.graph.index
    known = [index[name] for name in names if name in index]
    if not known:
        raise ConfigError(
            f"list {draft.parameters['file']}: the pool has none of its {counted(len(names), 'task')} ({some(names)})"
        )
    draft.take_in_order(known)
