"""A plan of a sweep whose storage has results: what is done, and what a run would do now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import in_process
from displays import RecordingDisplay
from json_files import read_json

from simtune.config import load_sweep
from simtune.errors import ConfigError, ModelError, RunError, StoreError
from simtune.planning.cluster_plan import NodeType, plan_cluster
from simtune.planning.earlier_trials import EarlierRun
from simtune.planning.plan import Plan, plan_sweep
from simtune.storage.records import write_record
from simtune.trial.records import Failure
from sweeps import run, undo

MORE = ("selection.sizes=[2,4]", "selection.seeds=[0,1]")


def plan(finished: Path, *overrides: str) -> Plan:
    return plan_sweep(load_sweep(finished / "sweep-file.yaml", [f"storage={finished}", *overrides]))


def statuses(found: Plan) -> dict[tuple[str, int | None, int | None], str]:
    return {(trial.arm, trial.size, trial.seed): trial.status for trial in found.trials}


ALL_DONE = {("untuned", None, 0): "done", ("copy-input", None, None): "done", ("random", 2, 0): "done"}


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_finished_trials_are_done_and_the_rest_is_left(finished: Path) -> None:
    before = files(finished)
    found = plan(finished, *MORE)
    assert statuses(found) == ALL_DONE | {
        **{(arm, size, seed): "missing" for arm in ["random"] for size in (2, 4) for seed in (0, 1)},
        ("untuned", None, 1): "missing",
        ("random", 2, 0): "done",
    }
    assert [(trial.arm, trial.size, trial.seed) for trial in found.left] == [
        *[("untuned", None, 1), ("random", 2, 1), ("random", 4, 0), ("random", 4, 1)],
    ]
    values = found.to_dict()
    whole, left = values["totals"], values["left"]
    assert (whole["trials"], left["trials"]) == (7, 4)
    done = next(trial for trial in found.trials if trial.status == "done" and trial.size == 2)
    assert whole["train_tokens"] - left["train_tokens"] == done.train_tokens > 0
    assert whole["num_steps"] - left["num_steps"] == done.num_steps > 0
    assert whole["test_tokens"] - left["test_tokens"] == 2 * done.test_tokens > 0
    assert found.disk.results < plan(finished, *MORE, "name=another").disk.results
    # A plan writes nothing.
    assert files(finished) == before


def test_a_finished_sweep_has_nothing_left(finished: Path) -> None:
    found = plan(finished)
    assert (statuses(found), found.left) == (ALL_DONE, ())
    assert set(found.to_dict()["left"].values()) == {0}
    assert found.disk.saved_weights == 0


@pytest.mark.parametrize(
    ("override", "still_done"),
    [
        # What is not part of a result.
        ("resources.workers=2", {"untuned", "copy-input", "random"}),
        ("embedding.batch_size=7", {"untuned", "copy-input", "random"}),
        ("selection.strategies=[random,different]", {"untuned", "copy-input", "random"}),
        ("grid={training.epochs: [1, 2]}", {"untuned", "copy-input", "random"}),
        # What decides the weights, beside the tasks.
        ("training.epochs=2", {"untuned", "copy-input"}),
        ("mixture.oversample=3", {"untuned", "copy-input"}),
        ("training.precision=bf16", {"copy-input"}),
        ("model.config.d_ff=64", {"copy-input"}),
        # What decides which tasks are chosen.
        ("embedding.num_demonstrations=1", {"untuned", "copy-input"}),
        ("selection.per_category_cap=1", {"untuned", "copy-input"}),
        ("selection.strategies=[{strategy: random, label: random, per_source_cap: 1}]", {"untuned", "copy-input"}),
        # The corpus decides the pool's tokenizer, too.
        ("corpus.seed=1", {"copy-input"}),
        # What decides the scores of all of them; the weights of the trained one are saved.
        ("evaluation.instances_per_task=1", set()),
        ("evaluation.max_new_tokens=5", {"copy-input"}),
        ("name=another", set()),
    ],
)
def test_only_what_a_run_would_use_again_is_done(finished: Path, override: str, still_done: set[str]) -> None:
    found = plan(finished, override)
    assert {trial.arm for trial in found.trials if trial.status == "done"} == still_done


def test_saved_weights_leave_only_answers(finished: Path) -> None:
    whole = next(trial for trial in plan(finished).trials if trial.size == 2)
    suites = "evaluation.suites=[{name: test}, {name: short, instances_per_task: 1}]"
    both = next(trial for trial in plan(finished, suites, "name=another").trials if trial.size == 2)
    (trained,) = (trial for trial in plan(finished, suites).left if trial.size == 2)
    assert (trained.num_steps, trained.train_tokens) == (0, 0)
    assert trained.test_instances == both.test_instances - whole.test_instances == whole.test_instances // 2
    assert trained.test_tokens == both.test_tokens - whole.test_tokens > 0


def test_an_interrupted_trial_is_left_whole(finished: Path) -> None:
    (trained,) = {path.parent.parent for path in finished.glob("trials/*/weights/epoch-*")}
    undo(trained)
    shutil.rmtree(trained / "weights")
    found = plan(finished)
    assert statuses(found) == ALL_DONE | {("random", 2, 0): "missing"}
    (left,) = found.left
    (all_of_it,) = (trial for trial in found.trials if trial.size == 2)
    assert (left.num_steps, left.train_tokens, left.test_tokens) == (
        *(all_of_it.num_steps, all_of_it.train_tokens, all_of_it.test_tokens),
    )


def test_without_saved_weights_a_further_suite_is_not_left_and_says_why(finished: Path) -> None:
    for weights in finished.glob("trials/*/weights"):
        shutil.rmtree(weights)
    found = plan(finished, "evaluation.suites=[{name: test}, {name: short, instances_per_task: 1}]")
    assert statuses(found)["random", 2, 0] == "unsaved"
    assert found.retraining.startswith("the storage lacks the final weights of 1 trained model, so 1 score is missing")
    assert {trial.arm for trial in found.left} == {"untuned", "copy-input"}


@pytest.mark.parametrize(("retry", "status"), [(False, "failed"), (True, "missing")])
def test_a_failed_trial_is_left_if_a_run_would_try_it_again(finished: Path, retry: bool, status: str) -> None:
    (trained,) = {path.parent.parent for path in finished.glob("trials/*/weights/epoch-*")}
    undo(trained)
    failure = Failure(
        trial=trained.name,
        score=None,
        cause="infrastructure" if retry else "diverged",
        error="ValueError",
        message="no",
        step=None,
        attempts=1,
        host="h1",
        log="attempts/1.log",
        retry=retry,
    )
    write_record(trained / "failure.json", failure)
    assert statuses(plan(finished))["random", 2, 0] == status


def test_grid_points_are_done_one_by_one(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep |= {"baselines": ["untuned"], "grid": {"training.epochs": [1], "training.precision": ["fp32"]}}
    tiny_sweep["selection"] |= {"strategies": ["random"], "sizes": [2]}
    run(tiny_sweep)
    path = Path(tiny_sweep["storage"]) / "sweep-file.yaml"

    def states(*overrides: str) -> list[tuple[str, str, str]]:
        return [(trial.grid, trial.arm, trial.status) for trial in plan_sweep(load_sweep(path, overrides)).trials]

    assert states("grid.training.epochs=[1,2]") == [
        ("training.epochs=1, training.precision=fp32", "untuned", "done"),
        ("training.epochs=1, training.precision=fp32", "random", "done"),
        ("training.epochs=2, training.precision=fp32", "random", "missing"),
    ]
    # A baseline is shown once for all points that share its scores, and again for those that do not.
    of_precisions = states("grid.training.precision=[fp32,bf16]")
    assert [(arm, status) for _, arm, status in of_precisions] == [
        ("untuned", "done"),
        ("random", "done"),
        ("untuned", "missing"),
        ("random", "missing"),
    ]
    of_answers = states("baselines=[untuned,copy-input]", "grid={evaluation.max_new_tokens: [4, 5]}")
    assert [arm for _, arm, _ in of_answers] == ["untuned", "copy-input", "random", "untuned", "random"]
    # The same trial without the grid.
    assert states("grid={}") == [("", "untuned", "done"), ("", "random", "done")]


def test_the_splits_of_a_hold_out_are_done_one_by_one(tiny_sweep: dict[str, Any]) -> None:
    from simtune.corpus.demo import demo_splits

    names = demo_splits()["train"]
    clusters = {"x": {"tasks": names[:2]}, "y": {"tasks": names[2:4]}}
    tiny_sweep |= {"baselines": ["copy-input"], "leakage": "allow"}
    tiny_sweep["corpus"] |= {"holdout": {"clusters": clusters}}
    tiny_sweep["selection"] |= {"strategies": ["random"], "sizes": [2]}
    run(tiny_sweep)
    path = Path(tiny_sweep["storage"]) / "sweep-file.yaml"
    found = plan_sweep(load_sweep(path))
    assert [(trial.arm, trial.grid) for trial in found.trials if trial.status == "done"] == [
        *[(arm, f"corpus.holdout={name}") for name in "xy" for arm in ("copy-input", "random")],
    ]
    # Other tasks under the name of a split.
    other = plan_sweep(load_sweep(path, [f"corpus.holdout.clusters.y.tasks=[{names[4]}]"]))
    assert [(trial.arm, trial.status) for trial in other.trials] == [
        *[("copy-input", "done"), ("random", "done"), ("copy-input", "missing"), ("random", "missing")],
    ]


def test_what_leaks_by_its_embedding_alone_does_not_hide_what_is_done(tiny_sweep: dict[str, Any]) -> None:
    # A plan has no embeddings, and one more task in its pool.
    tiny_sweep |= {"baselines": ["untuned"], "leakage": {"policy": "remove", "max_similarity": 0.65}}
    tiny_sweep["selection"] |= {"strategies": ["random"], "sizes": [2, "all"]}
    tiny_sweep["training"] |= {"max_source_tokens": 16}
    outcome = run(tiny_sweep)
    found = plan_sweep(load_sweep(Path(tiny_sweep["storage"]) / "sweep-file.yaml"))
    (whole,) = (row["num_tasks"] for row in outcome.results.to_pylist() if row["arm"] == "full")
    assert found.pool_tasks == whole + 1
    assert {(trial.arm, trial.status) for trial in found.trials} == {
        *[("untuned", "done"), ("random", "done"), ("full", "done")],
    }


def test_what_another_command_wrote_into_the_run_changes_nothing(finished: Path) -> None:
    # `simtune select` writes its own settings and subsets there.
    path = finished / "tiny" / "sweep.yaml"
    path.write_text(path.read_text().replace("num_demonstrations: 2", "num_demonstrations: 1"))
    assert statuses(plan(finished)) == ALL_DONE
    assert statuses(plan(finished, "embedding.num_demonstrations=1"))["random", 2, 0] == "missing"


@pytest.mark.parametrize("damaged", ["manifest.json", "results.parquet"])
def test_a_run_that_cannot_be_read_counts_as_none(finished: Path, damaged: str) -> None:
    (finished / "tiny" / damaged).write_bytes(b"x")
    display = RecordingDisplay()
    found = plan_sweep(load_sweep(finished / "sweep-file.yaml", [f"storage={finished}"]), display)
    assert set(statuses(found).values()) == {"missing"}
    (warning,) = display.warnings
    assert warning.startswith(
        f"cannot tell which trials are done, so all of them are planned ({finished / 'tiny' / damaged}"
    )


def test_a_storage_or_hub_that_is_away_in_the_middle_stops_no_plan(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (StoreError("no answer"), ModelError("the hub does not answer")):

        def away(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(EarlierRun, "states", away)
        display = RecordingDisplay()
        found = plan_sweep(load_sweep(finished / "sweep-file.yaml", [f"storage={finished}"]), display)
        assert set(statuses(found).values()) == {"missing"}
        assert display.warnings == [f"cannot tell which trials are done, so all of them are planned ({error})"]


def test_damaged_trials_are_neither_done_nor_left_and_the_plan_says_what_run_will(finished: Path) -> None:
    first, second = sorted(finished.glob("trials/*/scores/*/metrics.json"))[:2]
    intact = first.read_bytes(), second.read_bytes()
    swap(first, second)
    display = RecordingDisplay()
    found = plan_sweep(load_sweep(finished / "sweep-file.yaml", [f"storage={finished}"]), display)
    assert sorted(statuses(found).values()) == ["damaged", "damaged", "done"]
    (warning,) = display.warnings
    assert warning.startswith("`simtune run` will refuse to start: ")
    assert warning.endswith(" (1 more damaged; `simtune doctor` lists them)")
    fields = yaml.safe_load((finished / "sweep-file.yaml").read_text())
    with pytest.raises(RunError) as refused:
        run(fields, f"storage={finished}")
    assert str(refused.value) in warning
    first.write_bytes(intact[0])
    second.write_bytes(intact[1])
    for path in finished.glob("trials/*/model.json"):
        path.write_bytes(b"{}")
    # Nothing says which trials these are; a run does not read the file.
    display = RecordingDisplay()
    found = plan_sweep(load_sweep(finished / "sweep-file.yaml", [f"storage={finished}"]), display)
    assert set(statuses(found).values()) == {"missing"}
    (warning,) = display.warnings
    assert warning.startswith("planned as missing, though `simtune run` may find it done: ")
    assert run(fields, f"storage={finished}").num_run == 0


@pytest.mark.parametrize("folder", ["/proc/x", "/sys/x/y"])
def test_a_storage_in_which_a_run_could_not_write_is_a_warning(finished: Path, folder: str) -> None:
    """Another machine may have it; the run itself refuses."""
    display = RecordingDisplay()
    plan_sweep(load_sweep(finished / "sweep-file.yaml", [f"storage={folder}"]), display)
    (warning,) = display.warnings
    assert warning.startswith(f"`simtune run` will refuse to start here: {folder}: cannot be written (")


def swap(first: Path, second: Path) -> None:
    between = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(between)


def test_a_result_beside_a_damaged_identity_or_record_of_training_is_done_for_the_plan_as_for_the_run(
    finished: Path,
) -> None:
    """A result is whole without either; `simtune doctor` reports them."""
    fields = yaml.safe_load((finished / "sweep-file.yaml").read_text())
    overrides = [f"storage={finished}", "selection.seeds=[0,1]"]
    run(fields, *overrides)
    for name in ("model.json", "training.json"):
        with_tasks = (
            path for path in sorted(finished.glob("trials/*/model.json")) if b"train_tasks" in path.read_bytes()
        )
        damaged = next(with_tasks).with_name(name)
        damaged.write_bytes(damaged.read_bytes()[:40])
    display = RecordingDisplay()
    found = plan_sweep(load_sweep(finished / "sweep-file.yaml", overrides), display)
    assert (found.left, display.warnings) == ((), [])
    assert run(fields, *overrides).num_run == 0


def test_the_plan_of_a_cluster_is_of_what_is_left(finished: Path) -> None:
    sweep = load_sweep(finished / "sweep-file.yaml", [f"storage={finished}", *MORE])
    found = plan_cluster(sweep, plan_sweep(sweep), 2, NodeType(price=1.0))
    assert {arm.arm: arm.trials for arm in found.arms} == {"random": 3, "untuned": 1}
    # The baseline that copies its input is the driver's own work.
    assert (found.num_left, found.num_done) == (4, 2)
    anew = load_sweep(finished / "sweep-file.yaml", [f"storage={finished}", "selection.seeds=[7]"])
    assert plan_cluster(anew, plan_sweep(anew), 2, NodeType()).num_done == 0
    done = load_sweep(finished / "sweep-file.yaml", [f"storage={finished}"])
    nothing = plan_cluster(done, plan_sweep(done), 2, NodeType(price=1.0))
    assert (nothing.arms, nothing.num_left, nothing.num_done) == ((), 0, 2)
    # Without trials nothing has to say how long one takes.
    other = load_sweep(finished / "sweep-file.yaml", [f"storage={finished}", "model.vocab_size=601"])
    with pytest.raises(ConfigError, match="no trial has finished with these settings"):
        plan_cluster(other, plan_sweep(other), 2, NodeType())


def test_saved_weights_cost_no_training_on_a_cluster(finished: Path) -> None:
    suites = "evaluation.suites=[{name: test}, {name: short, instances_per_task: 1}]"

    def hours(*overrides: str) -> tuple[int, float]:
        settings = [f"storage={finished}", suites, "baselines=[]", "training.epochs=1", *overrides]
        sweep = load_sweep(finished / "sweep-file.yaml", settings)
        found = plan_cluster(sweep, plan_sweep(sweep), 1, NodeType(), trial_minutes=600)
        return found.num_left, sum(arm.hours for arm in found.arms)

    (num_whole, whole), (num_left, left) = hours("name=another"), hours()
    assert num_whole == num_left == 1
    # The given minutes are those of a whole trial.
    assert whole == pytest.approx(10.0, rel=0.01)
    assert 0.0 < left < 0.5 * whole


def test_the_command_says_what_is_done_and_what_is_left(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = in_process(monkeypatch, capsys)
    line = f"plan {finished / 'sweep-file.yaml'} --storage {finished}"
    more = " ".join(f"--set {override}" for override in MORE)
    code, out, _ = call(f"{line} {more}")
    said = " ".join(out.split())
    assert code == 0
    assert "7 trials (3 done, 4 left); " in said
    assert "Left: " in said
    assert "done" in out.splitlines()[1]
    said = " ".join(call(line)[1].split())
    assert "3 trials (3 done); " in said
    assert "Nothing is left to run. " in said
    said = " ".join(call(f"{line} {more} --nodes 2")[1].split())
    assert "4 trials are left, 2 are done. Times: " in said
    assert json.loads(call(f"{line} --json")[1])["trials"][0]["status"] == "done"
    # Without results the plan is as ever.
    said = call(f"{line} --set name=another")[1]
    assert "3 trials; " in said
    assert " done" not in said


def test_the_manifest_says_what_choices_follow_from(finished: Path) -> None:
    manifest = read_json(finished / "tiny" / "manifest.json")
    assert set(manifest["arms"]) == {"random"}
    assert {"choice", "model_settings"} <= set(manifest["grid_points"]["all"])
