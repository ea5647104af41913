"""Imported by drivers: at the end of a run all CPUs must be free, and a Ray that is stopped may count as lost early."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray

from simtune.executors import ray_head_watch
from simtune.executors.ray_executor import RayExecutor


def check_cpus() -> None:
    """Makes this process check at the end of its run that Ray has all CPUs back."""
    RayExecutor.__exit__ = _counted  # type: ignore[method-assign]
    if "TEST_SILENT_S" in os.environ:
        limits = replace(ray_head_watch.LIMITS["local"], unresponsive_s=float(os.environ["TEST_SILENT_S"]))
        ray_head_watch.LIMITS["local"] = limits


def _counted(self: RayExecutor, *error: Any, real: Callable[..., None] = RayExecutor.__exit__) -> None:
    ends = time.monotonic() + 60
    # An interrupted driver does not wait for them.
    undisturbed = self._ray is not None and error[0] is None
    while undisturbed and ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        if time.monotonic() > ends:
            sys.exit(f"CPUs were not given back: {ray.available_resources()} of {ray.cluster_resources()}")
        time.sleep(0.2)
    real(self, *error)
