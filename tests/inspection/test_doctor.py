"""What damage `doctor` finds on disk, and what it says about an undamaged run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from results_made_up import SCORE, metrics_of
from typer.testing import CliRunner

from simtune.cli.main import app
from simtune.config import load_sweep
from simtune.errors import RunError
from simtune.evaluation.metric_registry import METRICS
from simtune.executors.inline import InlineExecutor
from simtune.inspection.doctor import diagnose
from simtune.inspection.status import run_status
from simtune.inspection.tables import status_table
from simtune.progress import Quiet
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import json_text, write_bytes
from simtune.storage.records import write_record
from simtune.sweep.run import run_sweep
from simtune.trial.files import read_metrics
from sweeps import only_score, run

TRIAL = "0123456789abcdef"


def test_every_damaged_file_of_a_run_is_found_and_running_again_repairs_it(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_sweep["selection"] = {"strategies": ["random"], "sizes": [2], "seeds": [0]}
    outcome = run(tiny_sweep)
    root = outcome.run_directory
    clean = diagnose(root, Quiet())
    assert clean.findings == ()
    assert clean.num_verified > 2 * clean.num_trials
    trained, untuned, copied = (
        root.parent / "trials" / row["trial"]
        for arm in ("random", "untuned", "copy-input")
        for row in outcome.results.to_pylist()
        if row["arm"] == arm
    )
    tables = {path.name: path.read_bytes() for path in root.glob("results.*")}

    # As where the package is not installed that added the metric.
    with monkeypatch.context() as patch:
        patch.delitem(METRICS, "rouge-l")
        unknown = diagnose(root, Quiet()).findings
        assert status_table(run_status(root)).row_count == clean.num_trials
    assert {finding.remedy for finding in unknown} == {"install what adds the metric"}
    assert all("this installation has no metric 'rouge-l'" in finding.problem for finding in unknown)

    flip(root / "scores.parquet")
    (root / "report" / "index.html").unlink()
    scores = {trial: only_score(trial) for trial in (trained, untuned, copied)}
    flip(scores[trained] / "predictions.parquet")
    # Even if the checksum was changed too, the predictions show what the scores are.
    metrics = read_metrics(untuned, scores[untuned].name)
    assert metrics is not None
    task = metrics.tasks[0].model_copy(update={"headline": 99.0})
    write_record(scores[untuned] / "metrics.json", metrics.model_copy(update={"tasks": (task, *metrics.tasks[1:])}))
    (scores[untuned] / "costs.json").write_text("{")
    (untuned / "attempts").mkdir()
    (untuned / "attempts" / "1.json").write_text('{"attempt": 1}')
    (scores[copied] / "metrics.json").unlink()
    found = {Path(finding.path): finding for finding in diagnose(root, Quiet()).findings}
    assert set(found) == {
        root / "scores.parquet",
        root / "report" / "index.html",
        scores[trained] / "predictions.parquet",
        scores[untuned] / "metrics.json",
        scores[untuned] / "costs.json",
        untuned / "attempts" / "1.json",
        scores[copied] / "metrics.json",
    }
    assert "its SHA-256 differs" in found[root / "scores.parquet"].problem
    assert "simtune report" in found[root / "report" / "index.html"].remedy
    assert f"move {trained} aside" in found[scores[trained] / "predictions.parquet"].remedy
    assert "remove it" in found[scores[untuned] / "costs.json"].remedy
    assert "results.parquet has its result" in found[scores[copied] / "metrics.json"].problem
    assert "its predictions score" in found[scores[untuned] / "metrics.json"].problem

    for trial in (trained, untuned):
        shutil.move(trial, trial.with_suffix(".aside"))
    run(tiny_sweep)
    assert diagnose(root, Quiet()).findings == ()
    assert {path.name: path.read_bytes() for path in root.glob("results.*")} == tables


def test_what_is_advised_for_a_damaged_file_of_a_run_works_for_each(finished: Path) -> None:
    root = finished / "tiny"
    sweep = load_sweep(finished / "sweep-file.yaml", (f"storage={finished}",))
    run_sweep(sweep, InlineExecutor(), Quiet())
    before = {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file() and path.name != ".lease"}
    for path in before:
        flip(path)
    findings = diagnose(root, Quiet()).findings
    # The checksums are themselves damaged: nothing else can be compared.
    assert {Path(finding.path).name for finding in findings} == {"checksums.json", "manifest.json", "sweep.yaml"}
    (root / "checksums.json").write_bytes(before[root / "checksums.json"])
    findings = diagnose(root, Quiet()).findings
    assert {Path(finding.path) for finding in findings} == before.keys() - {root / "checksums.json"}
    for finding in findings:
        if finding.remedy.startswith("move it aside"):
            Path(finding.path).unlink()
    run_sweep(sweep, InlineExecutor(), Quiet())
    assert diagnose(root, Quiet()).findings == ()
    varying = {root / "manifest.json", root / "checksums.json", root / "timings.json"}
    assert all(path.read_bytes() == data for path, data in before.items() if path not in varying)


def test_hidden_files_of_another_system_are_not_files_of_a_run(finished: Path) -> None:
    for path in [path for path in finished.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert diagnose(finished / "tiny", Quiet()).findings == ()
    # Like an interrupted run.
    (finished / "tiny" / "checksums.json").unlink()
    assert diagnose(finished / "tiny", Quiet()).findings == ()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("headline", "NaN", "not valid JSON|Invalid JSON|finite"),
        ("headline", 100.5, "less than or equal to 100, found 100.5"),
        ("headline", "4", "valid number, found '4'"),
        ("num_instances", 0, "greater than or equal to 1, found 0"),
        ("unknown", 0, "Extra inputs are not permitted"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    directory = tmp_path / TRIAL
    fields = metrics_of(TRIAL).model_dump(mode="json")
    fields["tasks"][0][field] = value
    text = json_text(fields).replace(b'"NaN"', b"NaN")
    write_bytes(directory / "scores" / SCORE / "metrics.json", checksummed_json(text))
    with pytest.raises(RunError, match=message):
        read_metrics(directory, SCORE)


def test_a_good_run_prints_one_line_and_no_empty_table(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep |= {"selection": {"strategies": [], "sizes": [2]}, "baselines": ["copy-input"]}
    outcome = run(tiny_sweep)
    shown = CliRunner().invoke(app, ["doctor", str(outcome.run_directory)]).stdout
    assert " ".join(shown.split()).endswith("tiny: 1 trial, 24 files verified, nothing wrong")
    assert not set(shown) & set("─│┌┏━")
