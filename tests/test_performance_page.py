"""The performance page shows the results that the benchmarks wrote."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "page.py"


def test_the_tables_are_the_committed_results() -> None:
    spec = importlib.util.spec_from_file_location("page", PAGE)
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- table:") == text.count("<!-- end -->") >= 7
    assert page.filled(text) == text, "run `python benchmarks/page.py`"
