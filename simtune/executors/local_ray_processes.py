"""How processes of a local Ray start: only those that are of use, on the loopback interface, in groups of their own.

What is replaced here is internal to Ray 2.60. Where a later Ray has none of it, all processes start, as they would
without this module.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

UNUSED_SERVERS = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of Ray's `Node` that start the autoscaler, the sender of workers' logs to the driver, and the dashboard."""

_leaves_group = False


def _leave_group() -> None:
    if _leaves_group:
        os.setpgrp()


os.register_at_fork(after_in_child=_leave_group)


@contextlib.contextmanager
def own_process_groups() -> Iterator[None]:
    """Puts processes that are started meanwhile in process groups of their own.

    So they do not get the signals that a terminal or `timeout` sends to this process's group: if the raylet ended, Ray
    would end this process immediately, even in the middle of its clean-up.
    """
    global _leaves_group
    _leaves_group = True
    try:
        yield
    finally:
        _leaves_group = False


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Keeps this process on the loopback interface, since it has already read its environment; reloads the token."""
    from ray import _raylet
    from ray._private import ray_constants

    tokens: Any = _raylet.AuthenticationTokenLoader  # type: ignore[attr-defined]
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    tokens.instance().reset_cache()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        tokens.instance().reset_cache()


@contextlib.contextmanager
def without_unused_servers() -> Iterator[None]:
    """Starts no autoscaler, no sender of logs and no dashboard, which are three processes of a local Ray.

    One machine cannot grow, this process asks for no logs, and nobody can open the dashboard: `ray.init` starts its
    server even where it is told to leave the dashboard out.
    """
    from ray._private.node import Node

    with contextlib.ExitStack() as replaced:
        for name in UNUSED_SERVERS:
            if method := getattr(Node, name, None):
                setattr(Node, name, lambda self, **settings: None)
                replaced.callback(setattr, Node, name, method)
        yield
