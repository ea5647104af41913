"""status, results and cluster down against a cluster that is this machine."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Call
from jobs_server import JobsServer

from simtune.cluster.archive import pack, unpack
from simtune.errors import UserError
from simtune.storage.records import write_record
from simtune.sweep.run_files import Manifest, PlannedTrial
from sweeps import run, tiny_fields


@pytest.fixture
def finished(submit: Any, server: JobsServer, tmp_path: Path) -> Path:
    """The run directory of a submission that has ended."""
    submit()
    (job,) = server.jobs
    (tmp_path / "runs").mkdir()
    fields = tiny_fields(tmp_path / "runs") | {"baselines": ["copy-input"]}
    fields["selection"] |= {"strategies": [], "sizes": [2]}
    run(fields)
    server.end(job, "SUCCEEDED", 0)
    return tmp_path / "runs" / "tiny"


@pytest.mark.slow
def test_status_and_results_are_read_on_the_head(finished: Path, call: Call, cluster_file: Path) -> None:
    code, here, errors = call(f"status {finished} --json")
    assert code == 0, errors
    code, there, errors = call(f"status tiny --cluster {cluster_file} --json")
    assert (code, json.loads(there)) == (0, json.loads(here)), errors
    assert "succeeded, submitted" in errors
    assert call(f"results tiny --cluster {cluster_file} --json")[:2] == call(f"results {finished} --json")[:2]
    code, out, errors = call(f"results tiny --cluster {cluster_file} --download")
    assert code == 0, errors
    assert "open results/tiny/report/index.html" in out
    copied = {path.relative_to("results/tiny") for path in Path("results/tiny").rglob("*") if path.is_file()}
    for name in ("sweep.yaml", "manifest.json", "results.parquet", "report/index.html", "checksums.json"):
        assert Path(name) in copied
        assert (Path("results/tiny") / name).read_bytes() == (finished / name).read_bytes()
    assert not [path for path in copied if path.suffix == ".safetensors" or path.name == ".lease"]
    # Again: the copy is replaced. A run itself never is.
    assert call(f"results {finished} --cluster {cluster_file} --download")[0] == 0
    code, _, errors = call(f"results tiny --cluster {cluster_file} --download -o {finished}")
    assert code == 2
    assert "is a run of this machine" in errors
    code, _, errors = call(f"results {finished.parent}/none --cluster {cluster_file} --download")
    assert code == 2
    assert "no such run directory" in errors
    assert not Path("results/none").exists()


def test_a_folder_that_is_no_copy_of_the_run_is_not_replaced(tmp_path: Path) -> None:
    def copy(source: str) -> int:
        stream = io.BytesIO()
        pack({"manifest.json": tmp_path / "manifest.json"}, "manifest.json", stream)
        stream.seek(0)
        return unpack(stream, "manifest.json", folder, source)

    (tmp_path / "manifest.json").write_text("{}")
    folder = tmp_path / "copy"
    # Of another program.
    folder.mkdir()
    (folder / "manifest.json").write_text("mine")
    with pytest.raises(UserError, match="already exists and is something else"):
        copy("s3://bucket/runs/tiny")
    assert (folder / "manifest.json").read_text() == "mine"
    shutil.rmtree(folder)
    assert (copy("s3://bucket/runs/tiny"), copy("s3://bucket/runs/tiny")) == (1, 1)
    with pytest.raises(UserError, match="is a copy of s3://bucket/runs/tiny"):
        copy("s3://other/runs/tiny")


def test_status_says_what_the_head_could_not_read(submit: Any, call: Call, cluster_file: Path, tmp_path: Path) -> None:
    submit()
    code, out, errors = call(f"status tiny --cluster {cluster_file} --json")
    # Submitted, and not yet planned.
    assert (code, json.loads(out)["trials"], json.loads(out)["run"]) == (0, [], str(tmp_path / "runs" / "tiny"))
    assert "no trials are planned yet" in errors
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    planned = {"a" * 16: PlannedTrial(label="random", scores={"b" * 16: "english"})}
    manifest = Manifest(versions={}, machine="", command=(), commits={}, embeddings=(), grid_points={}, trials=planned)
    write_record(tmp_path / "runs" / "tiny" / "manifest.json", manifest)
    code, out, _ = call(f"status tiny --cluster {cluster_file}")
    assert (code, f"`simtune submit SWEEP --cluster {cluster_file}` continues" in " ".join(out.split())) == (0, True), (
        out
    )
    (tmp_path / "runs" / "tiny" / "manifest.json").write_text("damaged")
    code, out, errors = call(f"status tiny --cluster {cluster_file} --json")
    assert (code, out) == (2, "")
    assert "10.0.0.1: " in errors
    assert "manifest.json" in errors
    assert "no trials are planned" not in errors


def test_the_head_is_stopped_before_its_workers(
    call: Call, cluster_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_file.write_text(cluster_file.read_text().replace("worker_ips: []", "worker_ips: [10.0.0.2]"))
    stopped: list[str] = []
    monkeypatch.setattr("simtune.cluster.shutdown._stop_ray", lambda machine, say: stopped.append(machine.address))
    monkeypatch.setattr("simtune.cluster.shutdown.ray_down", lambda cluster: stopped.append("launcher"))
    assert call(f"cluster down --yes --cluster {cluster_file}")[0] == 0
    assert stopped == ["10.0.0.1", "launcher", "10.0.0.2"]


def test_a_head_that_cannot_say_what_runs_is_not_one_without_sweeps(
    call: Call, cluster_file: Path, server: JobsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text, **options: asked.append(text))
    monkeypatch.setattr("simtune.cluster.shutdown.stop_cluster", lambda cluster, say: None)
    call(f"cluster down --cluster {cluster_file}")
    server.token = "other"  # noqa: S105 a token of nothing
    call(f"cluster down --cluster {cluster_file}")
    assert asked[0] == "Shut down cluster here?"
    assert asked[1].startswith("Could not ask the head for running sweeps (")
