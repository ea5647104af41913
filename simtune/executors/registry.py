"""Executors by the name that `--executor` takes; ray is imported only for those that use it."""

from __future__ import annotations

from simtune.executors.base import Executor, ExecutorName
from simtune.executors.inline import InlineExecutor


def make_executor(name: ExecutorName) -> Executor:
    """The executor of this name. One that uses Ray starts it on first use; leaving its `with` block stops it."""
    if name == "inline":
        return InlineExecutor()
    from simtune.executors.ray_executor import RayExecutor

    return RayExecutor(name)
