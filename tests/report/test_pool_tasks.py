from __future__ import annotations

import pyarrow as pa

from simtune.report.pool_tasks import pool_part


def test_reasons_are_counted_by_their_group_and_each_dropped_task_has_its_own() -> None:
    few = "fewer than min_instances: 100"
    rows = [
        {"task": f"t{count}", "role": "dropped", "category": "qa", "num_instances": count}
        | {"reason": f"instances: {count}, {few}", "reason_group": few}
        for count in (3, 29)
    ]
    gone = {"task": "gone", "role": "dropped", "category": "", "num_instances": 0, "reason": "no", "reason_group": "no"}
    part = pool_part(pa.Table.from_pylist([*rows, gone]))
    assert part.reasons is not None
    assert [[cell.text for cell in row] for row in part.reasons.rows] == [[few, "2"], ["no", "1"]]
    assert [row[2].text for row in part.dropped.rows] == ["no", f"instances: 3, {few}", f"instances: 29, {few}"]
