"""Drivers killed with SIGKILL at random moments and started again until the sweep is done, by `benchmarks/soak.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import kill_loop


@pytest.mark.fault
@pytest.mark.slow
def test_ten_kills_lose_nothing_and_change_no_byte(tmp_path: Path, embedding_cache: Path) -> None:
    found = kill_loop(tmp_path, kills=10, seeds=2, executor="inline", seed=0, cache=embedding_cache)
    assert found["kills"] >= 10
    assert found["finished_trials"] >= 6
