from __future__ import annotations

import re
from pathlib import Path

from simtune.report.page import render


def test_no_template_switches_escaping_off() -> None:
    templates = sorted((Path(render.__file__).parent / "templates").rglob("*.*"))
    assert len(templates) > 8
    for path in templates:
        assert not re.search(r"\bsafe\b|autoescape|forceescape", path.read_text()), path.name
