"""Sweeps from start to table, in this process: what is run, what is reused, what is written."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from results_made_up import finished_run, metrics_of, trial_id

import sweeps
from simtune.config import load_sweep
from simtune.drivers.run_lease import run_lease
from simtune.errors import ConfigError, RunError
from simtune.executors.base import Job
from simtune.executors.inline import InlineExecutor
from simtune.inspection.doctor import diagnose
from simtune.inspection.status import STATUSES, run_status
from simtune.progress import Quiet
from simtune.sweep.results import report_run
from simtune.sweep.run import RunOutcome
from simtune.trial import attempts as guarded
from simtune.trial.records import Metrics
from sweeps import run, undo


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the trials that a test trains or generates for, in order."""
    ids: list[str] = []
    real = guarded.run_trial

    def counted(spec: Any, *rest: Any) -> Any:
        ids.append(spec.id)
        return real(spec, *rest)

    monkeypatch.setattr(guarded, "run_trial", counted)
    return ids


class WithoutRoom(InlineExecutor):
    """Leaves out all trials but the first."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []

    def run(self, jobs: Sequence[Job], *rest: Any) -> Mapping[str, str]:
        self.given.append([job.spec.id for job in jobs])
        assert len(self.given) == 1, "it was given trials again that it had left out"
        super().run(jobs[:1], *rest)
        return dict.fromkeys(self.given[0][1:], "left out: a host with 4 CPUs was not free for 2 min")


def test_trials_that_are_left_out_are_not_run_again_and_their_rows_say_why(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_sweep |= {"baselines": [], "selection": {"strategies": ["random"], "sizes": [2], "seeds": [0, 1, 2]}}
    executor = WithoutRoom()
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "InlineExecutor", lambda: executor)
        outcome = run(tiny_sweep)
    rows = outcome.results.to_pylist()
    assert sorted((row["status"], row["error"], row["attempts"]) for row in rows) == [
        ("done", "", None),
        *[("missing", "left out: a host with 4 CPUs was not free for 2 min", None)] * 2,
    ]
    assert (outcome.num_run, outcome.num_failed) == (1, 2)
    assert "left out: a host with 4 CPUs" in (outcome.run_directory / "results.md").read_text()
    status = run_status(outcome.run_directory)
    assert [trial.error for trial in status.trials if trial.status == "missing"] == [rows[-1]["error"]] * 2
    # A later run finds room.
    rows = run(tiny_sweep).results.to_pylist()
    assert [(row["status"], row["error"]) for row in rows] == [("done", "")] * 3


def tables_of(outcome: RunOutcome) -> dict[str, bytes]:
    tables = ("results.parquet", "scores.parquet", "subsets.parquet", "tasks.parquet")
    names = (*tables, "statistics.json", "results.csv", "results.md")
    return {name: (outcome.run_directory / name).read_bytes() for name in names} | {
        "page": outcome.report.read_bytes(),
        "figure": (outcome.run_directory / "report/figures/scores_by_size.svg").read_bytes(),
    }


def but_the_page(files: dict[str, bytes]) -> dict[str, bytes]:
    """The page also shows the storage and what each trial has cost, which are other ones where trials run anew."""
    return {name: data for name, data in files.items() if name != "page"}


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
    assert but_the_page(after) == but_the_page(before)


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
    # The untuned model is one, scored twice.
    assert len(trained) == 5
    assert len({row["score"] for row in rows}) == 7


def test_a_run_cut_short_continues_where_it_was(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    undisturbed = tables_of(run({**tiny_sweep, "name": "tiny"}))
    trials = Path(tiny_sweep["storage"]) / "trials"
    for trial in trials.iterdir():
        undo(trial)
    trained.clear()
    real = guarded.run_trial

    def cut(spec: Any, *rest: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(spec, *rest)

    monkeypatch.setattr(guarded, "run_trial", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_sweep)
    assert len(trained) == 2
    monkeypatch.setattr(guarded, "run_trial", real)
    assert but_the_page(tables_of(run(tiny_sweep))) == but_the_page(undisturbed)
    assert len(trained) == len(set(trained)) == 5


def test_a_run_under_way_or_interrupted_has_a_status_and_a_report_of_what_is_there(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    real = guarded.run_trial
    directory = Path(tiny_sweep["storage"]) / "tiny"
    beside = []

    def cut(spec: Any, *rest: Any) -> Any:
        if len(trained) < 2:
            return real(spec, *rest)
        status = run_status(directory)
        assert [trial.trial for trial in status.trials if trial.status == "running"] == [spec.id]
        beside.append({name: status.count(name) for name in STATUSES})
        report_run(directory)
        raise KeyboardInterrupt

    monkeypatch.setattr(guarded, "run_trial", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_sweep)
    # Two trained models, and the baseline that copies.
    assert beside == [{"done": 3, "running": 1, "failed": 0, "missing": 2, "damaged": 0}]
    # Nobody holds the lease any more.
    assert run_status(directory).count("running") == 0
    page = report_run(directory).read_text()
    rows = (directory / "results.csv").read_text().splitlines()
    assert [sum(f",{status}," in row for row in rows) for status in ("done", "missing")] == [3, 3]
    assert (directory / "report" / "results.csv").read_text().splitlines() == rows
    assert "missing" in page
    assert diagnose(directory, Quiet()).findings == ()

    monkeypatch.setattr(guarded, "run_trial", real)
    finished = tables_of(run(tiny_sweep))
    # A finished run has a report of its rows, wherever its trials are; loss curves and answers are theirs.
    shutil.move(directory.parent / "trials", directory.parent / "elsewhere")
    report_run(directory)
    shutil.move(directory.parent / "elsewhere", directory.parent / "trials")
    names = ("results.csv", "results.md")
    assert {name: (directory / name).read_bytes() for name in names} == {name: finished[name] for name in names}
    assert (directory / "report" / "index.html").read_bytes() != finished["page"]
    report_run(directory)
    assert (directory / "report" / "index.html").read_bytes() == finished["page"]
    assert diagnose(directory, Quiet()).findings == ()
    # The page is now of another release; its checksum is that of the version that was written last.
    (directory / "results.md").write_text("older")
    assert [Path(finding.path).name for finding in diagnose(directory, Quiet()).findings] == ["results.md"]
    report_run(directory)
    assert diagnose(directory, Quiet()).findings == ()


def test_a_run_that_has_planned_nothing_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"results\.parquet: no such file"):
        report_run(tmp_path / "run")


def test_status_reads_one_small_file_of_each_finished_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = finished_run(tmp_path, 300, num_tasks=20, num_steps=200)
    opened: list[str] = []
    built: list[str] = []
    real_read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or real_read(path))
    monkeypatch.setattr(Metrics, "model_validate_json", lambda *_: built.append("a whole result"))
    status = run_status(directory)
    assert status.count("done") == 300
    assert [trial.scores["test"] for trial in status.trials] == [
        metrics_of(trial_id(n)).overall.values for n in range(300)
    ]
    assert Counter(opened) == {"manifest.json": 1, "metrics.json": 300}
    assert built == []


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

    def planned(*overrides: str) -> tuple[str, str]:
        from simtune.grid.prepared_points import prepare_points
        from simtune.grid.stages import embed_points, find_encoders, read_tasks, select_subsets
        from simtune.sweep.trials import plan_rows

        path = Path(tiny_sweep["storage"]) / "sweep-file.yaml"
        path.write_text(yaml.safe_dump(tiny_sweep))
        tasks = read_tasks(load_sweep(path, overrides), Quiet())
        embedded = embed_points(tasks, find_encoders(tasks, Quiet()), InlineExecutor(), Quiet())
        (prepared,) = prepare_points(tasks)
        (subsets,) = select_subsets(tasks, embedded, Quiet())
        row = plan_rows([prepared], [subsets])[-1]
        return row.trial.id, row.score.id

    base = planned()
    for same in ("name=other", "resources.max_concurrent=1", "resources.workers=2", "training.keep=last"):
        assert planned(same) == base, same
    for other in (
        "selection.seeds=[1]",
        "selection.sizes=[3]",
        "training.learning_rate=0.002",
        "encoding.positive=1",
        "model.config.d_ff=64",
        "corpus.seed=1",
    ):
        trial, score = planned(other)
        assert (trial != base[0], score != base[1]) == (True, True), other
    for other in ("max_new_tokens=5", "instances_per_task=3", "metrics=[rouge-l]", "tokens_per_batch=9"):
        trial, score = planned(f"evaluation.{other}")
        assert (trial != base[0], score != base[1]) == (False, True), other


def test_a_second_driver_is_refused_with_the_name_of_the_holder(tiny_sweep: dict[str, Any]) -> None:
    directory = Path(tiny_sweep["storage"]) / "tiny"
    with run_lease(directory), pytest.raises(RunError, match=r"held by .*process \d+"):
        run(tiny_sweep)


def test_inline_refuses_workers_before_anything_is_written(tiny_sweep: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"resources\.workers: 2"):
        run(tiny_sweep, "resources.workers=2")
    assert not (Path(tiny_sweep["storage"]) / "tiny").exists()
