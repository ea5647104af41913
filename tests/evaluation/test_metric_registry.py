"""What a metric returns is checked, whoever wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from simtune.errors import ExtensionError
from simtune.evaluation.metric_registry import Metric
from simtune.evaluation.metrics import rouge_tokenize

PAIRS = [("yes", ("yes", "true")), ("no", ("yes",))]


def of_each(values: Sequence[Any]) -> list[float]:
    return Metric("own", "own", 1, "generate", lambda pairs, tokenize: values).of_each(PAIRS, rouge_tokenize)


def test_numbers_of_any_kind_are_floats() -> None:
    assert of_each([True, 3]) == [1.0, 3.0]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([1.0], "^metric own: returned 1 number; expected 2, one for each$"),
        ([1.0, "much"], "^metric own failed: ValueError: could not convert string to float: 'much'. Add --debug"),
        (None, "^metric own failed: TypeError: "),
        ([1.0, float("nan")], r"^metric own: returned nan for 'no' with the references \('yes',\)$"),
    ],
)
def test_what_is_not_one_finite_number_for_each_prediction_names_the_metric(values: Any, complaint: str) -> None:
    with pytest.raises(ExtensionError, match=complaint):
        of_each(values)
