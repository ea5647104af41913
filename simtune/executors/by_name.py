"""From `--executor` to an executor; Ray is imported only where it is asked for."""

from __future__ import annotations

from simtune.executors.base import Executor, ExecutorName, InlineExecutor


def make_executor(name: ExecutorName) -> Executor:
    """The executor of this name; those on Ray start it when they are first used."""
    if name == "inline":
        return InlineExecutor()
    from simtune.executors.ray_tune import RayExecutor

    return RayExecutor(name)
