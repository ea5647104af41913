"""The command line: what it prints, what it refuses and with which exit code."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Call

from simtune.report.run_rows import SOURCES

ROOT = Path(__file__).resolve().parents[2]


def simtune(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simtune.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture
def sweep_file(tiny_sweep: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep, sort_keys=False))
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["plan", "tiny.yaml"]])
def test_help_and_plan_load_neither_torch_nor_ray(arguments: list[str], sweep_file: Path) -> None:
    script = (
        "import sys, typer\n"
        "from simtune.cli import app\n"
        "try:\n    app(sys.argv[1:], standalone_mode=False)\n"
        "finally:\n    heavy = {'torch', 'ray', 'transformers', 'deepspeed', 'datasets'} & set(sys.modules)\n"
        "    print('LOADED', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=sweep_file.parent, check=False
    )
    assert "LOADED []" in done.stdout, done.stderr


def test_importing_the_package_is_light() -> None:
    script = "import sys, simtune; print(sorted({'torch', 'ray', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "absent.yaml"], "absent.yaml: no such sweep file"),
        (["run", "tiny.yaml", "--set", "trainng.epochs=1"], "did you mean 'training'?"),
        (["run", "tiny.yaml", "--set", "training.epoch=1"], "did you mean 'training.epochs'?"),
        (["run", "tiny.yaml", "--set", "training.epochs=many"], "training.epochs: 'many' is wrong"),
        (["run", "tiny.yaml", "--set", "selection.sizes=[0]"], "selection.sizes"),
        (["run", "tiny.yaml", "--set", "selection.sizes=[]"], "selection.sizes"),
        (["run", "tiny.yaml", "--set", "selection.strategies=[diferent]"], "did you mean 'different'?"),
        (["run", "tiny.yaml", "--set", "corpus.path=nowhere"], "nowhere: no such folder"),
        (["run", "tiny.yaml", "--set", "corpus.min_instances=100000"], "the pool is empty"),
        (["run", "tiny.yaml", "--set", "training.batch_size=8", "--set", "training.micro_batch_size=3"], "micro_batch"),
        (["run", "tiny.yaml", "--set", "model.tokenizer=./no-tokenizer"], "model.tokenizer"),
        (["run", "tiny.yaml", "--set", "model={name: ./no-model, init: pretrained}"], "./no-model: no such folder"),
        (["run", "tiny.yaml", "--set", "embedding.encoder=./no-encoder"], "embedding.encoder"),
        (["run", "tiny.yaml", "--set", "training.precision=fp16"], "fp16 needs a GPU"),
        (
            ["run", "tiny.yaml", "--set", "resources.cpus_per_worker=4096"],
            "a worker needs 4,096 CPUs on one host; hosts: ",
        ),
        (["plan", "broken.yaml"], "broken.yaml, line 2"),
        (["train", "tiny.yaml", "--arm", "random"], "--size: missing"),
        (["status", "nowhere"], "nowhere: no such run directory; give one such as runs/quickstart"),
        (["doctor", "tiny.yaml"], "tiny.yaml: a file, not a run directory"),
        (["report", "nowhere"], "nowhere: no such run directory"),
        (["score", "--references", "none.jsonl", "--predictions", "none.jsonl"], "none.jsonl"),
        (["data", "check", "nowhere"], "no such folder"),
        (["data", "fetch", "flan"], "no public corpus 'flan'"),
    ],
)
def test_wrong_input_is_one_clear_message_exit_2_and_nothing_written(
    arguments: list[str], expected: str, sweep_file: Path, storage: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep_file.parent)
    (sweep_file.parent / "broken.yaml").write_text("name: x\ncorpus: {path: [}\n")
    code, said, errors = call(shlex.join(arguments))
    assert code == 2, said + errors
    assert expected in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in storage.iterdir()) == ["cache"]


def test_debug_shows_the_traceback(sweep_file: Path) -> None:
    done = simtune("--debug", "run", "absent.yaml", cwd=sweep_file.parent)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_overlapping_train_and_test_tasks_are_refused(sweep_file: Path, tmp_path: Path, call: Call) -> None:
    from simtune.corpus.demo import demo_splits, demo_tasks

    corpus = tmp_path / "corpus"
    (corpus / "tasks").mkdir(parents=True)
    (corpus / "splits/default").mkdir(parents=True)
    for name, fields in list(demo_tasks().items())[:4]:
        (corpus / "tasks" / f"{name}.json").write_text(json.dumps(fields))
    (corpus / "splits/default/train_tasks.txt").write_text("\n".join(demo_splits()["train"][:4]))
    (corpus / "splits/default/test_tasks.txt").write_text(demo_splits()["train"][3])
    code, _, errors = call(f"run {sweep_file} --set corpus.path={corpus}")
    assert code == 2
    assert f"both the train and the test list ({demo_splits()['train'][3]})" in errors


def test_run_report_status_train_from_the_command_line(sweep_file: Path, storage: Path, call: Call) -> None:
    done = simtune("run", str(sweep_file), "--executor", "inline", "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    run_directory = Path(outcome["run"])
    assert {row["arm"] for row in outcome["results"]} == {"untuned", "copy-input", "different", "random"}
    assert all(row["status"] == "done" for row in outcome["results"])

    page = Path(outcome["report"])
    before = page.read_bytes()
    for path in run_directory.iterdir():
        if path.name not in SOURCES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert call(f"report {run_directory}")[0] == 0
    assert page.read_bytes() == before

    status = json.loads(call(f"status {run_directory} --json")[1])
    assert status["counts"] == {"done": 6, "failed": 0, "missing": 0, "running": 0, "damaged": 0}

    (trained,) = json.loads(call(f"train {sweep_file} --arm random --size 4 --seed 0 --json")[1]).values()
    (row,) = [row for row in outcome["results"] if (row["arm"], row["size"]) == ("random", 4)]
    assert (trained["model"], trained["score"]) == (row["trial"], row["score"])
    assert trained["overall"]["values"]["rouge-l"] == row["rouge_l"]


def test_planned_costs_are_those_of_the_run(sweep_file: Path, call: Call) -> None:
    # Only the whole pool, which is what is compared.
    wanted = (
        f"{sweep_file} --json --set selection.strategies=[] --set selection.sizes=[all] --set baselines=[] "
        "--set training.max_source_tokens=128"
    )
    plan = json.loads(call(f"plan {wanted}")[1])
    (full,) = [trial for trial in plan["trials"] if trial["arm"] == "full"]
    _, said, errors = call(f"run {wanted} --executor inline")
    assert said, errors
    (row,) = [row for row in json.loads(said)["results"] if row["arm"] == "full"]
    assert (full["num_examples"], full["num_steps"]) == (row["num_examples"], row["num_steps"]) == (560, 70)
    assert full["train_tokens"] == pytest.approx(row["num_source_tokens"] + row["num_target_tokens"], rel=0.05)


def test_score_prints_the_official_numbers(tmp_path: Path) -> None:
    references = [
        {"id": "a", "references": ["yes"], "task_id": "t1", "task_category": "Textual Entailment", "track": "default"},
        {
            "id": "b",
            "references": ["a red car"],
            "task_id": "t2",
            "task_category": "Title Generation",
            "track": "default",
        },
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, references)))
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "a", "prediction": "Yes."}))
    done = simtune("score", "--references", "r.jsonl", "--predictions", "p.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "textual_entailment" in done.stdout
    assert "50.0000" in done.stdout


@pytest.mark.fault
@pytest.mark.parametrize(
    ("sent", "times", "code"),
    [(signal.SIGINT, 3, 130), (signal.SIGTERM, 1, 143), (signal.SIGHUP, 1, 129)],
)
def test_interrupted_run_says_how_to_continue_and_frees_the_run(
    sweep_file: Path, storage: Path, sent: signal.Signals, times: int, code: int, call: Call
) -> None:
    command = [sys.executable, "-m", "simtune.cli", "run", str(sweep_file), "--executor", "inline"]
    driver = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell inherits SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (storage / "tiny/manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(times):
        driver.send_signal(sent)
        time.sleep(0.005)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == code, errors
    assert f"run `simtune run {sweep_file} --executor inline` to continue" in errors
    assert "Traceback" not in errors
    assert json.loads(call(f"status {storage}/tiny --json")[1])["driver"] is None


@pytest.mark.fault
def test_an_interrupted_train_says_that_its_trial_is_not_kept(sweep_file: Path, storage: Path) -> None:
    # Longer than any test; with an arm that needs quotes in a shell.
    options = ["--arm", "graph-cut(lambda=0.3)", "--size", "4", "--set", "training.epochs=100000"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "simtune.cli", "train", str(sweep_file), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert driver.stderr is not None
    said = ""
    while "1 trial to run" not in said:
        line = driver.stderr.readline()
        assert line, said
        said += line
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert "interrupted; nothing of the trial is kept" in errors
    again = errors.partition("run `")[2].partition("`")[0]
    assert shlex.split(again) == ["simtune", "train", str(sweep_file), *options]
    assert "to continue" not in errors
    assert sorted(path.name for path in storage.iterdir()) == ["cache"]
