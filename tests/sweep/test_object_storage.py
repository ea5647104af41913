"""Runs in an object store: the bytes of a run on a disk, one result per trial, and what survives faults."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from simtune.storage.files import AnyPath, as_path, files_below, read_json

TABLES = ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv", "results.md")


@pytest.fixture
def s3_storage(s3_storage: str, tmp_path: Path, embedding_cache: Path) -> str:
    """An empty storage in an object store; this machine's cache has the demo corpus embedded."""
    (tmp_path / "cache" / "simtune").mkdir(parents=True)
    (tmp_path / "cache" / "simtune" / "embeddings").symlink_to(embedding_cache)
    return s3_storage


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, storage: Path) -> str:
    """An empty storage on a disk and in an object store, the demo corpus embedded."""
    return str(storage) if request.param == "disk" else str(request.getfixturevalue("s3_storage"))


def start(fields: dict[str, Any], folder: Path, executor: str = "inline") -> subprocess.Popen[str]:
    path = folder / f"{fields['name']}.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    command = [sys.executable, "-m", "simtune.cli", "run", str(path), "--executor", executor, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(driver: subprocess.Popen[str]) -> dict[str, Any]:
    stdout, stderr = driver.communicate(timeout=300)
    assert driver.returncode == 0, stderr
    return dict(json.loads(stdout))


def tables(run: AnyPath) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in TABLES}


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "simtune.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_run_in_an_object_store_has_the_bytes_of_one_on_a_disk(
    tiny_sweep: dict[str, Any], s3_storage: str, tmp_path: Path
) -> None:
    on_disk = Path(outcome(start(tiny_sweep, tmp_path))["run"])
    first = outcome(start({**tiny_sweep, "storage": s3_storage}, tmp_path))
    assert first["run"] == f"{s3_storage}/tiny"
    run = as_path(first["run"])
    assert tables(run) == tables(on_disk)
    assert (run / "report" / "index.html").read_bytes().startswith(b"<!doctype html>")
    assert (on_disk.parent / "trials").exists()
    assert not Path("s3:").exists()
    # Running again trains nothing, and every command reads the results.
    assert outcome(start({**tiny_sweep, "storage": s3_storage}, tmp_path))["num_run"] == 0
    assert json.loads(command("status", str(run), "--json"))["counts"]["missing"] == 0
    assert json.loads(command("doctor", str(run), "--json"))["findings"] == []
    assert f"{run}/report/index.html" in command("report", str(run))
    command("export", str(run), "--arm", "different", "--size", "2", "--output", str(tmp_path / "exported"))
    assert (tmp_path / "exported" / "chat.jsonl").is_file()
    # Damage is found there too.
    trial = next(iter(files_below(as_path(s3_storage), "trials/*/scores/*/predictions.parquet").values()))
    trial.write_bytes(b"damaged")
    found = subprocess.run(
        [sys.executable, "-m", "simtune.cli", "doctor", str(run)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "1 problem" in found.stdout


@pytest.mark.fault
@pytest.mark.slow
def test_of_competing_drivers_each_trial_has_exactly_one_result(
    tiny_sweep: dict[str, Any], place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Three runs share their trials; a fourth driver wants a run that is held."""
    drivers = [start({**tiny_sweep, "name": name, "storage": place}, tmp_path) for name in ("one", "two", "three")]
    late = None
    while late is None and drivers[0].poll() is None:
        if (as_path(place) / "one" / ".lease").is_file():
            late = start({**tiny_sweep, "name": "one", "storage": place}, tmp_path)
        time.sleep(0.2)
    found = [outcome(driver) for driver in drivers]
    assert late is not None
    _, complaint = late.communicate(timeout=300)
    assert late.returncode in {0, 2}, complaint
    if late.returncode == 2:
        assert re.search(r"one: held by .*, process \d+", complaint)
    assert len({json.dumps(one["results"]) for one in found}) == 1
    trials = {row["trial"] for row in found[0]["results"]}
    assert {
        path.parent.parent.parent.name
        for path in files_below(as_path(place), "trials/*/scores/*/metrics.json").values()
    } == trials
    assert files_below(as_path(place), "trials/*/.claim") == {}
    if place.startswith("s3://"):
        log = (request.getfixturevalue("s3_folder")[0] / "server.log").read_text()
        prefix = re.escape(place.removeprefix("s3:/"))
        written = re.findall(rf'"PUT {prefix}/trials/(\w+)/scores/\w+/metrics.json HTTP/1.1" (?:.\[0m)?200', log)
        assert Counter(written) == dict.fromkeys(trials, 1)


@pytest.mark.fault
@pytest.mark.slow
def test_killed_drivers_lose_nothing_in_an_object_store(
    tiny_sweep: dict[str, Any], s3_storage: str, tmp_path: Path
) -> None:
    undisturbed = Path(outcome(start(tiny_sweep, tmp_path))["run"])
    fields = {**tiny_sweep, "storage": s3_storage}
    chance, before = random.Random(0), dict[str, bytes]()
    for kills in range(20):  # noqa: B007 how often it was killed when the loop ends
        driver = start(fields, tmp_path)
        try:
            driver.communicate(timeout=chance.uniform(4.0, 9.0))
            break
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.communicate()
        found = files_below(as_path(s3_storage), "trials/*/scores/*/metrics.json")
        now = {name: path.read_bytes() for name, path in found.items()}
        assert before.items() <= now.items()
        before = now
    assert kills >= 1
    assert driver.returncode == 0
    assert tables(as_path(s3_storage) / "tiny") == tables(undisturbed)


@pytest.mark.fault
@pytest.mark.slow
def test_an_unreachable_store_ends_the_run_with_a_message_and_the_next_run_continues(
    tiny_sweep: dict[str, Any], s3_storage: str, s3_folder: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    fields = {**tiny_sweep, "storage": s3_storage}
    driver = start(fields, tmp_path)
    trials = as_path(s3_storage) / "trials"
    while not files_below(trials, "*/scores/*/metrics.json"):
        assert driver.poll() is None
        time.sleep(0.05)
    (s3_folder[0] / "away").touch()
    try:
        _, complaint = driver.communicate(timeout=120)
    finally:
        (s3_folder[0] / "away").unlink()
    assert driver.returncode == 1
    assert "the store does not answer" in complaint
    assert "Traceback" not in complaint
    num_done = len(files_below(trials, "*/scores/*/metrics.json"))
    again = outcome(start(fields, tmp_path))
    assert again["num_run"] == len({row["trial"] for row in again["results"]}) - num_done
    assert all(row["status"] == "done" for row in again["results"])


@pytest.mark.ray
@pytest.mark.slow
def test_ray_workers_write_to_an_object_store(tiny_sweep: dict[str, Any], s3_storage: str, tmp_path: Path) -> None:
    fields = {**tiny_sweep, "baselines": []}
    fields["selection"] = {"strategies": ["different"], "sizes": [2], "seeds": [0]}
    fields["resources"] = {"cpus_per_worker": 1}
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    on_disk = Path(outcome(start(fields, tmp_path))["run"])
    run = as_path(outcome(start({**fields, "storage": s3_storage}, tmp_path, "local"))["run"])
    assert tables(run) == tables(on_disk)
    assert read_json(run / "manifest.json")["trials"]
    # Ray's own files were on this machine, and have been removed.
    assert files_below(run, ".ray/**/*") == {}
    assert list((tmp_path / "cache" / "simtune" / "ray").iterdir()) == []
