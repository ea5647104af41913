"""What is found of damage on disk, and that a run of the first release is still read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from simtune.config import load_sweep
from simtune.errors import RunError
from simtune.report.build import build_report
from simtune.storage import json_text, read_json, read_table, write_table
from simtune.sweep.display import Quiet
from simtune.sweep.doctor import diagnose
from simtune.sweep.executors import InlineExecutor
from simtune.sweep.export import export_subset
from simtune.sweep.graph_run import write_graph
from simtune.sweep.results import read_metrics
from simtune.sweep.run import run_sweep
from simtune.sweep.status import run_status
from sweeps import run

FIRST_RELEASE = Path(__file__).parents[1] / "fixtures" / "first_release"


def test_every_damaged_file_of_a_run_is_found_and_running_again_mends_it(tiny_sweep: dict[str, Any]) -> None:
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

    flip(root / "scores.parquet")
    (root / "report" / "index.html").unlink()
    flip(trained / "predictions.parquet")
    metrics = read_json(untuned / "metrics.json")
    metrics["overall"]["rouge_l"] = 99.0
    (untuned / "metrics.json").write_bytes(json_text(metrics))
    (untuned / "costs.json").write_text("{")
    (untuned / "attempts").mkdir()
    (untuned / "attempts" / "1.json").write_text('{"attempt": 1}')
    (copied / "metrics.json").unlink()
    found = {Path(finding.path): finding for finding in diagnose(root, Quiet()).findings}
    assert set(found) == {
        root / "scores.parquet",
        root / "report" / "index.html",
        trained / "predictions.parquet",
        untuned / "metrics.json",
        untuned / "costs.json",
        untuned / "attempts" / "1.json",
        copied / "metrics.json",
    }
    assert "its SHA-256 differs" in found[root / "scores.parquet"].problem
    assert "simtune report" in found[root / "report" / "index.html"].remedy
    assert f"move {trained} aside" in found[trained / "predictions.parquet"].remedy
    assert "remove it" in found[untuned / "costs.json"].remedy
    assert "results.parquet has its result" in found[copied / "metrics.json"].problem
    assert "its predictions score" in found[untuned / "metrics.json"].problem

    for trial in (trained, untuned):
        shutil.move(trial, trial.with_suffix(".aside"))
    run(tiny_sweep)
    assert diagnose(root, Quiet()).findings == ()
    assert {path.name: path.read_bytes() for path in root.glob("results.*")} == tables


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rouge_l", float("nan"), r"rouge_l: expected a number, found nan"),
        ("rouge_l", 100.5, "rouge_l is 100.5"),
        ("exact_match", "4", r"exact_match: expected a number, found '4'"),
        ("num_instances", 0, "num_instances is 0"),
    ],
)
def test_numbers_out_of_range_do_not_come_in(tmp_path: Path, field: str, value: Any, message: str) -> None:
    source = next(path for path in (FIRST_RELEASE / "trials").iterdir() if (path / "metrics.json").is_file())
    metrics = read_json(source / "metrics.json")
    metrics["tasks"][0][field] = value
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(RunError, match=message):
        read_metrics(tmp_path)


def test_a_run_of_the_first_release_is_read_by_all_that_read_runs(tmp_path: Path) -> None:
    storage = shutil.copytree(FIRST_RELEASE, tmp_path / "runs")
    root = storage / "first"
    status = run_status(root)
    assert (status.count("done"), status.count("failed"), status.count("missing")) == (2, 1, 0)
    assert status.driver is None
    page = build_report(root).read_text()
    assert "NonFiniteLossError: the loss is nan at step 3" in " ".join(page.split())
    # What it says is what it said.
    assert (root / "results.md").read_bytes() == (FIRST_RELEASE / "first" / "results.md").read_bytes()
    diagnosis = diagnose(root, Quiet())
    assert diagnosis.findings == ()
    assert diagnosis.num_unverified > 0
    assert any("1 trials failed" in note for note in diagnosis.notes)


def test_a_run_of_the_first_release_is_exported_drawn_and_continued(tmp_path: Path, embedding_cache: Path) -> None:
    storage = shutil.copytree(FIRST_RELEASE, tmp_path / "runs")
    (storage / "cache").mkdir()
    (storage / "cache" / "embeddings").symlink_to(embedding_cache)
    before = read_table(storage / "first" / "results.parquet")

    # Its trials trained on the tasks that it exports, or a warning would say otherwise.
    class NoWarning(Quiet):
        def warn(self, text: str) -> None:
            pytest.fail(text)

    exported = export_subset(storage / "first", "random", None, None, tmp_path / "subset", NoWarning())
    assert (exported.num_tasks, exported.num_instances) == (2, 8)
    sweep = load_sweep(storage / "first" / "sweep.yaml", (f"storage={storage}",))
    assert write_graph(sweep, InlineExecutor(), Quiet(), 3, 0.95).counts["nodes"] == 88

    # Nothing is computed again: today's identities are those of the first release, and its rows say what they said.
    continued = run_sweep(sweep, InlineExecutor(), Quiet())
    assert (continued.num_run, continued.num_failed) == (0, 1)
    # Similarities come from vectors whose last digits depend on the texts that were encoded with them.
    rounded = {"mean_similarity", "max_similarity", "coverage"}
    for name in before.column_names:
        then, now = before[name].to_pylist(), continued.results[name].to_pylist()
        assert now == (pytest.approx(then, abs=1e-6) if name in rounded else then), name
    assert diagnose(storage / "first", Quiet()).findings == ()
    again = run_sweep(sweep, InlineExecutor(), Quiet(), only_failed=True)
    assert (again.num_run, again.num_failed) == (1, 1)
    assert again.results.to_pylist()[-1]["failure"] == "diverged"


def test_tables_of_a_later_release_are_refused(tmp_path: Path) -> None:
    storage = shutil.copytree(FIRST_RELEASE, tmp_path / "runs")
    table = read_table(storage / "first" / "results.parquet")
    write_table(storage / "first" / "results.parquet", table.replace_schema_metadata({b"simtune.schema": b"99"}))
    with pytest.raises(RunError, match="schema '99', newer than this simtune reads"):
        build_report(storage / "first")
