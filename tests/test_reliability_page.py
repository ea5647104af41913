"""Every test that the reliability page names is there, and every fault it lists names one."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs/reliability.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    there = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 40
    assert sorted(named - there) == []
    assert [path for path in re.findall(r"`(tests/\S+)`", TEXT) if not (TESTS.parent / path).exists()] == []


def test_every_fault_has_a_test() -> None:
    table = TEXT[TEXT.index("| Fault |") :]
    rows = table[: table.index("\n\n")].splitlines()[2:]
    assert len(rows) >= 18
    assert [row for row in rows if not re.search(r"`test_\w+`", row.split("|")[3])] == []
