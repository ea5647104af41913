"""Corrections against worked examples of the papers' own kind and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simtune.report.statistics.multiple import benjamini_hochberg, holm

# The fifteen p-values of Benjamini and Hochberg (1995), section 4.1: Holm finds three of them, theirs finds four.
PAPER = [
    0.0001,
    0.0004,
    0.0019,
    0.0095,
    0.0201,
    0.0278,
    0.0298,
    0.0344,
    0.0459,
    0.3240,
    0.4262,
    0.5719,
    0.6528,
    0.7590,
    1.0,
]


def test_the_example_of_the_paper() -> None:
    assert sum(p <= 0.05 for p in holm(PAPER)) == 3
    assert sum(p <= 0.05 for p in benjamini_hochberg(PAPER)) == 4
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_it_is_scipys_correction_whatever_the_order() -> None:
    shuffled = list(np.random.default_rng(0).permutation(PAPER))
    assert benjamini_hochberg(shuffled) == pytest.approx(stats.false_discovery_control(shuffled))
    assert sorted(holm(shuffled)) == pytest.approx(holm(PAPER))
    assert holm([]) == benjamini_hochberg([]) == []
