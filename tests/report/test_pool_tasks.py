from __future__ import annotations

from simtune.report.pool_tasks import reason_counts


def test_reasons_that_differ_in_a_number_are_counted_together() -> None:
    reasons = ["29 instances, fewer than 100", "3 instances, fewer than 100", "no instances"]
    assert reason_counts(reasons) == [("… instances, fewer than 100", 2), ("no instances", 1)]
