"""Drivers killed with SIGKILL at random moments and started again until the sweep is done, by `benchmarks/soak.py`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("soak", BENCHMARKS / "soak.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.mark.fault
@pytest.mark.slow
def test_ten_kills_lose_nothing_and_change_no_byte(soak: ModuleType, tmp_path: Path, embedding_cache: Path) -> None:
    found = soak.kill_loop(tmp_path, kills=10, seeds=2, executor="inline", seed=0, cache=embedding_cache)
    assert found["kills"] >= 10
    assert found["finished_trials"] >= 6


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.ray
def test_killed_drivers_on_ray_lose_nothing_and_leave_no_process(
    soak: ModuleType, tmp_path: Path, embedding_cache: Path
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    found = soak.kill_loop(tmp_path, kills=2, seeds=1, executor="local", seed=1, cache=embedding_cache)
    assert found["kills"] >= 2
    shutil.rmtree(tmp_path)
