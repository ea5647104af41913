"""Arms are told apart, also by colour-blind readers and on dark paper."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from simtune.report.arm_styles import arm_styles
from simtune.report.charts.theme import DARK_PAPER, LIGHT_PAPER, arm_looks, contrast
from simtune.report.table_metadata import ArmInfo, LineStyle
from simtune.selection.registry import BUILT_IN, strategy

# Machado, Oliveira and Fernandes 2009, of linear RGB, at full severity.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}


def lab(colour: str, blindness: str) -> np.ndarray:
    """A colour as it is seen, in CIE Lab."""
    given = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLINDNESS[blindness]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    root = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def infos(names: list[str], own: dict[str, LineStyle]) -> list[ArmInfo]:
    return [ArmInfo(name=name, type="strategy", style=own.get(name)) for name in names]


def built_in() -> list[ArmInfo]:
    styles = {name: style for name in BUILT_IN if (style := strategy(name).style)}
    return infos(list(BUILT_IN), {n: LineStyle(colour=s.colour, marker=s.marker) for n, s in styles.items()})


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("paper", ["light", "dark"])
def test_arms_differ_in_shape_or_clearly_in_colour(blindness: str, paper: str) -> None:
    for arms in (built_in(), infos([f"arm-{n}" for n in range(15)], {})):
        for first, second in combinations(arm_looks(arms), 2):
            distance = np.linalg.norm(lab(getattr(first, paper), blindness) - lab(getattr(second, paper), blindness))
            assert first.path != second.path or distance > 10, (first.name, second.name, distance)


def test_names_in_their_arms_colours_can_be_read() -> None:
    for look in arm_looks([*built_in(), *infos([f"arm-{n}" for n in range(15)], {})]):
        assert min(contrast(look.light, LIGHT_PAPER), contrast(look.dark, DARK_PAPER)) >= 4.5


def test_many_arms_have_a_look_each() -> None:
    names = [f"arm-{n}" for n in range(60)]
    assert len(set(arm_styles(names, {}).values())) == 60
