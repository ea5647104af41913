"""Commands called with what a user may type: the basics work, and wrong names are found before any work."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import Call

from simtune.cli.stop_message import LEFT_BEHIND, stop_message
from simtune.ray_head import SUBMIT_COMMAND


@pytest.fixture
def sweep_file(tmp_path: Path, tiny_sweep: dict[str, Any]) -> Path:
    """A sweep whose storage does not exist yet, so that whatever is written shows."""
    (tmp_path / "here").mkdir(exist_ok=True)
    tiny_sweep["storage"] = str(tmp_path / "here" / "runs")
    path = tmp_path / "here" / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep, sort_keys=False))
    return path


def test_the_version_alone(call: Call) -> None:
    from simtune import __version__

    assert call("--version") == (0, f"{__version__}\n", "")
    assert call("--debug --version") == (0, f"{__version__}\n", "")


def commands() -> list[str]:
    import typer

    from simtune.cli import app

    root: Any = typer.main.get_command(app)
    found = [""]
    for name, command in root.commands.items():
        found += [name, *(f"{name} {child}" for child in getattr(command, "commands", {}))]
    return found


@pytest.mark.parametrize("command", commands())
def test_both_forms_of_help_everywhere(command: str, call: Call) -> None:
    code, short, errors = call(f"{command} -h")
    assert (code, errors) == (0, "")
    assert f"Usage: simtune{f' {command}' if command else ''}" in " ".join(short.split())
    assert call(f"{command} --help") == (0, short, "")


@pytest.mark.parametrize("line", ["", "data", "cluster"])
def test_a_group_without_a_command_prints_its_help(line: str, call: Call) -> None:
    code, said, errors = call(line)
    assert (code, errors) == (0, "")
    assert said.strip() == call(f"{line} -h")[1].strip()


def test_the_right_command_is_suggested_for_a_misspelt_one(call: Call) -> None:
    for line, right in (("statsu", "status"), ("data chekc", "check"), ("recomend", "recommend")):
        code, _, errors = call(line)
        assert code == 2
        assert f"Did you mean '{right}'" in errors


def test_a_new_sweep_file_can_be_planned_and_so_can_a_built_in_one(call: Call) -> None:
    code, said, _ = call("new")
    assert code == 0
    assert "quickstart.yaml: written; edit it, see what it costs with `simtune plan quickstart.yaml`" in said
    code, planned, errors = call("plan quickstart.yaml --json")
    assert code == 0, errors
    trials = json.loads(planned)["trials"]
    assert len(trials) >= 8
    assert json.loads(call("plan quickstart --json")[1])["trials"] == trials
    assert call("new paper -o mine.yaml")[0] == 0
    assert yaml.safe_load(Path("mine.yaml").read_text())["name"] == "paper"
    code, _, errors = call("new")
    assert code == 2
    assert "quickstart.yaml: already exists; give --output another name" in errors


def test_a_shell_can_complete_commands() -> None:
    environment = {"_SIMTUNE_COMPLETE": "complete_bash", "COMP_WORDS": "simtune st", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'simtune'; from simtune.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert set(done.stdout.split()) == {"status", "strategies"}, done.stderr


def wrong_folders(root: Path) -> None:
    """Folders that look like a model, an encoder or a tokenizer, and are none."""
    (root / "empty").mkdir()
    (root / "bert").mkdir()
    (root / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (root / "bert" / "model.safetensors").write_bytes(b"")
    (root / "bert" / "tokenizer.json").write_text("{}")
    (root / "weightless").mkdir()
    (root / "weightless" / "config.json").write_text('{"model_type": "t5"}')


BEFORE_READING = [
    # (arguments after `SWEEP`, part of the message)
    ("plan", "--set model.tokenizer=/nowhere", "model.tokenizer: /nowhere: no such folder"),
    ("plan", "--set model.tokenizer=./empty", "empty has no tokenizer"),
    ("plan", "--set model.name=/nowhere", "model.name: /nowhere: no such folder"),
    ("plan", "--set 'model={name: ./empty}'", "empty has no config.json"),
    ("plan", "--set 'model={name: ./weightless}'", "weightless has no weights"),
    (
        "plan",
        "--set 'model={name: ./bert}'",
        "is a bert model, which is not supported. Supported families: T5 (t5, mt5, umt5)",
    ),
    ("plan", "--set embedding.encoder=/nowhere", "embedding.encoder: /nowhere: no such folder"),
    ("plan", "--set embedding.encoder=./empty", "empty has no *.safetensors weights"),
    ("plan", "--set grid.embedding.encoder=[/nowhere]", "embedding.encoder: /nowhere: no such folder"),
    (
        "plan",
        "--set evaluation.metrics=[rougel]",
        "metrics=[rougel]: evaluation.metrics.0: there is no",
    ),
    ("plan", "--set evaluation.metrics=[rougel]", "no metric 'rougel'; did you mean 'rouge-l'? choose from"),
    ("plan", "--set evaluation.metrics=[accuracy]", "suite 'test' has metric 'accuracy' with method: generate;"),
    ("plan", "--set evaluation.held_in=60", "--set evaluation.held_in=60: evaluation.held_in: 60 leaves nothing"),
    ("plan", "--set training.batch_size=7 --set training.micro_batch_size=2", "--set training.batch_size=7: training."),
    ("plan", "--set corpus.path=/nowhere", "--set corpus.path=/nowhere: corpus.path: /nowhere: no such folder"),
    ("plan", "--set 'selection.strategies=[graph-cut(lambda=]'", "'graph-cut(lambda=': its bracket is not closed"),
    ("plan", "--storage tiny.yaml", "tiny.yaml is not a folder; give storage"),
    ("plan", "--set selection.strategies=differnt", "selection.strategies: unknown strategy 'differnt'; did you mean"),
    ("plan", "--set selection.strategies=[list:none.txt]", "none.txt: no such split list"),
    ("run --executor inline", "--set model.tokenizer=./empty", "empty has no tokenizer"),
    ("run --executor inline", "--set embedding.encoder=./empty", "empty has no *.safetensors weights"),
    ("run --executor inline", "--storage tiny.yaml/runs", "tiny.yaml is not a folder; give storage"),
    ("select --executor inline", "--set embedding.encoder=/nowhere", "embedding.encoder: /nowhere: no such folder"),
    ("embed --executor inline", "--set embedding.encoder=/nowhere", "embedding.encoder: /nowhere: no such folder"),
    ("graph --executor inline", "--set grid.embedding.num_demonstrations=[0,1]", "several graphs; choose one"),
    ("train", "--arm differnt --size 2", "--arm: unknown strategy 'differnt'; did you mean 'different'?"),
    ("train", "--arm graph-cut(lambda=-1) --size 2", "--arm: strategy graph-cut: lambda: -1 is not a number"),
    ("train", "--arm graph-cut(lamda=1) --size 2", "unknown parameter 'lamda'; it takes lambda; did you mean"),
    ("train", "--arm random( --size 2", "its bracket is not closed"),
    ("train", "--arm different --size 0", "0 is not at least 1"),
    ("train", "--arm different --size two", "'two' is not a whole number"),
    ("train", "--arm different --size 2 --seed -1", "-1 is not between 0 and 4294967295"),
    ("train", "--arm full --size 2", "--size: 2; arm 'full' has the whole pool, so leave --size out"),
    ("train", "--arm untuned --size 2", "arm 'untuned' is trained on no task, so leave --size out"),
    ("train", "--arm copy-input", "--arm: 'copy-input' copies and is not trained"),
    ("train", "--arm different --size 2 --set grid.training.epochs=[1,2]", "one trial has one value of each field"),
]
AFTER_READING = [
    ("plan", "--set selection.include=[taks]", "strategy different: include: the pool has no task 'taks'"),
    ("plan", "--set selection.start=word_count_tex", "start: the pool has no task 'word_count_tex'"),
    ("run --executor inline", "--set selection.exclude=[taks]", "strategy different: exclude: the pool has no task"),
    ("select --executor inline", "--set selection.exclude=[taks]", "strategy different: exclude: the pool has no task"),
    ("train", "--arm random(exclude=[taks]) --size 2", "strategy random: exclude: the pool has no task 'taks'"),
]


@pytest.mark.parametrize(("command", "arguments", "expected"), BEFORE_READING + AFTER_READING)
def test_names_are_checked_before_the_work_that_needs_them(
    command: str, arguments: str, expected: str, sweep_file: Path, call: Call
) -> None:
    wrong_folders(sweep_file.parent)
    code, _, errors = call(f"{command} tiny.yaml {arguments}")
    assert code == 2, errors
    assert expected in errors
    assert "Traceback" not in errors
    # No stage ended, or only the reading of the tasks, whose names are needed.
    stages = [part.split(" (")[0] for part in errors.split("✓ ")[1:]]
    assert all(stage.startswith("read tasks") for stage in stages)
    assert not (sweep_file.parent / "runs").exists()


def embeddings(path: Path, names: str, seed: int) -> None:
    vectors_ND = np.random.default_rng(seed).normal(size=(len(names), 4))
    pq.write_table(pa.table({"task": list(names), "embedding": vectors_ND.tolist()}), path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--candidates demo:default/test --explain word_cont", "--explain: no task 'word_cont' in demo:default/train"),
        ("--candidates demo:default/test --objective facility-location(exclude=[zz])", "exclude: the pool has no task"),
        ("--candidates demo:default/train", "nothing new: its"),
    ],
)
def test_recommend_checks_names_before_it_embeds(arguments: str, expected: str, call: Call) -> None:
    code, _, errors = call(f"recommend demo:default/train {arguments}")
    assert code == 2, errors
    assert expected in errors
    assert "read pool" in errors
    assert "embed tasks" not in errors
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("demo --candidates nowhere", "nowhere: no such folder"),
        ("demo --candidates none.jsonl", "none.jsonl: no such file of definitions"),
        ("demo --candidates none.parquet", "none.parquet: no such file of embeddings"),
        ("demo --candidates demo:default/dev", "'default/dev' is not a side of a split"),
        ("demo --candidates demo:default/test --target nowhere", "nowhere: no such folder"),
        ("demo --candidates demo:default/test --encoder /nowhere", "/nowhere: no such folder"),
        ("demo --candidates demo:default/test --encoder .", "has no *.safetensors weights"),
        ("demo --candidates demo:default/test --fields definitions", "'definitions' is not a field of a task"),
        (
            "demo --candidates demo:default/test --objective differnt",
            "'differnt' is not a strategy that gives each task a gain; did you mean",
        ),
        ("demo --candidates demo:default/test --size 1.5", "'1.5' is not a whole number"),
    ],
)
def test_recommend_looks_for_every_place_before_it_reads_one(arguments: str, expected: str, call: Call) -> None:
    code, _, errors = call(f"recommend {arguments}")
    assert code == 2, errors
    assert expected in errors
    assert "✓" not in errors


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run tiny.yaml --executor lcal", "'lcal' is not one of inline, local, cluster; did you mean 'local'?"),
        ("run tiny.yaml --retry all", "Invalid value for '--retry': 'all' is not one of failed"),
        ("plan tiny.yaml --storage ''", "--storage : storage: '' is wrong: expected a string that is not empty"),
        (
            "recommend demo --candidates demo:default/test --storage tiny.yaml",
            "tiny.yaml is not a folder; give --storage",
        ),
        (
            "data fetch natural-instruction",
            "no public corpus 'natural-instruction'; did you mean 'natural-instructions'",
        ),
        ("data fetch natural-instructions --to tiny.yaml/x", "tiny.yaml is not a folder; give --to a folder"),
        ("plan tiny.yaml --set selection.strategies=similar,random", "a list: [similar,random]"),
        (
            "plan tiny.yaml --set corpus.holdout.categories=TravelPlans",
            "no task of demo has the category TravelPlans; did you mean 'Travel Plans'?",
        ),
        ("plan tiny.yaml --set training.foo.bar=1", "error: --set training.foo.bar=1: training.foo: unknown key"),
        ("plan tiny.yaml --set training=null", "training: null is wrong: expected a section with epochs"),
        ("train tiny.yaml --arm '' --size 2", "--arm '': '' is wrong: expected a string that is not empty"),
        ("select --embeddings tiny.yaml --output /proc/x", "/proc/x: cannot be written"),
        ("recommend demo --candidates demo:default/test --output /proc/x.csv", "/proc/x.csv: cannot be written"),
        ("data fetch natural-instructions --to /proc/x", "/proc/x: cannot be written"),
        ("score --references tiny.yaml --predictions none", "--predictions: none: no such file"),
        ("score --references none --predictions tiny.yaml", "--references: none: no such file"),
        (
            "score --references tiny.yaml --predictions tiny.yaml --xlingual-tokenizer /nowhere",
            "--xlingual-tokenizer: /nowhere: no such folder",
        ),
        ("score --references x --predictions y --track defalt", "unknown track 'defalt'; did you mean 'default'?"),
        ("status", "Missing argument 'RUN'"),
        ("data check", "Missing argument 'CORPUS'"),
    ],
)
def test_a_wrong_word_is_named_with_the_valid_ones(line: str, expected: str, sweep_file: Path, call: Call) -> None:
    code, _, errors = call(line)
    assert code == 2, errors
    assert expected in errors
    assert "Value error" not in errors
    assert "✓" not in errors or "categories" in line
    assert not (sweep_file.parent / "runs").exists()


@pytest.mark.parametrize("sizes", ["2,4", "[2, 4]", " [2,4] "])
def test_sizes_may_have_the_brackets_of_a_sweep_file(call: Call, sizes: str) -> None:
    embeddings(Path("pool.parquet"), "abcdefgh", 0)
    code, printed, errors = call(f"select --embeddings pool.parquet --sizes '{sizes}' --seeds [0] --json")
    assert code == 0, errors
    assert [subset["size"] for subset in json.loads(printed)] == [2, 4]


def test_a_pipe_instead_of_embeddings_is_called_a_pipe(call: Call) -> None:
    os.mkfifo("pipe.parquet")
    for command in ("recommend pipe.parquet --candidates demo", "select --embeddings pipe.parquet"):
        code, _, errors = call(command)
        assert code == 2, errors
        assert "pipe.parquet: cannot be read (it is a pipe, not a regular file" in errors


def test_select_looks_for_every_file_before_it_reads_one(call: Call) -> None:
    embeddings(Path("pool.parquet"), "abcdefgh", 0)
    for options, expected in (
        ("--target none.parquet", "none.parquet: no such file of embeddings"),
        ("--strategy differnt", "--strategy: unknown strategy 'differnt'; did you mean 'different'?"),
        ("--sizes 2,b", "--sizes: 'b' is wrong: expected a whole number of at least 1, or all"),
        ("--seeds -1", "--seeds: -1 is wrong: expected a whole number of at least 0"),
    ):
        code, _, errors = call(f"select --embeddings pool.parquet {options}")
        assert code == 2, errors
        assert expected in errors
        assert "✓" not in errors


def test_an_option_of_the_last_arm_is_checked_before_the_first_chooses(call: Call) -> None:
    embeddings(Path("pool.parquet"), "abcdefgh", 0)
    code, _, errors = call(
        "select --embeddings pool.parquet --sizes 2 --strategy different --strategy random(include=[zz])"
    )
    assert code == 2
    assert "strategy random: include: the pool has no task 'zz'" in errors
    assert "choose subsets 1" not in errors


@pytest.mark.parametrize("name", ["ranking.csv", "ranking.parquet"])
def test_recommend_writes_no_ranking_over_anything_else(name: str, call: Call) -> None:
    embeddings(Path("pool.parquet"), "abcdefgh", 0)
    embeddings(Path("more.parquet"), "uvwxyz", 1)
    line = f"recommend pool.parquet --candidates more.parquet --output {name}"
    assert call(f"{line} --size 3")[0] == 0
    first = Path(name).read_bytes()
    assert call(f"{line} --size 3")[0] == 0
    code, _, errors = call(f"{line} --size 4")
    assert (code, Path(name).read_bytes()) == (2, first)
    assert f"{name}: already exists with different content; give --output another name, or remove the file" in errors
    Path(name).write_bytes(b"my,own,notes\n")
    code, _, errors = call(f"{line} --size 3")
    assert (code, Path(name).read_bytes()) == (2, b"my,own,notes\n")
    # A wrong output file is refused before anything is read.
    assert "✓" not in errors


@pytest.mark.parametrize("name", ["shares.json", "shares.parquet"])
def test_mixture_writes_over_nothing_but_the_same_mixture(name: str, call: Call, tiny_sweep: dict[str, Any]) -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_sweep))
    line = f"mixture tiny.yaml --output {name}"
    assert call(line)[0] == 0
    first = Path(name).read_bytes()
    assert call(line)[0] == 0
    code, _, errors = call(f"{line} --set mixture.oversample=3")
    assert (code, Path(name).read_bytes()) == (2, first)
    assert f"{name}: already exists with different content; give --output another name, or remove the file" in errors
    Path(name).write_bytes(b"my notes")
    code, _, errors = call(line)
    assert (code, Path(name).read_bytes()) == (2, b"my notes")
    # A wrong output file is refused before anything is read.
    assert "already exists with different content" in errors
    assert "✓" not in errors
    Path(name).unlink()
    Path(name).mkdir()
    code, _, errors = call(line)
    assert (code, f"{name}: this is a folder; give the name of a file" in errors, "✓" in errors) == (2, True, False)


def test_select_writes_no_subsets_over_others(call: Call) -> None:
    embeddings(Path("pool.parquet"), "abcdefgh", 0)
    line = "select --embeddings pool.parquet --sizes 2 --output out --strategy"
    assert call(f"{line} different")[0] == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert call(f"{line} different")[0] == 0
    code, _, errors = call(f"{line} similar")
    assert code == 2
    assert "out: already contains other results" in errors
    assert "✓ choose subsets" not in errors
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_every_command_says_what_it_leaves_when_it_is_stopped() -> None:
    assert set(LEFT_BEHIND) == {*commands(), "select --embeddings"} - {"", "data", "cluster"}
    for command in LEFT_BEHIND:
        said = stop_message(command, [*command.split(), "some file", "--set", "grid={a: 1}"])
        # Only what a second call continues is called continued.
        assert ("to continue" in said) == (command == "run")
        assert said.count("simtune ") == 1
        again = shlex.split(said.partition("`")[2].partition("`")[0])
        assert again == ["simtune", *command.split(), "some file", "--set", "grid={a: 1}"]
    assert "no subsets are kept" in stop_message("select", ["select", "--embeddings=pool.parquet"])
    assert "embeddings are kept" in stop_message("select", ["select", "tiny.yaml"])
    assert stop_message("mixture", ["mixture", "tiny.yaml"]).startswith("no mixture was written: ")


def test_a_submitted_driver_that_is_stopped_names_what_was_typed_where_it_was_submitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    typed = "simtune submit tiny.yaml --cluster 'my cluster.yaml'"
    monkeypatch.setenv(SUBMIT_COMMAND, typed)
    said = stop_message("run", ["run", "sweep.yaml", "--executor", "cluster"])
    assert said == f"finished stages and trials are kept: run `{typed}` to continue"


def test_a_stop_message_names_no_secret() -> None:
    assert "hunter2" not in stop_message("run", ["run", "s.yaml", "--storage", "s3://key:hunter2@host/bucket"])


def test_a_disk_that_refuses_in_the_middle_is_one_message(monkeypatch, capsys) -> None:
    application = importlib.import_module("simtune.cli.main")
    for error in (OSError(errno.EROFS, "Read-only file system", "/mnt/runs/x"), OSError(errno.EIO, "I/O error", "/a")):
        with pytest.raises(SystemExit) as ended:
            application._exit_with(error)
        assert ended.value.code == 1
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said == f"error: {error.filename}: {error.strerror}. Fix that and run the same command again\n"
    # A fault of the code is one of them only by its type.
    for error in (OSError("no file"), OSError(errno.EBADF, "Bad file descriptor", "/a")):
        with pytest.raises(SystemExit):
            application._exit_with(error)
        assert "OSError" in capsys.readouterr().err
