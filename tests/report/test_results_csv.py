from __future__ import annotations

import csv
import io

import pytest
from made_report import row, table

from simtune.report.results_csv import results_csv


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n=", " =", "＝", "\u200b="])
def test_csv_guards_formulas_but_not_numbers(start: str) -> None:
    made = row("different", 10, 0, -1.5, note=f"{start}cmd()", **{"training.shift": "-0.5"})
    text = results_csv(table([made]))
    (read,) = csv.DictReader(io.StringIO(text, newline=""))
    assert read["note"] == f"'{start}cmd()"
    assert (read["rouge_l"], read["training.shift"]) == ("-1.5", "-0.5")
