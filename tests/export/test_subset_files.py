"""Exports: exactly the instances of a trial, in files for other programs, complete or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from command_line import in_process
from displays import RecordingDisplay
from results_made_up import run_of

from simtune.config import CorpusSettings, EncodingSettings, EvaluationSettings
from simtune.corpus.pool import build_task_sets, task_fingerprint
from simtune.corpus.task import Task
from simtune.errors import CorpusError, RunError, UserError
from simtune.export.subset_files import ExportRecord, export_subset
from simtune.progress import Quiet
from simtune.prompting.registry import make_renderer, resolve_encoding
from simtune.storage.files import fingerprint, write_bytes
from simtune.storage.parquet_files import write_table
from simtune.trial.files import identity_bytes

FOUR = (
    "demo_task011_shop_cheaper",
    "demo_task001_food_guest_dish",
    "demo_task006_food_bigger_eater",
    "demo_task004_food_on_menu",
)
CORPUS = {"path": "demo", "min_instances": 60, "instances_per_task": 8}
SUBSETS = [
    *((arm, seed, size) for arm in ("different", "random") for seed in (3, 5) for size in (2, 4)),
    ("full", 3, 4),
]


def make_run(
    root: Path,
    fields: dict[str, Any] | None = None,
    names: Sequence[str] = FOUR,
    subsets: Sequence[tuple[str, int, int]] = SUBSETS,
    grid: Sequence[str] = ("",),
) -> Path:
    """The part of a run directory after `simtune select` that an export reads."""
    run = root / "runs" / "tiny"
    run.mkdir(parents=True)
    settings = {"name": "tiny", "corpus": CORPUS, "storage": str(root / "runs"), **(fields or {})}
    (run / "sweep.yaml").write_text(yaml.safe_dump(settings))
    rows = [
        {"grid": label, "arm": arm, "seed": seed, "size": size, "num_tasks": size, "rank": rank, "task": name}
        for label in grid
        for arm, seed, size in subsets
        # By rank, not by place in the table.
        for rank, name in reversed(list(enumerate(names[:size])))
    ]
    write_table(run / "subsets.parquet", pa.Table.from_pylist(rows))
    return run


def export(run: Path, output: Path, arm: str = "random", size: int | None = 4, **rest: Any) -> ExportRecord:
    return export_subset(run, arm, size, rest.pop("seed", None), output, rest.pop("display", Quiet()), **rest)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pool_of(corpus: dict[str, Any]) -> dict[str, Task]:
    return {task.name: task for task in build_task_sets(CorpusSettings(**corpus), EvaluationSettings()).pool}


def test_every_file_holds_the_instances_of_the_trial(tmp_path: Path) -> None:
    from datasets import load_from_disk

    encoding: dict[str, Any] = {"positive": 2, "negative": 1, "explanation": True}
    run = make_run(tmp_path, {"encoding": encoding})
    output = tmp_path / "new" / "out"
    record = export(run, output, seed=5)
    assert (record.num_tasks, record.num_instances, record.seed) == (4, 32, 5)

    pool = pool_of(CORPUS)
    tasks = [pool[name] for name in sorted(FOUR)]
    settings = EncodingSettings(**encoding)
    prompts = [
        prompt.source
        for task in tasks
        for prompt in make_renderer(settings).render(
            task, task.instances, 10_000, lambda texts: [len(t.split()) for t in texts]
        )
    ]
    expected = [
        {
            "task": task.name,
            "category": task.category,
            "id": instance.id,
            "definition": task.definition,
            "input": instance.input,
            "outputs": list(instance.outputs),
            "source": prompts[8 * number + index],
            "target": instance.outputs[0],
        }
        for number, task in enumerate(tasks)
        for index, instance in enumerate(task.instances)
    ]
    dataset = load_from_disk(str(output / "dataset"))
    assert dataset.column_names == list(expected[0])
    assert dataset.to_list() == expected
    assert lines(output / "seq2seq.jsonl") == [
        {key: row[key] for key in ("task", "id", "source", "target")} for row in expected
    ]
    chats = lines(output / "chat.jsonl")
    assert [(chat["task"], chat["id"]) for chat in chats] == [(row["task"], row["id"]) for row in expected]
    for chat, row in zip(chats, expected, strict=True):
        roles = [message["role"] for message in chat["messages"]]
        assert roles == ["system", *["user", "assistant"] * 3]
        assert [message["content"] for message in chat["messages"][-2:]] == [row["input"], row["target"]]
    assert (output / "train_tasks.txt").read_text() == "".join(f"{name}\n" for name in FOUR)

    record = json.loads((output / "export.json").read_bytes())
    assert (record["run"], record["arm"], record["size"], record["seed"]) == ("tiny", "random", 4, 5)
    assert record["encoding"] == resolve_encoding(settings).model_dump()
    assert record["corpus"]["instances_per_task"] == 8
    assert record["files"] == {
        name: hashlib.sha256((output / name).read_bytes()).hexdigest()
        for name in ("seq2seq.jsonl", "chat.jsonl", "train_tasks.txt")
    }
    assert sorted(path.name for path in output.parent.iterdir()) == ["out"]

    again = tmp_path / "again"
    export(run, again, seed=5)
    whole = {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert whole == {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "settings"), [("def_pos2", {}), ("def_pos2_neg2_expl", {"negative": 2})])
def test_sources_of_real_tasks_equal_the_published_collators(
    name: str, settings: dict[str, Any], shared_data: Path, tmp_path: Path
) -> None:
    golden = [json.loads(line) for line in (shared_data / "golden/tk_instruct_sources.jsonl").open()]
    golden = [line for line in golden if (line["encoding"], line["max_source_tokens"]) == (name, 1024)]
    names = list(dict.fromkeys(line["task"] for line in golden))
    root = shared_data / "sup-natinst"
    test_tasks = (root / "splits/default/test_tasks.txt").read_text().split()
    held_out = next(task for task in test_tasks if (root / "tasks" / f"{task}.json").is_file())
    corpus = tmp_path / "corpus"
    (corpus / "tasks").mkdir(parents=True)
    (corpus / "splits/default").mkdir(parents=True)
    for task in (*names, held_out):
        shutil.copy(root / "tasks" / f"{task}.json", corpus / "tasks")
    (corpus / "splits/default/train_tasks.txt").write_text("\n".join(names))
    (corpus / "splits/default/test_tasks.txt").write_text(held_out)

    fields = {
        "corpus": {"path": str(corpus), "min_instances": 1},
        "encoding": {**settings, "explanation": "expl" in name},
    }
    run = make_run(tmp_path, fields, names, [("full", 0, len(names))])
    export(run, tmp_path / "out", "full", None)
    by_task: dict[str, list[str]] = {}
    for line in lines(tmp_path / "out/seq2seq.jsonl"):
        by_task.setdefault(line["task"], []).append(line["source"])
    assert len(by_task) == len(names)
    # The collator leaves out what does not fit into 1,024 tokens; a source with the last demonstration was not cut.
    last = "Negative Example 2 -" if "neg" in name else "Positive Example 2 -"
    fitting = [line for line in golden if last in line["source"]]
    assert len(fitting) >= 40
    for line in fitting:
        assert by_task[line["task"]][line["instance"]] == line["source"], line["task"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            {"arm": "diferent"},
            r"--arm: 'diferent' has no subset .*; did you mean 'different'\? Arms there: .*different",
        ),
        ({"size": 3}, r"--size: arm 'random' has no subset of size 3 .*sizes there: 2, 4"),
        ({"size": None}, r"--size: missing; arm 'random' has several .*sizes there: 2, 4"),
        ({"seed": 0}, r"--seed: arm 'random' has no subset of seed 0 .*seeds there: 3, 5"),
        ({"grid": "x=1"}, r"--grid: 'x=1' is not a grid point"),
    ],
)
def test_arguments_must_name_a_subset(named: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        export(make_run(tmp_path), tmp_path / "out", **named)
    assert not (tmp_path / "out").exists()


def test_size_and_seed_may_be_left_out_where_there_is_one_choice(tmp_path: Path) -> None:
    record = export(make_run(tmp_path), tmp_path / "out", "full", None)
    assert (record.size, record.seed) == (4, 3)


def test_a_folder_without_subsets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"sweep\.yaml: no such file.*simtune select"):
        export(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("field", "values", "of_table"),
    [
        ("corpus.seed", [1, 10], ["corpus.seed=1", "corpus.seed=10"]),
        # The encoding decides no subset, so the table does not name it.
        ("encoding.positive", [1, 10], [""]),
    ],
)
def test_a_grid_point_must_be_named_where_it_decides(
    field: str, values: list[int], of_table: list[str], tmp_path: Path
) -> None:
    run = make_run(tmp_path, {"grid": {field: values, "training.learning_rate": [1e-3, 1e-2]}}, grid=of_table)
    with pytest.raises(UserError, match=rf"--grid: missing.*: {field}=1; {field}=10"):
        export(run, tmp_path / "out")
    export(run, tmp_path / "out", grid=f"{field}=10")
    section, name = field.split(".")
    assert json.loads((tmp_path / "out/export.json").read_bytes())[section][name] == 10


def test_a_grid_that_has_no_effect_on_the_export_needs_no_choice(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"grid": {"training.learning_rate": [1e-3, 1e-2]}})
    assert export(run, tmp_path / "out").grid == ""


def test_a_used_output_is_refused_and_left_alone(tmp_path: Path) -> None:
    run, output = make_run(tmp_path), tmp_path / "out"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="out: not empty"):
        export(run, output)
    for below in (output / "mine.txt", output / "mine.txt" / "below"):
        with pytest.raises(UserError, match=r"mine\.txt is not a folder"):
            export(run, below)
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    (output / "mine.txt").unlink()
    export(run, output)


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), RunError)]
)
def test_an_export_cut_short_leaves_nothing(
    error: BaseException, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def cut(self: Any, path: str) -> None:
        Path(path).mkdir()
        raise error

    monkeypatch.setattr(datasets.Dataset, "save_to_disk", cut)
    with pytest.raises(raised):
        export(make_run(tmp_path), tmp_path / "new" / "out")
    assert list((tmp_path / "new").iterdir()) == []


def own_corpus(folder: Path, names: Sequence[str], text: str) -> dict[str, Any]:
    """A corpus whose texts all contain `text`, with the tasks `names` and one held out."""
    for name in (*names, "held_out"):
        task = {
            "Definition": [f"Say {text}"],
            "Categories": ["Held" if name == "held_out" else "Echo"],
            "Positive Examples": [{"input": f"p{text}", "output": text, "explanation": ""}],
            "Negative Examples": [],
            "Instances": [{"id": f"{name}-{index}", "input": f"i{text}", "output": [text]} for index in range(3)],
        }
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(task))
    return {"path": str(folder), "holdout": {"categories": ["Held"]}, "min_instances": 1}


def test_line_separators_stay_inside_their_line_and_text_stays_readable(tmp_path: Path) -> None:
    text = "ü\u2028x\u2029y\x85z\x0b\x0c\x1c\r\nü"
    corpus = own_corpus(tmp_path / "corpus", ["a"], text)
    export(make_run(tmp_path, {"corpus": corpus}, ["a"], [("full", 0, 1)]), tmp_path / "out", "full", None)
    for name in ("seq2seq.jsonl", "chat.jsonl"):
        assert len(lines(tmp_path / "out" / name)) == 3
        assert "ü" in (tmp_path / "out" / name).read_bytes().decode()
    assert {line["target"] for line in lines(tmp_path / "out/seq2seq.jsonl")} == {text}


def test_tasks_that_have_changed_since_the_run_are_reported(tmp_path: Path) -> None:
    corpus = own_corpus(tmp_path / "corpus", ["a", "b"], "x")
    run = make_run(tmp_path, {"corpus": corpus}, ["b", "a"], [("full", 0, 2)])
    trained = {name: task_fingerprint(task) for name, task in pool_of(corpus).items()}
    identity = {"train_tasks": trained}
    trial = fingerprint(identity)[:16]
    write_bytes(run.parent / "trials" / trial / "model.json", identity_bytes(trial, identity))
    run_of(run.parent, [trial, "0" * 16], run.name)
    display = RecordingDisplay()
    export(run, tmp_path / "same", "full", None, display=display)
    assert display.warnings == []

    path = tmp_path / "corpus" / "a.json"
    path.write_text(path.read_text().replace("Say x", "Say y"))
    export(run, tmp_path / "changed", "full", None, display=display)
    (warning,) = display.warnings
    assert warning.startswith("a: changed since the run trained on it (1 of 2 tasks did)")

    path.unlink()
    with pytest.raises(CorpusError, match=r"^a: chosen by arm 'full', but no longer in the pool"):
        export(run, tmp_path / "gone", "full", None)


def test_the_command_prints_the_absolute_folder_and_what_its_record_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, printed, errors = in_process(monkeypatch, capsys)(f"export {run} --arm full --output out --json")
    assert code == 0, errors
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    del record["sha256"]
    assert json.loads(printed) == {"output": str(tmp_path / "out"), **record}
