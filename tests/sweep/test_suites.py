"""Evaluation suites: one training, many scores; what a further suite costs, and that it never trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from displays import RecordingDisplay
from json_files import read_json

from simtune.config import Sweep, load_sweep
from simtune.corpus.demo import demo_splits, demo_tasks
from simtune.drivers.holder import lease_file
from simtune.drivers.run_lease import LeaseToken, acquire_lease
from simtune.drivers.trial_claims import claim_trial, release_claim
from simtune.errors import ConfigError, CorpusError
from simtune.evaluation.metric_registry import METRICS, Metric
from simtune.evaluation.metrics import Scored, Tokenize
from simtune.executors.base import Job
from simtune.executors.inline import InlineExecutor
from simtune.grid.grid_points import open_tasks
from simtune.grid.prepared_points import prepare_points
from simtune.grid.stages import read_tasks
from simtune.inspection.doctor import diagnose
from simtune.inspection.status import run_status
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.prompting.renderer import Renderer
from simtune.storage.parquet_files import read_table
from simtune.sweep.jobs import prepare
from simtune.sweep.run import RunOutcome, run_sweep
from simtune.sweep.trials import make_scores, make_trial
from simtune.training.loop import fine_tune
from simtune.trial import run as trial_run
from sweeps import run, undo

# The ten encodings of the Tk-Instruct study: its training encodings are its test encodings.
ENCODINGS = [
    {
        "definition": definition,
        "positive": positive,
        "negative": negative,
        "explanation": explanation,
        "task_name": name,
    }
    for definition, positive, negative, explanation, name in (
        (False, 0, 0, False, True),
        (True, 0, 0, False, False),
        (False, 1, 0, False, False),
        (True, 1, 0, False, False),
        (True, 2, 0, False, False),
        (True, 4, 0, False, False),
        (True, 2, 2, False, False),
        (True, 2, 2, True, False),
        (False, 2, 0, False, False),
        (False, 0, 0, False, False),
    )
]


@pytest.fixture
def one_model(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = []
    return tiny_sweep


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each fine-tuning."""
    done: list[str] = []

    def counted(*arguments: Any) -> Any:
        done.append("trained")
        return fine_tune(*arguments)

    monkeypatch.setattr(trial_run, "fine_tune", counted)
    return done


def suites(*encodings: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"encoding-{number}", "encoding": each, **more} for number, each in enumerate(encodings)]


def scores(outcome: RunOutcome) -> dict[str, float | None]:
    return {row["suite"]: row["rouge_l"] for row in outcome.results.to_pylist()}


def test_ten_encodings_are_ten_scores_of_one_training_and_an_eleventh_trains_nothing(
    one_model: dict[str, Any], trainings: list[str]
) -> None:
    one_model["training"]["keep"] = "last"
    one_model["evaluation"]["suites"] = suites(*ENCODINGS)
    ten = run(one_model)
    assert (len(trainings), ten.num_failed, len(scores(ten))) == (1, 0, 10)
    one_model["evaluation"]["suites"] += suites(ENCODINGS[4], instances_per_task=1)[:1]
    one_model["evaluation"]["suites"][-1]["name"] = "eleventh"
    display = RecordingDisplay()
    eleven = run(one_model, display=display)
    assert "  1 trial of them: saved weights are scored, and nothing is trained" in display.notes
    assert (len(trainings), eleven.num_run, eleven.num_failed) == (1, 1, 0)
    assert {name: value for name, value in scores(eleven).items() if name != "eleventh"} == scores(ten)
    assert len({row["trial"] for row in eleven.results.to_pylist()}) == 1
    assert diagnose(eleven.run_directory, Quiet()).findings == ()
    assert run(one_model).num_run == 0


def test_saved_weights_answer_as_the_trained_model_did(one_model: dict[str, Any], trainings: list[str]) -> None:
    one_model["training"]["keep"] = "last"
    one_model["training"]["learning_rate"] = 1e-2
    one_model["training"]["epochs"] = 6
    first = run(one_model)
    (row,) = first.results.to_pylist()
    folder = first.run_directory.parent / "trials" / row["trial"] / "scores" / row["score"]
    before = {name: (folder / name).read_bytes() for name in ("predictions.parquet", "metrics.json", "score.json")}
    shutil.rmtree(folder)
    assert run(one_model).num_run == 1
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert len(trainings) == 1


def test_damaged_saved_weights_are_never_scored_and_the_advice_works(
    one_model: dict[str, Any], trainings: list[str]
) -> None:
    one_model["training"]["keep"] = "last"
    first = run(one_model)
    (row,) = first.results.to_pylist()
    (folder,) = (first.run_directory.parent / "trials" / row["trial"] / "weights").iterdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    one_model["evaluation"]["suites"] = [{"name": "test"}, {"name": "one", "instances_per_task": 1}]
    for _ in range(2):
        outcome = run(one_model, retrain=True)
        (failed,) = (row for row in outcome.results.to_pylist() if row["suite"] == "one")
        assert (failed["status"], failed["failure"]) == ("failed", "infrastructure")
        assert f"{folder}: the saved weights are incomplete or damaged; remove that folder" in failed["error"]
    assert len(trainings) == 1
    shutil.rmtree(folder)
    assert run(one_model, retrain=True).num_failed == 0
    assert (len(trainings), weights.exists()) == (2, True)


def test_without_saved_weights_a_further_suite_is_missing_until_asked_to_train_again(
    one_model: dict[str, Any], trainings: list[str]
) -> None:
    one_model["evaluation"]["suites"] = suites(*ENCODINGS[:2])
    run(one_model)
    one_model["evaluation"]["suites"] = suites(*ENCODINGS[:3])
    outcome = run(one_model)
    assert (len(trainings), outcome.num_run, outcome.num_failed) == (1, 0, 1)
    display = RecordingDisplay()
    again = run(one_model, display=display)
    assert again.num_run == 0
    (warning,) = display.warnings
    assert warning.startswith("the storage lacks the final weights of 1 trained model, so 1 score is missing")
    assert "`simtune run --retrain` trains it again: 2 steps" in warning
    planned = plan_sweep(load_sweep(Path(one_model["storage"]) / "sweep-file.yaml"))
    assert planned.retraining == warning
    assert "1 trained model has no saved weights and lacks scores" in " ".join(
        diagnose(outcome.run_directory, Quiet()).notes
    )
    (trial,) = run_status(outcome.run_directory).trials
    assert [name for name, found in trial.scores.items() if found is None] == ["encoding-2"]
    retrained = run(one_model, retrain=True)
    assert plan_sweep(load_sweep(Path(one_model["storage"]) / "sweep-file.yaml")).retraining == ""
    assert (len(trainings), retrained.num_run, retrained.num_failed) == (2, 1, 0)
    assert {name: value for name, value in scores(retrained).items() if name != "encoding-2"} == {
        name: value for name, value in scores(outcome).items() if name != "encoding-2"
    }


def test_a_run_interrupted_between_two_suites_continues_with_the_missing_one(
    one_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trainings: list[str]
) -> None:
    one_model["evaluation"]["suites"] = suites(*ENCODINGS[:2])
    undisturbed = scores(run(one_model))
    (trial,) = (Path(one_model["storage"]) / "trials").iterdir()
    undo(trial)
    real, written = trial_run.write_score, list[str]()

    def cut(spec: Any, score: Any, *rest: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(score.id)
        real(spec, score, *rest)

    monkeypatch.setattr(trial_run, "write_score", cut)
    with pytest.raises(KeyboardInterrupt):
        run(one_model)
    monkeypatch.setattr(trial_run, "write_score", real)
    stamp = (trial / "scores" / written[0] / "metrics.json").stat().st_mtime_ns
    outcome = run(one_model)
    assert (outcome.num_run, outcome.num_failed, scores(outcome)) == (1, 0, undisturbed)
    assert (trial / "scores" / written[0] / "metrics.json").stat().st_mtime_ns == stamp
    assert (trial / "training.json").is_file()


class BesideAnother(InlineExecutor):
    """Finds the trial claimed by another driver, which has ended by the time that this one looks again."""

    def __init__(self, other: Callable[[], object]) -> None:
        self._other: Callable[[], object] | None = other

    def run(self, jobs: Sequence[Job], *rest: Any) -> Mapping[str, str]:
        other, self._other = self._other, None
        if other is None:
            return super().run(jobs, *rest)
        (job,) = jobs
        directory = job.spec.directory
        lease = acquire_lease(lease_file(directory.parent.parent / "other"), "other")
        assert claim_trial(directory, LeaseToken(lease_file(directory.parent.parent / "other"), lease.token))
        left_out = super().run(jobs, *rest)
        release_claim(directory)
        lease.release()
        other()
        return left_out


@pytest.mark.parametrize(("keep", "num_trained", "num_lacking"), [("last", 1, 0), ("none", 1, 1)])
def test_a_trial_that_another_driver_ran_for_other_suites_is_scored_from_its_weights(
    one_model: dict[str, Any], trainings: list[str], keep: str, num_trained: int, num_lacking: int
) -> None:
    one_model["training"]["keep"] = keep
    others = {**one_model, "name": "others", "evaluation": {**one_model["evaluation"], "suites": [{"name": "c"}]}}
    one_model["evaluation"] = {**one_model["evaluation"], "instances_per_task": 1}
    path, display = Path(one_model["storage"]) / "this.yaml", RecordingDisplay()
    path.write_text(json.dumps(one_model))
    outcome = run_sweep(load_sweep(path), BesideAnother(lambda: run(others)), display)
    assert (len(trainings), outcome.num_failed) == (num_trained, num_lacking)
    assert len([warning for warning in display.warnings if "run --retrain" in warning]) == num_lacking
    assert diagnose(outcome.run_directory, Quiet()).findings == ()


def test_a_trial_that_another_driver_gave_up_is_run(one_model: dict[str, Any], trainings: list[str]) -> None:
    path = Path(one_model["storage"]) / "this.yaml"
    path.write_text(json.dumps(one_model))
    outcome = run_sweep(load_sweep(path), BesideAnother(lambda: None), Quiet())
    assert (len(trainings), outcome.num_failed) == (1, 0)


def test_ranked_suites_choose_among_the_labels_of_the_whole_file(one_model: dict[str, Any]) -> None:
    one_model["evaluation"] |= {"suites": [{"name": "test"}, {"name": "ranked", "method": "rank"}]}
    outcome = run(one_model)
    by_suite = {row["suite"]: row for row in outcome.results.to_pylist()}
    assert by_suite["test"]["accuracy"] is None
    assert by_suite["ranked"]["rouge_l"] is None
    # Two instances a task, and yet the labels of all of them: chance is well below one in two for some.
    assert 0 < by_suite["ranked"]["accuracy"] < 100
    assert diagnose(outcome.run_directory, Quiet()).findings == ()
    page = outcome.report.read_text()
    assert "accuracy" in page


def test_best_keeps_the_epoch_that_answers_what_was_set_aside_best(one_model: dict[str, Any]) -> None:
    one_model["training"] |= {"keep": "best", "epochs": 4, "learning_rate": 1e-2}
    one_model["evaluation"]["held_in"] = 4
    outcome = run(one_model)
    (row,) = outcome.results.to_pylist()
    trial = outcome.run_directory.parent / "trials" / row["trial"]
    training = read_json(trial / "training.json")["training"]
    assert len(training["score_by_epoch"]) == 4
    scores_and_losses = list(zip(training["score_by_epoch"], training["loss_by_epoch"], strict=True))
    best = 1 + max(range(4), key=lambda epoch: (scores_and_losses[epoch][0], -scores_and_losses[epoch][1]))
    assert [path.name for path in (trial / "weights").iterdir()] == [f"epoch-{best}"]
    # What is set aside is not trained on, and no test score has it.
    assert training["num_examples"] == 2 * 8
    assert row["num_test_instances"] == 18 * 2
    assert diagnose(outcome.run_directory, Quiet()).findings == ()


def test_grid_points_that_share_a_trial_are_scored_on_their_own_tasks_and_lengths(one_model: dict[str, Any]) -> None:
    """One untuned model and one copying baseline serve all points: what each score reads is its point's alone."""
    one_model["corpus"]["holdout"] = {"categories": "each"}
    one_model["selection"] |= {"strategies": [], "sizes": [2]}
    one_model["baselines"], one_model["leakage"] = ["copy-input"], "allow"
    outcome = run(one_model)
    rows = outcome.results.to_pylist()
    assert (len(rows) > 5, len({row["trial"] for row in rows})) == (True, 1)
    (status,) = run_status(outcome.run_directory).trials
    assert (status.status, len(status.scores)) == ("done", len(rows))
    (outcome.run_directory.parent / "trials" / rows[0]["trial"] / "scores" / rows[0]["score"] / "metrics.json").unlink()
    (status,) = run_status(outcome.run_directory).trials
    assert (status.status, list(status.scores.values()).count(None)) == ("missing", 1)
    for row in rows:
        path = outcome.run_directory.parent / "trials" / row["trial"] / "scores" / row["score"] / "predictions.parquet"
        assert set(read_table(path)["category"].to_pylist()) == {row["corpus.holdout"]}

    one_model["corpus"].pop("holdout")
    one_model["grid"] = {"training.max_source_tokens": [16, 64]}
    short, long = prepare_points(open_tasks(Sweep(**one_model)))
    wanted = [(point, *make_scores(make_trial(point, "untuned", (), 0))) for point in (short, long)]
    shared = prepare(short, wanted, [], Path(one_model["storage"]) / "tokens", lambda done, total: None)
    longest = [int(shared.suites[score.prompts].test.sources.lengths.max()) for _, score in wanted]
    assert longest == [16, 64]


@pytest.mark.parametrize(
    ("suite", "error", "message"),
    [
        ({"name": "a", "categories": ["no such"]}, CorpusError, "no test task has the category 'no such'"),
        ({"name": "a", "method": "rank", "metrics": ["rouge-l"]}, ConfigError, "'rouge-l' with method: rank"),
        ({"name": "a", "encoding": {"positves": 1}}, ConfigError, "positves"),
        ({"name": "A b"}, ConfigError, "lower-case"),
        ({"name": "a", "split": "nowhere"}, CorpusError, "nowhere"),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_is_written(
    one_model: dict[str, Any], suite: dict[str, Any], error: type[Exception], message: str
) -> None:
    one_model["evaluation"]["suites"] = [suite]
    with pytest.raises(error, match=message):
        run(one_model)
    assert not (Path(one_model["storage"]) / "tiny").exists()


def test_a_suite_with_other_test_tasks_changes_no_choice_and_is_guarded_from_leaks(
    one_model: dict[str, Any], tmp_path: Path
) -> None:
    tasks, splits = demo_tasks(), demo_splits()
    root, test = tmp_path / "corpus", sorted(splits["test"])
    for folder in ("tasks", "splits/default", "splits/other"):
        (root / folder).mkdir(parents=True)
    for name, content in tasks.items():
        (root / "tasks" / f"{name}.json").write_text(json.dumps(content))
    for folder, names in (("default", test[:9]), ("other", test[9:])):
        (root / "splits" / folder / "train_tasks.txt").write_text("\n".join(splits["train"]))
        (root / "splits" / folder / "test_tasks.txt").write_text("\n".join(names))
    one_model["corpus"]["path"] = str(root)
    one_model["selection"]["strategies"] = ["near-target"]
    alone = run(one_model).results.to_pylist()
    one_model["evaluation"]["suites"] = [{"name": "test"}, {"name": "other", "split": "other"}]
    both = {row["suite"]: row for row in run(one_model, retrain=True).results.to_pylist()}
    assert [both["test"][key] for key in ("trial", "score", "coverage")] == [
        alone[0][key] for key in ("trial", "score", "coverage")
    ]
    assert both["other"]["num_test_instances"] == 2 * len(test[9:])
    # A task that is drawn from the source of one that only the second suite scores.
    for name in (splits["train"][0], test[9]):
        (root / "tasks" / f"{name}.json").write_text(json.dumps(tasks[name] | {"Source": ["one of its own"]}))
    with pytest.raises(CorpusError, match=test[9]):
        run(one_model)


@pytest.fixture
def two_splits(one_model: dict[str, Any], tmp_path: Path) -> Path:
    """A corpus of three train tasks and two splits with other test tasks; `one_model` is of it."""
    root = tmp_path / "corpus"
    answers = {
        "classes": ["yes", "no"] * 12,
        "text": ["yes", "no"] * 2 + [f"answer {number}" for number in range(20)],
        **{name: ["so"] * 4 for name in ("a", "b", "c", "test")},
    }
    splits = {"default": ["test"], "other": ["classes", "text", "late"]}
    for folder in ("tasks", *(f"splits/{name}" for name in splits)):
        (root / folder).mkdir(parents=True)
    for name, outputs in answers.items():
        instances = [{"id": f"{name}-{i}", "input": f"{name} {i}", "output": [text]} for i, text in enumerate(outputs)]
        task = {"Definition": f"Do {name}.", "Categories": [name], "Instances": instances}
        (root / "tasks" / f"{name}.json").write_text(json.dumps(task))
    for name, tests in splits.items():
        (root / "splits" / name / "train_tasks.txt").write_text("a\nb\nc")
        (root / "splits" / name / "test_tasks.txt").write_text("\n".join(tests))
    one_model["corpus"] |= {"path": str(root), "min_instances": 1}
    return root


def test_test_tasks_of_a_suites_split_are_checked_and_recorded_as_those_of_the_hold_out(
    one_model: dict[str, Any], two_splits: Path
) -> None:
    suites = [[{"name": "test"}], [{"name": "test"}, {"name": "other", "split": "other"}]]
    one_model["grid"] = {"evaluation.suites": suites}
    (two_splits / "tasks" / "text.json").write_text("{")
    with pytest.raises(CorpusError, match=r"text\.json, line 1.*\n.*corpus\.skip_bad=true"):
        open_tasks(Sweep(**one_model))
    one_model["corpus"]["skip_bad"] = True
    display = RecordingDisplay()
    alone, both = read_tasks(Sweep(**one_model), display)
    assert [task.name for task in both.suites["other"].tasks] == ["classes"]
    recorded = {row["task"]: (row["role"], row["reason"][:10]) for row in both.tasks.table().to_pylist()}
    assert {name: recorded[name] for name in ("classes", "text", "late", "test")} == {
        "classes": ("test", ""),
        "text": ("dropped", "unreadable"),
        "late": ("dropped", "test task "),
        "test": ("test", ""),
    }
    assert both.tasks.why_absent("classes") == "a test task"
    assert [record.task for record in alone.tasks.records] == ["a", "b", "c", "test"]
    assert display.warnings == [
        "1 test task not on disk: late (tasks.parquet)",
        "1 unreadable task file was left out: text (tasks.parquet)",
    ]
    (two_splits / "tasks" / "classes.json").unlink()
    with pytest.raises(
        CorpusError,
        match=r"^evaluation\.suites\.1\.split: suite 'other': no test task of split 'other' can be used: "
        r"classes, late \(test task not on disk\); text \(unreadable\)",
    ):
        open_tasks(Sweep(**one_model))


@pytest.mark.parametrize("number", [4, 24])
def test_what_is_a_classification_task_does_not_depend_on_how_many_instances_are_scored(
    one_model: dict[str, Any], two_splits: Path, number: int
) -> None:
    """The first four answers of one test task look like labels; all of its answers do not."""
    suite = {"name": "ranked", "split": "other", "method": "rank", "instances_per_task": number}
    one_model["evaluation"]["suites"] = [suite]
    display = RecordingDisplay()
    (point,) = read_tasks(Sweep(**one_model), display)
    assert [(task.name, len(task.instances), task.labels) for task in point.suites["ranked"].tasks] == [
        ("classes", number, ("no", "yes"))
    ]
    assert display.notes[-1] == (
        "  suite 'ranked' ranks 1 test task; 1 task without answer choices (max_choices: 10) left out: text"
    )


def test_answer_choices_that_become_the_same_tokens_are_refused_before_training(
    one_model: dict[str, Any], trainings: list[str]
) -> None:
    one_model["evaluation"]["suites"] = [{"name": "test"}, {"name": "ranked", "method": "rank"}]
    one_model["training"]["max_target_tokens"] = 1
    with pytest.raises(
        ConfigError,
        match=r"evaluation\.suites\.1: task \S+: the answer choices '.+' and '.+' are the same tokens once they are "
        r"cut at training\.max_target_tokens: 1, .* Set it to \d+ or more",
    ):
        run(one_model)
    assert trainings == []


def test_answer_choices_without_the_right_answer_are_refused_before_training(
    one_model: dict[str, Any], trainings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a prompt format that is installed might have them.
    monkeypatch.setattr(Renderer, "choices", lambda self, task, instances, _: [("maybe", "perhaps")] * len(instances))
    one_model["evaluation"]["suites"] = [{"name": "test"}, {"name": "ranked", "method": "rank"}]
    with pytest.raises(
        ConfigError,
        match=r"evaluation\.suites\.1: task \S+: the answer choices of a prompt \('maybe', 'perhaps'\) do not include "
        r"its correct answer '.+', so every choice would count as wrong\.",
    ):
        run(one_model)
    assert trainings == []


def test_a_metric_is_one_line_in_the_registry(one_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def lengths(pairs: Sequence[Scored], _: Tokenize) -> list[float]:
        return [float(len(references[0])) for _, references in pairs]

    metric = Metric("reference-length", "reference length", 1, "generate", lengths, unit="characters")
    monkeypatch.setitem(METRICS, metric.name, metric)
    one_model["evaluation"]["metrics"] = ["reference-length", "rouge-l"]
    outcome = run(one_model)
    (row,) = outcome.results.to_pylist()
    assert row["reference_length"] > 0
    assert "exact_match" not in row
    assert "reference length" in outcome.report.read_text()
    assert diagnose(outcome.run_directory, Quiet()).findings == ()


def test_a_metric_that_fails_is_named_its_other_suites_are_scored_and_the_next_run_tries_again(
    one_model: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Metric("own", "own", 1, "generate", lambda pairs, _: [1.0] * len(pairs))
    monkeypatch.setitem(METRICS, "own", replace(good, compute=lambda pairs, _: [1.0]))
    one_model["evaluation"]["suites"] = [{"name": "plain"}, {"name": "mine", "metrics": ["own"]}]
    plain, mine = run(one_model).results.to_pylist()
    assert (plain["status"], mine["status"]) == ("done", "failed")
    assert (mine["num_steps"], mine["attempts"]) == (None, 1)
    assert "metric own: returned 1 number; expected " in mine["error"]
    monkeypatch.setitem(METRICS, "own", good)
    assert [row["own"] for row in run(one_model).results.to_pylist()] == [None, 1.0]


def test_two_suites_of_one_name_are_refused(one_model: dict[str, Any]) -> None:
    one_model["evaluation"]["suites"] = [{"name": "a"}, {"name": "a", "instances_per_task": 1}]
    with pytest.raises(ConfigError, match="two suites named 'a'"):
        run(one_model)
