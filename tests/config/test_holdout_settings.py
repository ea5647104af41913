"""A hold-out is exactly one rule."""

from __future__ import annotations

from typing import Any

import pytest

from simtune.config import Sweep, dump_sweep, expand_grid
from simtune.config.holdout import HoldoutSettings
from simtune.config.loading import validate
from simtune.config.yaml_text import read_yaml
from simtune.errors import ConfigError


def holdout(value: Any) -> HoldoutSettings:
    sweep = validate({"name": "s", "corpus": {"holdout": value}}, lambda path: ".".join(map(str, path)))
    return sweep.corpus.holdout


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "names no hold-out: give one of split, categories, clusters, source, task, random_per_category, tasks"),
        ({"split": "a", "task": "b"}, r"corpus\.holdout: names 2 hold-outs \(split, task\): keep one"),
        ({"categories": []}, r"corpus\.holdout\.categories: \[\] is wrong: expected a list of at least 1 value"),
        ({"category": "A"}, r"corpus\.holdout\.category: unknown key; did you mean"),
        ({"clusters": {"x": {}}}, r"clusters\.x: has neither tasks nor categories"),
        (
            {"clusters": {"x": {"tasks": "a", "related": "y"}}},
            "cluster 'x' related to 'y', which is not another cluster",
        ),
        (
            {"clusters": {"x": {"tasks": "a", "related": "x"}}},
            "cluster 'x' related to 'x', which is not another cluster",
        ),
        ({"clusters": {"x": {"tasks": "a", "held_out": False}}}, "holds out none of its clusters"),
        ({"random_per_category": {"num": 0}}, r"random_per_category\.num: 0 is wrong"),
        ({"tasks": {"train": ["a"]}}, r"corpus\.holdout\.tasks\.test: missing"),
    ],
)
def test_a_wrong_rule_is_named(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        holdout(value)


@pytest.mark.parametrize(
    ("value", "several"),
    [
        ({"split": "xlingual"}, False),
        ({"categories": "A"}, False),
        ({"categories": "each"}, True),
        ({"source": ["A", "B"]}, False),
        ({"task": "each"}, True),
        ({"random_per_category": {}}, False),
        ({"clusters": {"x": {"tasks": "a"}}}, False),
        ({"clusters": {"x": {"tasks": "a"}, "y": {"tasks": "b"}}}, True),
        ({"tasks": {"train": "a", "test": "b"}}, False),
    ],
)
def test_a_rule_alone_is_written_and_read_back(value: dict[str, Any], several: bool) -> None:
    rule = holdout(value)
    assert rule.gives_several == several
    sweep = Sweep.model_validate({"name": "s", "corpus": {"holdout": value}})
    written, _ = read_yaml(dump_sweep(sweep))
    assert list(written["corpus"]["holdout"]) == list(value) == [rule.rule]
    assert Sweep.model_validate(written) == sweep


def test_rules_can_be_swept() -> None:
    sweep = Sweep.model_validate({"name": "s", "grid": {"corpus.holdout": [{"split": "a"}, {"categories": "each"}]}})
    assert [point.sweep.corpus.holdout.rule for point in expand_grid(sweep)] == ["split", "categories"]
