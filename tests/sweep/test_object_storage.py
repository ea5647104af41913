"""Runs in an object store: the bytes of a run on a disk, one result per trial, and what survives faults."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Call, in_process
from forked import ForkedDriver
from json_files import read_json
from object_servers import SERVERS

from simtune.storage.files import AnyPath, as_path, files_below
from simtune.storage.parquet_files import read_table

TABLES = ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv", "results.md")


@pytest.fixture
def object_storage(object_storage: Callable[[str], str], tmp_path: Path, embedding_cache: Path) -> Callable[[str], str]:
    """As elsewhere; this machine's cache has the demo corpus embedded."""
    (tmp_path / "cache" / "simtune").mkdir(parents=True)
    (tmp_path / "cache" / "simtune" / "embeddings").symlink_to(embedding_cache)
    return object_storage


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, storage: Path) -> str:
    """An empty storage on a disk and in an object store, the demo corpus embedded."""
    return str(storage) if request.param == "disk" else str(request.getfixturevalue("s3_storage"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in this process."""
    return in_process(monkeypatch, capsys)


def sweep_file(fields: dict[str, Any], folder: Path) -> Path:
    path = folder / f"{fields['name']}.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def start(fields: dict[str, Any], folder: Path, executor: str = "inline") -> ForkedDriver:
    words = ["run", str(sweep_file(fields, folder)), "--executor", executor, "--json"]
    output = folder / f"driver-{len(list(folder.glob('driver-*.out')))}.out"
    output.touch()
    return ForkedDriver(words, output, output.with_suffix(".err"))


def outcome(driver: ForkedDriver) -> dict[str, Any]:
    assert driver.wait(300) == 0, driver.errors.read_text()
    return dict(json.loads(driver.output.read_text()))


def tables(run: AnyPath) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in TABLES}


def done(call: Call, line: str) -> str:
    code, said, errors = call(line)
    assert code == 0, errors
    return said


def run_here(call: Call, fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    return dict(json.loads(done(call, f"run {sweep_file(fields, folder)} --executor inline --json")))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", list(SERVERS))
def test_a_run_in_an_object_store_has_the_bytes_of_one_on_a_disk(
    tiny_sweep: dict[str, Any], object_storage: Callable[[str], str], tmp_path: Path, call: Call, scheme: str
) -> None:
    storage = object_storage(scheme)
    on_disk = Path(run_here(call, tiny_sweep, tmp_path)["run"])
    first = run_here(call, {**tiny_sweep, "storage": storage}, tmp_path)
    assert first["run"] == f"{storage}/tiny"
    run = as_path(first["run"])
    assert tables(run) == tables(on_disk)
    assert (run / "report" / "index.html").read_bytes().startswith(b"<!doctype html>")
    assert (on_disk.parent / "trials").exists()
    assert not Path(f"{scheme}:").exists()
    # Running again trains nothing, and every command reads the results.
    assert run_here(call, {**tiny_sweep, "storage": storage}, tmp_path)["num_run"] == 0
    assert json.loads(done(call, f"status {run} --json"))["counts"]["missing"] == 0
    assert json.loads(done(call, f"doctor {run} --json"))["findings"] == []
    assert f"{run}/report/index.html" in done(call, f"report {run}")
    done(call, f"export {run} --arm different --size 2 --output {tmp_path / 'exported'}")
    assert (tmp_path / "exported" / "chat.jsonl").is_file()
    # Damage is found there too.
    trial = next(iter(files_below(as_path(storage), "trials/*/scores/*/predictions.parquet").values()))
    trial.write_bytes(b"damaged")
    code, said, _ = call(f"doctor {run}")
    assert code == 1
    assert "1 problem" in said


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
    late.wait(300)
    complaint = late.errors.read_text()
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
    tiny_sweep: dict[str, Any], s3_storage: str, tmp_path: Path, call: Call
) -> None:
    undisturbed = Path(run_here(call, tiny_sweep, tmp_path)["run"])
    fields = {**tiny_sweep, "storage": s3_storage}
    chance, before, kills = random.Random(0), dict[str, bytes](), 0
    for num_results in (0, 1, 3):
        driver = start(fields, tmp_path)
        while len(finished(s3_storage)) < num_results and driver.poll() is None:
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(chance.uniform(0.0, 0.5))
        kills += driver.poll() is None
        driver.kill()
        driver.wait()
        results = finished(s3_storage)
        assert before.items() <= results.items()
        before = results
    assert kills >= 2
    assert len(before) >= 3
    outcome(start(fields, tmp_path))
    assert before.items() <= finished(s3_storage).items()
    assert tables(as_path(s3_storage) / "tiny") == tables(undisturbed)


def finished(storage: str) -> dict[str, bytes]:
    found = files_below(as_path(storage), "trials/*/scores/*/metrics.json")
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.mark.fault
@pytest.mark.slow
def test_an_unreachable_store_ends_the_run_with_a_message_and_the_next_run_continues(
    tiny_sweep: dict[str, Any], s3_storage: str, s3_folder: tuple[Path, dict[str, str]], tmp_path: Path, call: Call
) -> None:
    fields = {**tiny_sweep, "storage": s3_storage}
    driver = start(fields, tmp_path)
    trials = as_path(s3_storage) / "trials"
    while not files_below(trials, "*/scores/*/metrics.json"):
        assert driver.poll() is None
        time.sleep(0.05)
    (s3_folder[0] / "away").touch()
    try:
        driver.wait(120)
    finally:
        (s3_folder[0] / "away").unlink()
    complaint = driver.errors.read_text()
    assert driver.returncode == 1
    assert "the store does not answer" in complaint
    assert "Traceback" not in complaint
    num_done = len(files_below(trials, "*/scores/*/metrics.json"))
    again = run_here(call, fields, tmp_path)
    assert again["num_run"] == len({row["trial"] for row in again["results"]}) - num_done
    assert all(row["status"] == "done" for row in again["results"])


@pytest.mark.ray
@pytest.mark.slow
def test_warm_workers_give_the_bytes_of_the_inline_executor_in_an_object_store(
    tiny_sweep: dict[str, Any], s3_storage: str, tmp_path: Path, call: Call
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one CPU")
    # The same number of threads, or matrix products add up in another order; one slot, so that one process runs all.
    fields = {**tiny_sweep, "selection": {"strategies": ["different"], "sizes": [2, 3], "seeds": [0]}}
    fields["resources"] = {"cpus_per_worker": 1, "max_concurrent": 1}
    fields["training"] = {**fields["training"], "zero_stage": 1}
    inline = Path(run_here(call, fields, tmp_path)["run"])
    # A fresh process for one trial of them.
    command = [sys.executable, "-m", "simtune.cli", "train", str(tmp_path / "tiny.yaml")]
    command += ["--arm", "different", "--size", "2", "--seed", "0", "--json"]
    (fresh,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout).values()
    warm_run = outcome(start({**fields, "storage": s3_storage}, tmp_path, "local"))
    warm = as_path(warm_run["run"])
    assert all(row["status"] == "done" for row in warm_run["results"])
    assert tables(warm) == tables(inline)
    rows = read_table(warm / "results.parquet").to_pylist()
    (row,) = [row for row in rows if (row["arm"], row["size"]) == ("different", 2)]
    metrics = read_json(as_path(s3_storage) / "trials" / row["trial"] / "scores" / row["score"] / "metrics.json")
    assert metrics.keys() - fresh.keys() == {"sha256"}
    assert metrics | fresh == metrics
    assert read_json(warm / "manifest.json")["trials"]
    # Ray's own files were on this machine, and have been removed.
    assert files_below(warm, ".ray/**/*") == {}
    assert list((tmp_path / "cache" / "simtune" / "ray").iterdir()) == []
