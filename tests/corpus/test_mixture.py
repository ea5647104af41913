"""Examples of each task per epoch, by the formulas of the systems that used them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtune.config import Sweep
from simtune.config.mixture import MixtureSettings
from simtune.corpus.mixture import TaskShare, example_positions, task_shares

SIZES = {"big": 100_000, "middle": 10_000, "small": 1_000}


def mixture(value: Any) -> MixtureSettings:
    return Sweep.model_validate({"name": "s", "mixture": value}).mixture


def examples(value: Any, sizes: dict[str, int] = SIZES, **templates: int) -> list[int]:
    return [share.num_examples for share in task_shares(sizes, mixture(value), templates).values()]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("equal", [100_000, 10_000, 1_000]),
        ({"examples_per_epoch": 100}, [34, 33, 33]),
        ({"oversample": 6500}, [6500, 6500, 6500]),
        ({"proportional": {}}, [100_000, 10_000, 1_000]),
        ({"proportional": {}, "examples_per_epoch": 1110}, [1000, 100, 10]),
        # FLAN: data sets cut to 30,000 and rates to 3,000.
        ({"proportional": {"cap": 30_000, "max_rate": 3_000}, "examples_per_epoch": 700}, [300, 300, 100]),
        ({"proportional": {"cap": 30_000}}, [30_000, 10_000, 1_000]),
        ({"proportional": {"cap": 10_000, "max_rate": 1_000}}, [7000, 7000, 7000]),
        # Square roots: 316.2, 100 and 31.6.
        ({"proportional": {"temperature": 2.0}, "examples_per_epoch": 4478}, [3162, 1000, 316]),
        ({"per-template-cap": 50_000}, [50_000, 10_000, 1_000]),
        ({"per_template_cap": 50_000, "examples_per_epoch": 610}, [500, 100, 10]),
    ],
)
def test_rates_follow_the_rule(rule: Any, expected: list[int]) -> None:
    assert examples(rule) == expected


@pytest.mark.parametrize("temperature", [0.001, 1e-300, 5e-324])
def test_at_a_low_temperature_the_largest_task_has_all_examples(temperature: float) -> None:
    assert examples({"proportional": {"temperature": temperature}}) == [111_000, 0, 0]


def test_so_many_examples_that_they_are_no_number_are_refused() -> None:
    for rule in ({"oversample": 10**400}, {"examples_per_epoch": 10**400}):
        with pytest.raises(ValueError, match="less than or equal to"):
            mixture(rule)


def test_each_template_of_a_task_within_the_cap_counts_its_instances() -> None:
    # T0: a data set of more than the cap counts as cap / templates for each of them, a smaller one as it is.
    assert examples({"per-template-cap": 50_000}, big=5, small=5) == [50_000, 10_000, 5_000]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 5000), min_size=1, max_size=12),
    st.integers(1, 10_000),
    st.sampled_from([{}, {"proportional": {"cap": 700, "max_rate": 90, "temperature": 1.7}}, {"per_template_cap": 50}]),
)
def test_an_epoch_has_exactly_so_many_examples_whatever_the_order_of_tasks(
    sizes: dict[str, int], total: int, rule: dict[str, Any]
) -> None:
    shares = task_shares(sizes, mixture({**rule, "examples_per_epoch": total}))
    assert sum(share.num_examples for share in shares.values()) == total
    backwards = dict(reversed(sizes.items()))
    assert task_shares(backwards, mixture({**rule, "examples_per_epoch": total})) == shares
    larger = [(sizes[a], shares[a].num_examples) for a in sorted(sizes, key=lambda name: sizes[name])]
    assert all(few <= many + 1 for (_, few), (_, many) in pairwise(larger))


@pytest.mark.parametrize("num_examples", [1, 3, 7, 10, 25])
def test_no_instance_comes_again_before_all_others_have_come(num_examples: int) -> None:
    share = TaskShare(num_instances=10, num_used=7, num_examples=num_examples)
    epochs = [example_positions("task1", share, epoch, seed=3) for epoch in range(20)]
    assert {len(epoch) for epoch in epochs} == {num_examples}
    stream = np.concatenate(epochs).tolist()
    used = sorted(set(stream))
    assert len(used) == 7
    passes = [stream[start : start + 7] for start in range(0, len(stream) - 6, 7)]
    assert all(sorted(dealt) == used for dealt in passes)
    assert len(passes) < 3 or len({tuple(dealt) for dealt in passes}) > 1
    # Which instances are used is the task's alone; in which order, the seed's too.
    other = np.concatenate([example_positions("task1", share, epoch, seed=4) for epoch in range(20)]).tolist()
    assert sorted(set(other)) == used
    assert other != stream
    everything = TaskShare(num_instances=10, num_used=10, num_examples=5)
    assert (
        example_positions("task1", everything, 0, 3).tolist() != example_positions("task2", everything, 0, 3).tolist()
    )
