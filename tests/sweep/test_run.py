"""Sweeps from start to table, in this process: what is run, what is reused, what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from simtune.config import load_sweep
from simtune.errors import ConfigError, RunError
from simtune.sweep import guarded
from simtune.sweep.display import Quiet
from simtune.sweep.executors import InlineExecutor
from simtune.sweep.lease import lease_of, run_lease
from simtune.sweep.run import RunOutcome
from simtune.sweep.status import run_status
from sweeps import run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the trials that a test trains or generates for, in order."""
    ids: list[str] = []
    real = guarded.run_trial

    def counted(spec: Any, *rest: Any) -> None:
        ids.append(spec.id)
        real(spec, *rest)

    monkeypatch.setattr(guarded, "run_trial", counted)
    return ids


def tables_of(outcome: RunOutcome) -> dict[str, bytes]:
    names = ("results.parquet", "results.csv", "results.md", "scores.parquet", "subsets.parquet", "tasks.parquet")
    return {name: (outcome.run_directory / name).read_bytes() for name in names} | {
        "page": outcome.report.read_bytes(),
        "figure": (outcome.run_directory / "report/figures/rouge_by_size.svg").read_bytes(),
    }


def test_a_sweep_leaves_every_artefact_and_a_second_run_trains_nothing(
    tiny_sweep: dict[str, Any], trained: list[str]
) -> None:
    tiny_sweep["selection"]["sizes"] = [2, 4, 1000, "all"]
    tiny_sweep["corpus"]["instances_per_task"] = 2
    first = run(tiny_sweep)
    rows = first.results.to_pylist()
    arms = [(row["arm"], row["size"]) for row in rows]
    assert arms == [
        ("untuned", None),
        ("copy-input", None),
        *[(arm, size) for arm in ("different", "random") for size in (2, 4, 1000)],
        ("full", 70),
    ]
    assert all(row["status"] == "done" and 0 <= row["rouge_l"] <= 100 for row in rows)
    capped = [row for row in rows if row["size"] == 1000]
    assert {row["note"] for row in capped} == {
        "different: size 1000 capped to the pool's 70 tasks",
        "random: size 1000 capped to the pool's 70 tasks",
    }
    # The whole pool is one trial, whichever arm names it.
    assert {row["trial"] for row in capped} == {row["trial"] for row in rows if row["arm"] == "full"}
    assert len(trained) == len(set(trained)) == 6
    assert [row["num_examples"] for row in rows if row["arm"] == "full"] == [140]
    different = {row["size"]: row["mean_similarity"] for row in rows if row["arm"] == "different"}
    assert different[2] < different[4] < different[1000]
    for name in ("sweep.yaml", "manifest.json", "embeddings.parquet", "costs.parquet"):
        assert (first.run_directory / name).is_file()
    assert load_sweep(first.run_directory / "sweep.yaml").selection.sizes == (2, 4, 1000, "all")

    before = tables_of(first)
    trained.clear()
    second = run(tiny_sweep)
    assert (trained, second.num_run) == ([], 0)
    assert tables_of(second) == before


def test_same_inputs_elsewhere_give_the_same_bytes(tiny_sweep: dict[str, Any], tmp_path: Path) -> None:
    tiny_sweep["selection"]["sizes"] = [2]
    before = tables_of(run(tiny_sweep))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cache").symlink_to(Path(tiny_sweep["storage"]) / "cache")
    after = tables_of(run({**tiny_sweep, "storage": str(elsewhere)}))
    # The page shows the settings, and the storage is one of them.
    assert {k: v for k, v in after.items() if k != "page"} == {k: v for k, v in before.items() if k != "page"}


def test_a_grown_sweep_trains_only_what_is_new(tiny_sweep: dict[str, Any], trained: list[str]) -> None:
    run(tiny_sweep)
    assert len(trained) == 5
    trained.clear()
    grown = run(tiny_sweep, "selection.sizes=[2,3,4]", "name=grown")
    assert len(trained) == 2
    assert len(grown.results) == 2 + 6


def test_a_grid_keeps_its_points_apart_and_shares_what_it_does_not_touch(
    tiny_sweep: dict[str, Any], trained: list[str]
) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["grid"] = {"training.learning_rate": [1e-3, 1e-2], "encoding.positive": [0, 1]}
    rows = run(tiny_sweep).results.to_pylist()
    random = [(row["training.learning_rate"], row["encoding.positive"]) for row in rows if row["arm"] == "random"]
    assert random == [("0.001", "0"), ("0.001", "1"), ("0.01", "0"), ("0.01", "1")]
    # What the untuned model reads depends on the encoding, not on the learning rate.
    untuned = [(row["training.learning_rate"], row["encoding.positive"]) for row in rows if row["arm"] == "untuned"]
    assert untuned == [(None, "0"), (None, "1")]
    assert sum(row["arm"] == "copy-input" for row in rows) == 1
    assert len(trained) == 6


def test_a_run_cut_short_continues_where_it_was(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    undisturbed = tables_of(run({**tiny_sweep, "name": "tiny"}))
    trials = Path(tiny_sweep["storage"]) / "trials"
    for metrics in trials.glob("*/metrics.json"):
        metrics.unlink()
    trained.clear()
    real = guarded.run_trial

    def cut(spec: Any, *rest: Any) -> None:
        if len(trained) == 2:
            raise KeyboardInterrupt
        real(spec, *rest)

    monkeypatch.setattr(guarded, "run_trial", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_sweep)
    assert len(trained) == 2
    monkeypatch.setattr(guarded, "run_trial", real)
    assert tables_of(run(tiny_sweep)) == undisturbed
    assert len(trained) == len(set(trained)) == 5


def test_a_diverged_trial_is_a_row_with_its_reason_and_is_not_tried_again(
    tiny_sweep: dict[str, Any], trained: list[str]
) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [40], "seeds": [0]}
    tiny_sweep["training"] |= {"learning_rate": 1e30, "gradient_clipping": 0}
    outcome = run(tiny_sweep)
    (row,) = [row for row in outcome.results.to_pylist() if row["arm"] == "random"]
    assert (row["status"], row["rouge_l"], outcome.num_failed) == ("failed", None, 1)
    assert row["error"].startswith("NonFiniteLossError: the loss is")
    assert "random, size 40, seed 0: failed" in " ".join(outcome.report.read_text().split())
    (failed,) = [trial for trial in run_status(outcome.run_directory).trials if trial.status == "failed"]
    assert failed.error.startswith("NonFiniteLossError: the loss is")
    trained.clear()
    assert run(tiny_sweep).num_failed == 1
    assert trained == []


def test_identity_is_what_decides_a_result_and_nothing_else(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}

    def trial(*overrides: str) -> str:
        from simtune.sweep.stages import embed_studies, read_tasks, select_subsets
        from simtune.sweep.study import open_studies
        from simtune.sweep.trials import plan_rows

        path = Path(tiny_sweep["storage"]) / "sweep-file.yaml"
        path.write_text(yaml.safe_dump(tiny_sweep))
        tasks = read_tasks(load_sweep(path, overrides), Quiet())
        embedded = embed_studies(tasks, InlineExecutor(), Quiet())
        (study,) = open_studies(tasks)
        (subsets,) = select_subsets(tasks, embedded, Quiet())
        return plan_rows(study, subsets)[-1].trial.id

    base = trial()
    for same in ("name=other", "resources.max_concurrent=1", "resources.workers=2", "training.keep=last"):
        assert trial(same) == base, same
    for other in (
        "selection.seeds=[1]",
        "selection.sizes=[3]",
        "training.learning_rate=0.002",
        "encoding.positive=1",
        "model.config.d_ff=64",
        "evaluation.max_new_tokens=5",
        "evaluation.instances_per_task=3",
        "corpus.seed=1",
    ):
        assert trial(other) != base, other


def test_second_driver_is_told_who_holds_the_run(tiny_sweep: dict[str, Any]) -> None:
    directory = Path(tiny_sweep["storage"]) / "tiny"
    with run_lease(lease_of(directory), "here"), pytest.raises(RunError, match=r"held by .*process \d+"):
        run(tiny_sweep)


def test_inline_refuses_workers_before_anything_is_written(tiny_sweep: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"resources\.workers: 2"):
        run(tiny_sweep, "resources.workers=2")
    assert not (Path(tiny_sweep["storage"]) / "tiny").exists()
