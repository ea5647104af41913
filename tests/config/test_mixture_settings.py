"""A mixture is exactly one rule."""

from __future__ import annotations

from typing import Any

import pytest

from simtune.config.loading import validate
from simtune.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"oversample": 5, "proportional": {}}, r"mixture: has 2 rules \(oversample, proportional\)"),
        ({"oversample": 5, "examples_per_epoch": 9}, "mixture: has oversample and examples_per_epoch"),
        ({"oversample": 0}, r"mixture\.oversample: 0 is wrong: expected a whole number of at least 1"),
        ({"proportional": {"temperature": 0}}, r"mixture\.proportional\.temperature: 0 is wrong"),
        ({"per-template-cap": 0}, r"mixture\.per_template_cap: 0 is wrong"),
        ({"oversampel": 5}, r"mixture\.oversampel: unknown key; did you mean 'mixture\.oversample'"),
        ("even", "mixture: 'even' is wrong: expected equal, or a section with oversample, proportional,"),
        ("equl", r"mixture: 'equl' is wrong: .*; did you mean 'equal'\?"),
    ],
)
def test_a_wrong_mixture_is_named(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate({"name": "s", "mixture": value}, lambda path: ".".join(map(str, path)))
