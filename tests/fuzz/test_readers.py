"""Whatever a file from outside contains, its reader returns or says what is wrong, and uses no damaged data."""

from __future__ import annotations

from typing import Any

import fuzz_runs  # noqa: F401
import pytest
from fuzz_targets import TARGETS, attempt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_returns_or_says_what_is_wrong(name: str, tmp_path) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=target.examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def tried(data: Any) -> None:
        attempt(name, data.draw(target.inputs()), tmp_path / "given")

    tried()
