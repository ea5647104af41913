from __future__ import annotations

import time
from pathlib import Path

import pytest

from simtune.storage.files import as_path
from simtune.storage.many_files import in_threads, read_each


def test_results_are_in_the_order_of_the_items_and_the_error_is_that_of_the_first() -> None:
    def work(number: int) -> int:
        time.sleep(0.001 * (5 - number))
        if number in (2, 4):
            raise ValueError(f"item {number}")
        return 10 * number

    assert in_threads(work, [0, 3, 1]) == [0, 30, 10]
    with pytest.raises(ValueError, match="item 2"):
        in_threads(work, [1, 2, 3, 4])


@pytest.mark.parametrize("root", [Path("runs"), as_path("s3://bucket/runs")], ids=str)
def test_each_item_is_read_once(root: Path) -> None:
    asked: list[str] = []
    assert read_each(root, ["b", "a", "b"], lambda item: asked.append(item) or item * 2) == {"b": "bb", "a": "aa"}
    assert sorted(asked) == ["a", "b"]
