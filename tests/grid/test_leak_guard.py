"""The leak guard in sweeps: each policy, texts before anything is written, embeddings before anything is chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from displays import RecordingDisplay
from json_files import read_json

from simtune.config import Sweep, load_sweep
from simtune.corpus.demo import demo_splits, demo_tasks
from simtune.corpus.task import Task
from simtune.errors import ConfigError, CorpusError, ModelError
from simtune.executors.inline import InlineExecutor
from simtune.export.mixture_file import write_mixture
from simtune.grid.grid_points import open_tasks
from simtune.planning import plan as planning
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.prompting import tokenizer as tokenizers
from simtune.prompting.tokenizer import TextTokenizer, train_tokenizer
from simtune.storage.parquet_files import read_table
from simtune.sweep import run as running
from simtune.sweep import train_one as single
from simtune.sweep.run import run_sweep

# The demo's pair with the largest cosine (0.668; the next has 0.636): duplicates at a low threshold.
POOL_TASK, TEST_TASK = "demo_task027_travel_closed_airport", "demo_task241_office_meeting_city"
LOW = "leakage.max_similarity=0.65"


@pytest.fixture
def leaky(tiny_sweep: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The tiny sweep on a copy of the demo in which one train task is drawn from a test task's source."""
    tasks, splits = demo_tasks(), demo_splits()
    tasks[POOL_TASK]["Source"] = ["Office Files"]
    tasks[TEST_TASK]["Source"] = ["office_files"]
    root = tmp_path / "leaky"
    for folder in ("tasks", "splits/default"):
        (root / folder).mkdir(parents=True)
    for name, content in tasks.items():
        (root / "tasks" / f"{name}.json").write_text(json.dumps(content))
    for kind, names in splits.items():
        (root / "splits/default" / f"{kind}_tasks.txt").write_text("\n".join(names))
    tiny_sweep["corpus"]["path"] = str(root)
    return tiny_sweep


def sweep_of(fields: dict[str, Any], *overrides: str) -> Sweep:
    path = Path(fields["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return load_sweep(path, overrides)


def embed(fields: dict[str, Any], *overrides: str) -> tuple[list[dict[str, Any]], dict[str, str], list[str]]:
    """Leaks, the role of each task, and the warnings."""
    display = RecordingDisplay()
    directory = single.embed_and_select(sweep_of(fields, *overrides), InlineExecutor(), display, False).run_directory
    leaks = read_table(directory / "leaks.parquet").to_pylist()
    roles = {row["task"]: row["role"] for row in read_table(directory / "tasks.parquet").to_pylist()}
    return leaks, roles, display.warnings


def test_without_leaks_the_list_is_there_and_empty(tiny_sweep: dict[str, Any]) -> None:
    leaks, roles, warnings = embed(tiny_sweep)
    assert (leaks, warnings) == ([], [])
    assert sum(role == "pool" for role in roles.values()) == 70


def test_texts_are_refused_before_anything_is_written(leaky: dict[str, Any]) -> None:
    with pytest.raises(CorpusError) as caught:
        run_sweep(sweep_of(leaky), InlineExecutor(), Quiet())
    assert caught.value.exit_code == 2
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("1 pair of pool and held-out tasks leaks (1 by source): 1 of the pool, 1 held out")
    assert lines[1] == f"  {POOL_TASK} shares source Office Files with test task {TEST_TASK}"
    for remedy in ("leakage.policy=remove", "leakage.policy=allow", "leakage.sources=false"):
        assert remedy in lines[2]
    assert not (Path(leaky["storage"]) / "tiny").exists()
    with pytest.raises(CorpusError, match="shares source"):
        plan_sweep(sweep_of(leaky))
    everything = ("leakage.policy=remove", "leakage.max_definition_similarity=0.0")
    with pytest.raises(CorpusError, match="remove would empty the pool"):
        run_sweep(sweep_of(leaky, *everything), InlineExecutor(), Quiet())
    assert not (Path(leaky["storage"]) / "tiny").exists()


def test_texts_may_be_removed_or_allowed(leaky: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    leaks, roles, warnings = embed(leaky, "leakage=remove")
    assert [(leak["pool_task"], leak["test_task"], leak["evidence"]) for leak in leaks] == [
        (POOL_TASK, TEST_TASK, "source")
    ]
    assert (roles[POOL_TASK], roles[TEST_TASK]) == ("dropped", "test")
    assert "1 held out; 1 pool task left out, 69 remain (leakage: remove)" in warnings[0]
    assert "leaks.parquet" in warnings[0]
    same_leaks, roles, warnings = embed(leaky, "leakage=allow")
    assert (same_leaks, roles[POOL_TASK]) == (leaks, "pool")
    assert "1 held out; 1 pool task trained on anyway (leakage: allow)" in warnings[0]
    embedded: list[int] = []
    need = planning.disk_need
    monkeypatch.setattr(planning, "disk_need", lambda *given: (embedded.append(given[-1]), need(*given))[1])
    plans = [plan_sweep(sweep_of(leaky, f"leakage={policy}")) for policy in ("remove", "allow")]
    assert [plan.pool_tasks for plan in plans] == [69, 70]
    assert embedded == [88, 88]
    assert all("1 by source" in plan.leaks for plan in plans)
    mixture, _ = write_mixture(sweep_of(leaky, "leakage=remove"), None, Quiet())
    assert (len(mixture), POOL_TASK in mixture["task"].to_pylist()) == (69, False)


def test_what_leaks_by_its_text_is_looked_at_in_the_embeddings_too(leaky: dict[str, Any]) -> None:
    leaks, roles, warnings = embed(leaky, LOW, "leakage.policy=remove")
    assert [(leak["pool_task"], leak["evidence"]) for leak in leaks] == [
        (POOL_TASK, "source"),
        (POOL_TASK, "embedding"),
    ]
    assert roles[POOL_TASK] == "dropped"
    (warning,) = warnings
    assert "1 pair of pool and held-out tasks leaks (1 by source, 1 by embedding): 1 of the pool" in warning
    directory = Path(leaky["storage"]) / "tiny"
    reasons = {row["task"]: row["reason"] for row in read_table(directory / "tasks.parquet").to_pylist()}
    assert reasons[POOL_TASK] == (
        f"leak: shares source Office Files with test task {TEST_TASK} (and 1 more in leaks.parquet)"
    )
    assert len(read_table(directory / "embeddings.parquet")) == 88
    # So vectors are the same whatever the policy.
    leaky["grid"] = {"leakage.policy": ["remove", "allow"]}
    removed, allowed = single.embed_and_select(sweep_of(leaky, LOW), InlineExecutor(), Quiet(), False).embeddings
    assert removed is allowed


def test_embeddings_are_refused_before_anything_is_chosen(tiny_sweep: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match=r"cosine 0\.668.*\n.*a leakage\.max_similarity above 0\.65"):
        run_sweep(sweep_of(tiny_sweep, LOW), InlineExecutor(), Quiet())
    directory = Path(tiny_sweep["storage"]) / "tiny"
    (leak,) = read_table(directory / "leaks.parquet").to_pylist()
    assert (leak["pool_task"], leak["test_task"], leak["evidence"]) == (POOL_TASK, TEST_TASK, "embedding")
    assert leak["value"] == pytest.approx(0.668, abs=2e-3)
    assert not (directory / "subsets.parquet").exists()
    assert not (directory.parent / "trials").exists()


def test_equal_vectors_reach_a_threshold_of_one(leaky: dict[str, Any]) -> None:
    # Nothing but the category is embedded, and this train task now has a test task's.
    tasks = Path(leaky["corpus"]["path"]) / "tasks"
    content = json.loads((tasks / f"{POOL_TASK}.json").read_text())
    content["Categories"] = json.loads((tasks / f"{TEST_TASK}.json").read_text())["Categories"]
    (tasks / f"{POOL_TASK}.json").write_text(json.dumps(content))
    settings = ("leakage.policy=allow", "leakage.sources=false", "embedding.fields=[category]")
    leaks, *_ = embed(leaky, *settings, "leakage.max_similarity=1.0")
    assert {leak["pool_task"] for leak in leaks} == {POOL_TASK}
    assert [leak["value"] for leak in leaks] == [1.0] * 3


def test_what_leaks_by_its_embedding_is_never_trained_on_not_even_by_the_tokenizer(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2, "all"], "seeds": [0]}
    tiny_sweep["baselines"] = []
    sweep = sweep_of(tiny_sweep, LOW, "leakage.policy=remove", "corpus.instances_per_task=1")
    pools: list[int] = []

    def train(pool: tuple[Task, ...], vocab_size: int) -> TextTokenizer:
        pools.append(len(pool))
        return train_tokenizer(pool, vocab_size)

    monkeypatch.setattr(tokenizers, "train_tokenizer", train)
    outcome = run_sweep(sweep, InlineExecutor(), Quiet())
    # Of no tasks to check the model, then once.
    assert pools == [0, 69]
    (full,) = [row for row in outcome.results.to_pylist() if row["arm"] == "full"]
    assert (full["status"], full["num_tasks"], full["num_examples"]) == ("done", 69, 69)
    trained = read_json(outcome.run_directory.parent / "trials" / full["trial"] / "model.json")["train_tasks"]
    assert len(trained) == 69
    assert POOL_TASK not in trained
    (prepared,) = open_tasks(sweep)
    clean = train_tokenizer([task for task in prepared.tasks.pool if task.name != POOL_TASK], 600)
    assert read_json(outcome.run_directory / "manifest.json")["grid_points"]["all"]["tokenizer"] == clean.fingerprint
    assert train_tokenizer(prepared.tasks.pool, 600).fingerprint != clean.fingerprint
    (dropped,) = [
        row for row in read_table(outcome.run_directory / "tasks.parquet").to_pylist() if row["task"] == POOL_TASK
    ]
    assert (dropped["role"], dropped["num_drawn"]) == ("dropped", 0)
    assert dropped["reason"] == f"leak: has cosine 0.668 with test task {TEST_TASK}"
    page = outcome.report.read_text()
    assert "Leak guard: 1 near-duplicate pair of train and test tasks (1 by embedding)" in page
    assert "Train tasks in these pairs: 1, of which 0 in the pool." in page
    assert "near-duplicate of a test task" in page


@pytest.mark.parametrize("arm", ["full", "untuned"])
def test_a_single_trial_has_the_leak_guard_too(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    trials: list[tuple[Any, tuple[str, ...]]] = []

    def stop(prepared: Any, kind: str, tasks: tuple[str, ...], seed: int) -> None:
        trials.append((prepared, tasks))
        raise KeyboardInterrupt

    monkeypatch.setattr(single, "make_trial", stop)
    for policy in ("remove", "allow"):
        with pytest.raises(KeyboardInterrupt):
            single.train_one(sweep_of(tiny_sweep, LOW, f"leakage.policy={policy}"), arm, None, 0, Quiet())
    (removed, removed_tasks), (allowed, allowed_tasks) = trials
    assert POOL_TASK not in removed_tasks
    assert (POOL_TASK in allowed_tasks) == (arm == "full")
    assert removed.tokenizer.fingerprint != allowed.tokenizer.fingerprint
    with pytest.raises(CorpusError, match="has cosine"):
        single.train_one(sweep_of(tiny_sweep, LOW), arm, None, 0, Quiet())


def test_grid_points_with_other_policies_have_other_pools(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": ["all"], "seeds": [0]}
    tiny_sweep["baselines"] = ["untuned", "copy-input"]
    tiny_sweep["grid"] = {"leakage.policy": ["remove", "allow"]}
    outcome = run_sweep(sweep_of(tiny_sweep, LOW, "corpus.instances_per_task=1"), InlineExecutor(), Quiet())
    rows = outcome.results.to_pylist()
    points = {row["leakage.policy"]: row for row in rows if row["arm"] == "full"}
    assert {policy: row["num_tasks"] for policy, row in points.items()} == {"remove": 69, "allow": 70}
    # Their tokenizers differ, so their untuned models do; what copies the input has none.
    assert len({row["trial"] for row in rows if row["arm"] == "untuned"}) == 2
    assert [row["leakage.policy"] for row in rows if row["arm"] == "copy-input"] == [None]
    grids = {
        name: {row["grid"] for row in read_table(outcome.run_directory / f"{name}.parquet").to_pylist()}
        for name in ("tasks", "leaks", "subsets")
    }
    assert set(map(frozenset, grids.values())) == {frozenset({"leakage.policy=remove", "leakage.policy=allow"})}


def test_a_list_with_tasks_that_are_not_in_the_pool_is_refused_with_the_reason_of_each(
    leaky: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (single, running):
        monkeypatch.setattr(module, "embed_points", lambda *_: pytest.fail("embedded before the names were checked"))
    train = demo_splits()["train"]
    small = next(name for name in train if len(demo_tasks()[name]["Instances"]) < 60)
    good = next(name for name in train if len(demo_tasks()[name]["Instances"]) >= 60 and name != POOL_TASK)
    listed = tmp_path / "published.txt"
    listed.write_text("\n".join([good, TEST_TASK, small, POOL_TASK, "demo_typo"]))
    arm = f"selection.strategies=[list:{listed}]"
    with pytest.raises(ConfigError) as caught:
        single.embed_and_select(sweep_of(leaky, arm, "leakage=remove"), InlineExecutor(), Quiet(), True)
    assert f"list {listed}: the pool does not have 4 of its 5 tasks: {TEST_TASK} (a test task" in str(caught.value)
    assert f"{small} (instances: " in str(caught.value)
    assert f"{POOL_TASK} (leak: shares source Office Files" in str(caught.value)
    assert "demo_typo (neither a train nor a test task of this corpus" in str(caught.value)
    listed.write_text("\n".join([good, POOL_TASK]))
    for stage in (
        plan_sweep,
        lambda sweep: single.embed_and_select(sweep, InlineExecutor(), Quiet(), True),
        lambda sweep: run_sweep(sweep, InlineExecutor(), Quiet()),
    ):
        with pytest.raises(ConfigError, match=rf"1 of its 2 tasks: {POOL_TASK} \(leak: "):
            stage(sweep_of(leaky, arm, "leakage=remove"))
    assert not (Path(leaky["storage"]) / "tiny").exists()


def test_a_list_with_a_task_that_leaks_by_its_embedding_is_refused_before_anything_is_chosen(
    tiny_sweep: dict[str, Any], tmp_path: Path
) -> None:
    listed = tmp_path / "published.txt"
    listed.write_text(POOL_TASK)
    sweep = sweep_of(tiny_sweep, LOW, "leakage.policy=remove", f"selection.strategies=[list:{listed}]")
    with pytest.raises(ConfigError, match=rf"1 of its 1 task: {POOL_TASK} \(leak: has cosine 0\.668"):
        single.embed_and_select(sweep, InlineExecutor(), Quiet(), False)
    directory = Path(tiny_sweep["storage"]) / "tiny"
    assert (directory / "leaks.parquet").exists()
    assert not (directory / "tasks.parquet").exists()


def test_a_wrong_model_is_refused_before_its_tokenizer_is_trained_on_the_pool(
    tiny_sweep: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "embed_points", lambda *_: pytest.fail("embedded before the model was checked"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    tiny_sweep["model"] |= {"name": str(tmp_path), "config": {}}
    with pytest.raises(ModelError, match="not a configuration of T5"):
        run_sweep(sweep_of(tiny_sweep), InlineExecutor(), Quiet())
    assert not (Path(tiny_sweep["storage"]) / "tiny").exists()


def test_a_plan_counts_the_tasks_of_a_list_and_says_what_it_skips_as_the_selection_does(
    tiny_sweep: dict[str, Any], tmp_path: Path
) -> None:
    listed = tmp_path / "published.txt"
    listed.write_text(f"{POOL_TASK}\n{TEST_TASK}\ndemo_typo\n")
    sweep = sweep_of(
        tiny_sweep, f"selection.strategies=[{{list: {listed}, missing: skip, label: l}}]", "selection.sizes=[1, 4]"
    )
    planned = {trial.size: (trial.num_tasks, trial.note) for trial in plan_sweep(sweep).trials if trial.arm == "l"}
    (subsets,) = single.embed_and_select(sweep, InlineExecutor(), Quiet(), True).subsets
    assert planned == {subset.size: (len(subset.tasks), subset.note) for subset in subsets}
    assert [num_tasks for num_tasks, _ in planned.values()] == [1, 1]
    assert planned[4][1].startswith("l: 1 of 4 tasks: its list or its options allow no more; l: 2 names of its list")


def test_a_grid_over_what_is_scored_keeps_the_tasks_leaks_and_subsets_of_each_point(leaky: dict[str, Any]) -> None:
    splits = Path(leaky["corpus"]["path"]) / "splits"
    (splits / "other").mkdir()
    (splits / "other" / "train_tasks.txt").write_text((splits / "default" / "train_tasks.txt").read_text())
    (splits / "other" / "test_tasks.txt").write_text(TEST_TASK)
    tests = [name for name in (splits / "default" / "test_tasks.txt").read_text().split() if name != TEST_TASK]
    (splits / "default" / "test_tasks.txt").write_text("\n".join(tests))
    suites = [[{"name": "test"}], [{"name": "other", "split": "other"}]]
    leaky["grid"] = {"evaluation.suites": suites, "evaluation.held_in": [0, 50]}
    sweep = sweep_of(leaky, "leakage=remove", "corpus.instances_per_task=30")
    directory = single.embed_and_select(sweep, InlineExecutor(), Quiet(), True).run_directory
    tables = {name: read_table(directory / f"{name}.parquet").to_pylist() for name in ("tasks", "leaks", "subsets")}
    labels = [f"evaluation.suites={suite}, evaluation.held_in={held_in}" for suite in suites for held_in in (0, 50)]
    assert list(dict.fromkeys(row["grid"] for row in tables["tasks"])) == labels
    assert {row["grid"] for row in tables["subsets"]} == set(labels)
    assert {row["grid"] for row in tables["leaks"]} == set(labels[2:])
    roles = {row["grid"]: row["role"] for row in tables["tasks"] if row["task"] == POOL_TASK}
    assert list(roles.values()) == ["pool", "pool", "dropped", "dropped"]
    # Instances that are set aside are not drawn for training.
    drawn = [sum(row["num_drawn"] for row in tables["tasks"] if row["grid"] == label) for label in labels[:2]]
    assert drawn[0] > drawn[1]
