"""Drivers killed with SIGKILL at random moments and started again until the sweep is done, by `benchmarks/soak.py`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from soak import kill_loop


@pytest.mark.fault
@pytest.mark.slow
def test_ten_kills_lose_nothing_and_change_no_byte(tmp_path: Path, embedding_cache: Path) -> None:
    found = kill_loop(tmp_path, kills=10, seeds=2, executor="inline", seed=0, cache=embedding_cache)
    assert found["kills"] >= 10
    assert found["finished_trials"] >= 6


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.ray
def test_killed_drivers_on_ray_lose_nothing_and_leave_no_process(tmp_path: Path, embedding_cache: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    found = kill_loop(tmp_path, kills=2, seeds=1, executor="local", seed=1, cache=embedding_cache)
    assert found["kills"] >= 2
    shutil.rmtree(tmp_path)
