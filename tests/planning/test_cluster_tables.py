from __future__ import annotations

import pytest

from simtune.planning.cluster_tables import shown_duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *((0.4, "0 s"), (119.4, "119 s"), (120, "2.0 min"), (7199, "120.0 min"), (7200, "2.0 h")),
        *((172_799, "48.0 h"), (172_800, "2.0 days"), (86_400 * 1234.5, "1,234.5 days")),
    ],
)
def test_a_duration_is_in_the_largest_unit_of_which_there_are_two(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown
