"""What names models and scores: every field of the sweep file changes the ids that it decides, and no others."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from simtune.config import Sweep
from simtune.config.encoding import EncodingSettings
from simtune.grid.grid_points import open_tasks
from simtune.grid.prepared_points import LoadedModels, PreparedPoint, prepare_points
from simtune.inspection.status import run_status
from simtune.prompting.tk_instruct import TkInstructSettings
from simtune.report.table_metadata import read_results_metadata
from simtune.storage.parquet_files import read_table
from simtune.sweep.trials import TrialKind, make_scores, make_trial, plan_rows
from sweeps import run, tiny_fields

KINDS: tuple[TrialKind, ...] = ("fine-tune", "untuned", "copy-input", "copy-demonstration")
ALL, MODELS, TRAINED, NONE = set(KINDS), {"fine-tune", "untuned"}, {"fine-tune"}, set[str]()
RANK = {"evaluation.method": "rank"}
SIZES = {"d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}

# Of each field two values, the kinds of result that they decide, and what must be set beside them.
FIELDS: dict[str, tuple[list[Any], set[str], dict[str, Any]]] = {
    "corpus.path": (["one", "two"], ALL, {}),
    "corpus.holdout": ([{"task": ["task7"]}, {"task": ["task8"]}], ALL, {}),
    "corpus.min_instances": ([3, 7], MODELS, {}),
    "corpus.instances_per_task": ([3, 4], MODELS, {}),
    "corpus.seed": ([0, 1], MODELS, {}),
    "corpus.skip_bad": ([False, True], NONE, {}),
    "leakage.policy": (["allow", "error"], NONE, {}),
    "leakage.max_similarity": ([0.9, 0.8], NONE, {}),
    "leakage.max_definition_similarity": ([0.9, 0.8], NONE, {}),
    "leakage.max_shared_instances": ([0.9, 0.8], NONE, {}),
    "leakage.sources": ([False, True], NONE, {}),
    "embedding.encoder": (["some/encoder", "another/encoder"], NONE, {}),
    "embedding.revision": (["a", "b"], NONE, {}),
    "embedding.fields": ([["definition"], ["category"]], NONE, {}),
    "embedding.num_demonstrations": ([0, 1], NONE, {}),
    "embedding.batch_size": ([1, 2], NONE, {}),
    "model.name": (["google-t5/t5-small", "google/t5-small-lm-adapt"], MODELS, {}),
    "model.revision": (["a", "b"], NONE, {}),
    "model.vocab_size": ([300, 310], MODELS, {}),
    "model.config": ([{**SIZES, "d_model": 16}, {**SIZES, "d_model": 32}], MODELS, {}),
    "encoding.end_of_source": ([False, True], MODELS, {}),
    "encoding.task_name": ([False, True], MODELS, {}),
    "encoding.definition": ([False, True], MODELS, {}),
    "encoding.positive": ([0, 1], MODELS, {}),
    "encoding.negative": ([0, 1], MODELS, {}),
    "encoding.explanation": ([False, True], MODELS, {"encoding.positive": 1}),
    "mixture.oversample": ([3, 9], TRAINED, {}),
    "mixture.proportional": ([{"cap": 2}, {"cap": 3}], TRAINED, {}),
    "mixture.per_template_cap": ([2, 3], TRAINED, {}),
    "mixture.examples_per_epoch": ([5, 6], TRAINED, {}),
    "training.epochs": ([1, 2], TRAINED, {}),
    "training.learning_rate": ([0.1, 0.2], TRAINED, {}),
    "training.schedule": (["constant", "linear"], TRAINED, {}),
    "training.warmup_steps": ([0, 1], TRAINED, {}),
    "training.adam_beta2": ([0.9, 0.8], TRAINED, {}),
    "training.weight_decay": ([0.1, 0.2], TRAINED, {}),
    "training.gradient_clipping": ([0.1, 0.2], TRAINED, {}),
    "training.dropout": ([0.1, 0.2], TRAINED, {}),
    "training.batch_size": ([8, 16], TRAINED, {}),
    "training.micro_batch_size": ([2, 4], TRAINED, {}),
    "training.tokens_per_batch": ([64, 128], TRAINED, {}),
    "training.micro_batch_tokens": ([32, 64], TRAINED, {"training.tokens_per_batch": 128}),
    "training.batching": (["length", "random"], TRAINED, {}),
    "training.max_source_tokens": ([32, 64], MODELS, {}),
    "training.max_target_tokens": ([4, 8], TRAINED, {}),
    "training.precision": (["fp32", "bf16"], MODELS, {}),
    "training.zero_stage": ([0, 1], TRAINED, {}),
    "training.offload": (["none", "optimizer"], TRAINED, {"training.zero_stage": 1}),
    "training.gradient_checkpointing": ([False, True], TRAINED, {}),
    "training.compile": ([False, True], TRAINED, {}),
    "evaluation.suites": ([[{"name": "a"}], [{"name": "a", "instances_per_task": 1}]], ALL, {}),
    "evaluation.method": (["generate", "rank"], ALL, {}),
    "evaluation.metrics": ([["rouge-l"], ["exact-match"]], ALL, {}),
    "evaluation.instances_per_task": ([1, 2], ALL, {}),
    "evaluation.max_new_tokens": ([4, 5], MODELS, {}),
    "evaluation.max_choices": ([4, 5], NONE, {}),
    "evaluation.length_normalised": ([False, True], NONE, {}),
    "evaluation.held_in": ([1, 2], TRAINED, {}),
    "evaluation.tokens_per_batch": ([64, 128], MODELS, {}),
}
# What has no effect on generated answers, or something else, decides ranked ones.
RANKED: dict[str, tuple[list[Any], set[str], dict[str, Any]]] = {
    "training.max_target_tokens": ([4, 8], MODELS, RANK),
    "evaluation.max_new_tokens": ([4, 5], NONE, RANK),
    "evaluation.max_choices": ([4, 5], MODELS, RANK),
    "evaluation.length_normalised": ([False, True], MODELS, RANK),
}
# The first three need a hub or an installed package, the last cannot be swept.
LEFT_OUT = {"model.init", "model.tokenizer", "encoding.format", "training.keep"}


def write_corpus(root: Path, word: str) -> None:
    tasks = {f"task{number}": 5 if number == 6 else 12 for number in range(1, 9)}
    (root / "tasks").mkdir(parents=True)
    for name, num_instances in tasks.items():
        # Enough different text for tokenizers of different sizes.
        definition = f"{word} {name} {' '.join(sha256(f'{word} {name} {n}'.encode()).hexdigest() for n in range(9))}."
        shown = [{"input": f"{word} {name}", "output": "yes", "explanation": word}]
        instances = [
            {"id": f"{name}-{index}", "input": f"{word} {name} {index}", "output": [["yes", "no", "maybe"][index % 3]]}
            for index in range(num_instances)
        ]
        task = {
            "Definition": definition,
            "Categories": [name],
            "Instances": instances,
        }
        task |= {"Positive Examples": shown, "Negative Examples": shown}
        (root / "tasks" / f"{name}.json").write_text(json.dumps(task))


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    write_corpus(root / "one", "first")
    write_corpus(root / "two", "second")
    return root


@pytest.fixture(scope="module")
def models() -> LoadedModels:
    return LoadedModels()


def sweep_fields(corpora: Path, more: dict[str, Any]) -> dict[str, Any]:
    fields = tiny_fields(corpora / "runs")
    fields["corpus"] = {"path": str(corpora / "one"), "min_instances": 3, "instances_per_task": 3}
    fields["corpus"]["holdout"] = {"task": ["task7"]}
    fields["model"]["vocab_size"] = 310
    fields["training"] |= {"max_source_tokens": 64}
    fields["baselines"] = list(KINDS[1:])
    fields["leakage"] = "allow"
    for key, value in more.items():
        section, name = key.split(".")
        fields.setdefault(section, {})[name] = value
    return fields


def prepared(corpora: Path, models: LoadedModels, grid: dict[str, Any], more: dict[str, Any]) -> list[PreparedPoint]:
    return prepare_points(open_tasks(Sweep(**sweep_fields(corpora, more), grid=grid)), models)


def ids(point: PreparedPoint, kind: TrialKind) -> list[str]:
    trial = make_trial(point, kind, ("task1", "task2") if kind == "fine-tune" else (), 0)
    return [trial.id, *(score.id for score in make_scores(trial))]


def trained(corpora: Path, models: LoadedModels, **more: Any) -> str:
    (point,) = prepared(corpora, models, {}, {key.replace("__", "."): value for key, value in more.items()})
    return ids(point, "fine-tune")[0]


def test_every_field_that_can_be_swept_is_looked_at() -> None:
    sections = ("corpus", "leakage", "embedding", "model", "mixture", "training", "evaluation")
    names = {
        f"{section}.{name}" for section in sections for name in type(getattr(Sweep(name="s"), section)).model_fields
    }
    names |= {f"encoding.{name}" for name in (*EncodingSettings.model_fields, *TkInstructSettings.model_fields)}
    assert names == set(FIELDS) | LEFT_OUT


@pytest.mark.parametrize(
    ("field", "values", "decided", "more"),
    [(field, *case) for cases in (FIELDS, RANKED) for field, case in cases.items()],
    ids=[*FIELDS, *(f"{field} of ranked answers" for field in RANKED)],
)
def test_a_field_changes_the_ids_that_it_decides_and_is_named_in_their_rows_alone(
    field: str, values: list[Any], decided: set[str], more: dict[str, Any], corpora: Path, models: LoadedModels
) -> None:
    if field == "corpus.path":
        values = [str(corpora / value) for value in values]
    first, second = prepared(corpora, models, {field: values}, more)
    changed = {kind for kind in KINDS if ids(first, kind) != ids(second, kind)}
    assert changed == decided
    rows = plan_rows([first, second], [[], []])
    values = [dict(point.point.values)[field] for point in (first, second)]
    for arm in KINDS[1:]:
        cells = [dict(row.grid)[field] for row in rows if row.arm == arm]
        if field == "evaluation.method":
            assert cells == (values if arm == "untuned" else values[:1])
        elif more == RANK and arm != "untuned":
            assert cells == []
        else:
            assert cells == (values if arm in changed else [None])


def test_a_setting_that_decides_one_suite_is_named_in_its_rows_alone(corpora: Path, models: LoadedModels) -> None:
    suites = [{"name": "written"}, {"name": "chosen", "method": "rank"}]
    points = prepared(corpora, models, {"evaluation.max_choices": [4, 5]}, {"evaluation.suites": suites})
    rows = [row for row in plan_rows(points, [[], []]) if row.arm == "untuned"]
    assert [(row.score.suite.name, row.grid[0][1]) for row in rows] == [("written", None), ("chosen", 4), ("chosen", 5)]


def test_two_ways_to_write_a_training_are_one_model(corpora: Path, models: LoadedModels) -> None:
    plain = trained(corpora, models)
    assert trained(corpora, models, training__micro_batch_size=8) == plain
    tokens = trained(corpora, models, training__tokens_per_batch=128)
    assert tokens != plain
    for same in ({"training__batch_size": 4}, {"training__micro_batch_tokens": 128}):
        assert trained(corpora, models, training__tokens_per_batch=128, **same) == tokens


def test_a_model_is_named_by_the_instances_that_are_set_aside(
    corpora: Path, models: LoadedModels, tmp_path: Path
) -> None:
    (point,) = prepared(corpora, models, {}, {"evaluation.held_in": 2})
    (aside,) = (task.instances for task in point.tasks.held_in if task.name == "task1")
    write_corpus(tmp_path / "one", "first")
    path = tmp_path / "one/tasks/task1.json"
    task = json.loads(path.read_text())
    for instance in task["Instances"]:
        if instance["id"] == aside[0].id:
            instance["output"] = ["changed"]
    path.write_text(json.dumps(task))
    names = [trained(folder, models, evaluation__held_in=2) for folder in (corpora, tmp_path)]
    assert names[0] != names[1]
    # Neither trains on it, so without scores of epochs it has no effect.
    assert trained(corpora, models) == trained(tmp_path, models)


def test_the_order_of_metrics_is_for_tables_and_changes_no_score(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep["selection"] = {"strategies": [], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = ["copy-input"]
    first = run(tiny_sweep)
    again = run(tiny_sweep, "evaluation.metrics=[exact-match, rouge-l]")
    assert (first.num_run, again.num_run, again.num_failed) == (1, 0, 0)
    table = read_table(again.run_directory / "results.parquet")
    assert [metric.name for metric in read_results_metadata(table).metrics] == ["exact-match", "rouge-l"]
    (trial,) = run_status(again.run_directory).trials
    assert [list(values or ()) for values in trial.scores.values()] == [["exact-match", "rouge-l"]]


def test_suites_with_the_same_settings_are_all_named(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep["selection"] = {"strategies": [], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = ["copy-input"]
    tiny_sweep["evaluation"]["suites"] = [{"name": "a"}, {"name": "b"}, {"name": "c", "instances_per_task": 1}]
    outcome = run(tiny_sweep)
    (trial,) = run_status(outcome.run_directory).trials
    assert list(trial.scores) == ["a, b", "c"]
    assert read_table(outcome.run_directory / "costs.parquet")["suite"].to_pylist() == ["a, b", "c"]
    assert outcome.results["suite"].to_pylist() == ["a", "b", "c"]
