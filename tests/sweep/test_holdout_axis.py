"""Several splits of one corpus are one sweep with one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simtune.config import CorpusSettings, EvaluationSettings, Sweep, load_sweep
from simtune.errors import ConfigError, UserError
from simtune.grid.grid_points import grid_points, open_tasks
from simtune.inspection.find_subset import find_subset
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.storage.parquet_files import read_table
from simtune.sweep.train_one import train_one
from sweeps import run


def fields_with(tiny_sweep: dict[str, Any], holdout: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A sweep that trains one model a split and scores three baselines."""
    return {
        **tiny_sweep,
        "corpus": {**tiny_sweep["corpus"], "holdout": holdout},
        "leakage": "remove",
        "selection": {"strategies": ["random"], "sizes": [2], "seeds": [0]},
        "evaluation": {"instances_per_task": 2, "max_new_tokens": 2},
        **more,
    }


@pytest.fixture(scope="module")
def categories() -> list[str]:
    """Of the demo corpus, sorted."""
    from simtune.corpus.demo import demo_tasks

    return sorted({task["Categories"][0] for task in demo_tasks().values()}, key=str.casefold)


@pytest.mark.slow
def test_leave_one_category_out_over_a_whole_corpus_is_one_table(
    tiny_sweep: dict[str, Any], categories: list[str]
) -> None:
    fields = fields_with(tiny_sweep, {"categories": "each"}, baselines=["copy-input"])
    outcome = run(fields)
    rows = outcome.results.to_pylist()
    trained = {row["corpus.holdout"]: row for row in rows if row["arm"] == "random"}
    assert list(trained) == categories
    assert [row["status"] for row in rows] == ["done"] * len(rows)
    assert len(rows) == 2 * len(categories)
    # Each split trains a model of its own, on its own pool, and is scored on its own test tasks.
    assert len({row["score"] for row in rows}) == len(rows)
    assert len({row["trial"] for row in trained.values()}) == len(categories)
    names = read_table(outcome.run_directory / "tasks.parquet").to_pylist()
    for category in categories:
        tested = {
            row["category"] for row in names if (row["grid"], row["role"]) == (f"corpus.holdout={category}", "test")
        }
        pool = {
            row["category"] for row in names if (row["grid"], row["role"]) == (f"corpus.holdout={category}", "pool")
        }
        assert tested == {category}
        assert category not in pool
    page = outcome.report.read_text()
    assert all(f"corpus.holdout={category}" in page or category in page for category in categories)

    # What a split has trained is what holding out its one category trains.
    one = run(fields_with(tiny_sweep, {"categories": [categories[0]]}, name="one", baselines=[]))
    assert (one.num_run, one.results.to_pylist()[0]["trial"]) == (0, trained[categories[0]]["trial"])
    chosen = find_subset(outcome.run_directory, "random", 2, 0, f"corpus.holdout={categories[1]}")
    assert chosen.sweep.corpus.holdout.categories == (categories[1],)
    with pytest.raises(UserError, match=rf"--grid: missing.*corpus\.holdout={categories[0]}"):
        find_subset(outcome.run_directory, "random", 2, 0)


@pytest.mark.slow
def test_leave_one_task_out_is_planned_as_one_sweep(tiny_sweep: dict[str, Any]) -> None:
    from simtune.corpus.demo import demo_tasks

    sweep = Sweep.model_validate(fields_with(tiny_sweep, {"task": "each"}))
    plan = plan_sweep(sweep, Quiet())
    trained = [trial for trial in plan.trials if trial.arm == "random"]
    assert plan.num_splits == len(trained)
    assert len(plan.trials) == 3 * len(trained)
    assert [trial.grid for trial in trained] == [f"corpus.holdout={name}" for name in sorted(demo_tasks())]


def test_a_split_that_changes_nothing_is_the_same_trial(tiny_sweep: dict[str, Any]) -> None:
    default, lists = open_tasks(
        Sweep.model_validate(
            fields_with(
                tiny_sweep,
                {"split": "default"},
                grid={"corpus.holdout": [{"split": "default"}, {"tasks": _default_lists()}]},
            )
        )
    )
    assert [point.point.label for point in (default, lists)] == [
        "corpus.holdout=split: default",
        "corpus.holdout=tasks: lists",
    ]
    assert default.task_fingerprints == lists.task_fingerprints
    assert default.tasks == lists.tasks


def _default_lists() -> dict[str, list[str]]:
    from simtune.corpus.demo import demo_splits

    return demo_splits()


def test_axes_multiply_and_the_splits_come_last(tiny_sweep: dict[str, Any]) -> None:
    clusters = {"x": {"tasks": _default_lists()["train"][:2]}, "y": {"tasks": _default_lists()["train"][2:4]}}
    fields = fields_with(tiny_sweep, {"clusters": clusters}, grid={"training.epochs": [1, 2]})
    labels = [point.label for point in grid_points(Sweep.model_validate(fields))]
    assert labels == [f"training.epochs={epochs}, corpus.holdout={name}" for epochs in (1, 2) for name in "xy"]


def test_too_many_splits_are_refused_before_anything_is_read_twice(tiny_sweep: dict[str, Any]) -> None:
    fields = fields_with(tiny_sweep, {"task": "each"})
    fields["selection"] = {"strategies": ["random"], "sizes": list(range(1, 11)), "seeds": list(range(50))}
    with pytest.raises(ConfigError, match=r"corpus\.holdout: .* splits of .* trials are more than"):
        grid_points(Sweep.model_validate(fields))


def test_one_trial_has_one_split(tiny_sweep: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(fields_with(tiny_sweep, {"categories": "each"})))
    with pytest.raises(UserError, match=r"corpus\.holdout\.categories: gives several splits, but a trial has one"):
        train_one(load_sweep(path), "random", 2, 0, Quiet())


def test_splits_of_a_corpus_share_its_tokens_and_train_as_each_would_alone(
    tiny_sweep: dict[str, Any], tmp_path: Path
) -> None:
    from simtune.corpus.demo import demo_tasks
    from simtune.corpus.pool import build_task_sets
    from simtune.prompting.tokenizer import train_tokenizer

    pool = build_task_sets(CorpusSettings(min_instances=60), EvaluationSettings()).pool
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    train_tokenizer(pool, 600).tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    names = sorted(demo_tasks())
    clusters = {"x": {"tasks": names[:2]}, "y": {"tasks": names[2:4]}}
    fields = fields_with(tiny_sweep, {"clusters": clusters}, baselines=[])
    fields["model"] = {**fields["model"], "tokenizer": str(folder)}
    rows = run(fields).results.to_pylist()
    assert [row["corpus.holdout"] for row in rows] == ["x", "y"]
    # One for all tasks that are trained on, and one for each split's test tasks.
    assert len(list((Path(fields["storage"]) / "cache" / "tokens").glob("[!.]*"))) == 3
    alone = {**fields, "name": "alone", "storage": str(tmp_path / "alone")}
    alone["corpus"] = {**fields["corpus"], "holdout": {"tasks": {"train": names[:2] + names[4:], "test": names[2:4]}}}
    Path(alone["storage"]).mkdir()
    (row,) = run(alone).results.to_pylist()
    assert (row["trial"], row["final_loss"]) == (rows[1]["trial"], rows[1]["final_loss"])
