"""A training draws what its mixture says, and a model is named by what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from displays import RecordingDisplay

from simtune.config import Sweep, TrainingSettings, load_sweep
from simtune.config.mixture import MixtureSettings
from simtune.errors import UserError
from simtune.export.mixture_file import write_mixture
from simtune.grid.grid_points import open_tasks
from simtune.grid.prepared_points import prepare_points
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.storage.parquet_files import read_table
from simtune.sweep.trials import make_trial
from simtune.training.epoch_examples import epoch_examples
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.steps import training_steps
from sweeps import run


def tokenised() -> TokenisedTasks:
    """Task a with examples 0 to 3, b with 4 to 9, c with 10 and 11; each has two references."""
    return TokenisedTasks(
        names=("a", "b", "c"),
        task_offsets=np.array([0, 4, 10, 12]),
        sources=Ragged.from_rows([[example, 1] for example in range(12)]),
        references=Ragged.from_rows([[row, 1] for row in range(24)]),
        reference_offsets=np.arange(0, 25, 2),
        num_cut=0,
        num_left_out=0,
    )


def test_epochs_have_the_examples_of_their_mixture() -> None:
    data = tokenised()
    names = ("c", "a")
    assert epoch_examples(data, names, MixtureSettings(), 3, 0).tolist() == [0, 1, 2, 3, 10, 11]
    drawn = epoch_examples(data, names, MixtureSettings(oversample=3), 4, 0)
    assert drawn.shape == (4, 6)
    for epoch in drawn:
        assert (epoch[:3] < 4).all()
        assert (epoch[3:] >= 10).all()
    # Twelve draws of four examples are three of each.
    assert np.bincount(drawn[:, :3].ravel()).tolist() == [3, 3, 3, 3]
    steps = training_steps(data, drawn, TrainingSettings(batch_size=4, epochs=4), seed=0)
    for epoch in range(4):
        taken = np.concatenate([step.examples for step in steps if step.epoch == epoch])
        assert sorted(taken) == sorted(drawn[epoch])
    assert all((step.references // 2 == step.examples).all() for step in steps)
    templates = TokenisedTasks(**{**vars(data), "templates": np.array([2, 1, 1])})
    drawn = epoch_examples(templates, ("a", "b"), MixtureSettings(per_template_cap=4), 1, 0)
    assert np.bincount(drawn[0] >= 4).tolist() == [8, 4]


def test_a_rule_that_draws_everything_once_trains_the_same_steps() -> None:
    data, training = tokenised(), TrainingSettings(batch_size=4, epochs=2)

    def steps(mixture: MixtureSettings) -> list[tuple[list[int], list[int]]]:
        examples = epoch_examples(data, data.names, mixture, 2, 5)
        return [(s.examples.tolist(), s.references.tolist()) for s in training_steps(data, examples, training, 5)]

    proportional = MixtureSettings.model_validate({"proportional": {"cap": 6}})
    assert steps(MixtureSettings()) == steps(proportional) == steps(MixtureSettings(per_template_cap=10))
    assert steps(MixtureSettings()) != steps(MixtureSettings.model_validate({"proportional": {"cap": 5}}))


def test_a_model_is_named_by_what_is_drawn(tiny_sweep: dict[str, Any]) -> None:
    def trial_id(mixture: Any) -> str:
        (prepared,) = prepare_points(open_tasks(Sweep.model_validate({**tiny_sweep, "mixture": mixture})))
        return make_trial(prepared, "fine-tune", [task.name for task in prepared.tasks.pool[:3]], 0).id

    # The tiny sweep draws 8 instances of each task.
    same = [
        "equal",
        {"oversample": 8},
        {"proportional": {"cap": 99}},
        {"per-template-cap": 8},
        {"examples_per_epoch": 24},
    ]
    assert len({trial_id(mixture) for mixture in same}) == 1
    others = [{"oversample": 9}, {"proportional": {"cap": 4}}, {"examples_per_epoch": 25}, "equal"]
    assert len({trial_id(mixture) for mixture in others}) == 4


def test_a_sweep_of_mixtures_trains_what_was_planned(tiny_sweep: dict[str, Any]) -> None:
    fields = {
        **tiny_sweep,
        "selection": {"strategies": ["random"], "sizes": [2], "seeds": [0]},
        "baselines": [],
        "grid": {"mixture.oversample": [None, 12]},
    }
    plan = plan_sweep(Sweep.model_validate(fields), Quiet())
    rows = run(fields).results.to_pylist()
    assert [row["num_examples"] for row in rows] == [16, 24]
    assert [trial.num_examples for trial in plan.trials] == [16, 24]
    assert [trial.num_steps for trial in plan.trials] == [row["num_steps"] for row in rows] == [2, 3]
    assert len({row["final_loss"] for row in rows}) == 2
    # Repeated instances are read again.
    assert 1.2 < rows[1]["num_source_tokens"] / rows[0]["num_source_tokens"] < 1.8


def test_a_task_without_an_example_is_not_counted_and_warned_of(tiny_sweep: dict[str, Any]) -> None:
    fields = {
        **tiny_sweep,
        "selection": {"strategies": ["random"], "sizes": [2, "all"], "seeds": [0]},
        "baselines": [],
        "mixture": {"examples_per_epoch": 1},
    }
    sweep, display = Sweep.model_validate(fields), RecordingDisplay()
    pool = plan_sweep(sweep).pool_tasks
    remedy = "without an example: raise mixture.examples_per_epoch"
    few, every = f"1 of 2 tasks {remedy}", f"{pool - 1} of {pool} tasks {remedy}"
    assert [trial.note for trial in plan_sweep(sweep).trials] == [f"at least {few}", every]
    write_mixture(sweep, None, display)
    assert every in display.warnings
    display = RecordingDisplay()
    rows = run(fields, display=display).results.to_pylist()
    assert [(row["num_tasks"], row["num_examples"], row["note"]) for row in rows] == [(1, 1, few), (1, 1, every)]
    assert {few, every} <= set(display.warnings)


def test_the_mixture_is_written_and_shown_without_training(tiny_sweep: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(tiny_sweep))
    sweep = load_sweep(path, ["mixture.examples_per_epoch=100"])
    table, written = write_mixture(sweep, None, Quiet())
    assert str(written) == f"{tiny_sweep['storage']}/tiny/mixture.parquet"
    assert read_table(written).equals(table)
    assert sum(table["examples"].to_pylist()) == 100
    assert sum(table["share"].to_pylist()) == pytest.approx(1.0)
    write_mixture(sweep, tmp_path / "m" / "m.json", Quiet())
    assert json.loads((tmp_path / "m" / "m.json").read_text()) == table.to_pylist()
    with pytest.raises(UserError, match=r"m\.csv: give the name of a file that ends in \.parquet or \.json"):
        write_mixture(sweep, tmp_path / "m.csv", Quiet())
    assert not (Path(tiny_sweep["storage"]) / "trials").exists()
