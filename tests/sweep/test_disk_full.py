"""A full disk during a write: the message names path and free space, no partial file stays, freeing space is enough."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from simtune.embedding.cache import EmbeddingCache, Encoded, text_key
from simtune.errors import DiskFullError
from simtune.storage.records import read_record
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.token_store import stored
from simtune.trial.failures import attempts_of
from simtune.trial.records import Costs
from sweeps import run

FULL = r"no space left \([\d,]+ MiB free on its disk"


def fill(disk: Path, leave: int = 0) -> Path:
    """Fills a disk up to this many bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return filler


# Fills the disk at the moment a trial is scored.
FILLING_DRIVER = """
import shutil, sys
from pathlib import Path
from simtune.cli import main
from simtune.trial import scoring

def filled(records, *rest, real=scoring.score_predictions):
    with (disk / "filler").open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free))
    return real(records, *rest)

disk = Path(sys.argv[1])
scoring.score_predictions = filled
sys.argv[1:] = ["run", sys.argv[2], "--executor", "inline"]
main()
"""


@pytest.fixture
def one_trial(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    return tiny_sweep | {"selection": {"strategies": ["random"], "sizes": [2], "seeds": [0]}, "baselines": []}


@pytest.mark.fault
def test_a_full_disk_ends_a_driver_with_its_path_and_freeing_space_is_enough(
    one_trial: dict[str, Any], small_disk: Path
) -> None:
    undisturbed = run(one_trial)
    expected = metrics_of(Path(one_trial["storage"]))
    full = one_trial | {"storage": str(small_disk / "runs")}
    (small_disk / "runs/cache").mkdir(parents=True)
    (small_disk / "runs/cache/embeddings").symlink_to(Path(one_trial["storage"]) / "cache/embeddings")
    sweep_file = small_disk / "sweep-file.yaml"
    sweep_file.write_text(yaml.safe_dump(full))
    command = [sys.executable, "-c", FILLING_DRIVER, str(small_disk), str(sweep_file)]
    driver = subprocess.run(command, capture_output=True, text=True, check=False)
    assert driver.returncode == 1, driver.stderr
    assert f"{small_disk / 'runs'}" in driver.stderr
    assert "no space left (0 MiB free on its disk" in " ".join(driver.stderr.split())
    assert "Traceback" not in driver.stderr
    (trial,) = (small_disk / "runs/trials").iterdir()
    left = {path.name for path in trial.rglob("*") if path.is_file()}
    assert not left & {
        "metrics.json",
        "predictions.parquet",
        "model.json",
        "score.json",
        "training.json",
        "failure.json",
    }
    assert not [name for name in left if name.endswith(".tmp")]
    (small_disk / "filler").unlink()
    assert run(full).num_failed == 0
    assert metrics_of(small_disk / "runs") == expected
    assert undisturbed.num_failed == 0


def metrics_of(storage: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (storage / "trials").glob("*/scores/*/metrics.json")}


def resumed_and_rate(trial: Path) -> tuple[bool, bool]:
    """Whether a trial says that it was resumed, and whether it has a rate of training."""
    (path,) = trial.glob("scores/*/costs.json")
    costs = read_record(path, Costs)
    return costs.resumed, costs.train_source_tokens_per_s is not None


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet", "model.json", "step-"])
def test_a_trial_without_space_for_a_file_is_run_again_by_the_next_run(
    one_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    one_trial["resources"] = {"checkpoint_minutes": 0}
    real, raised = os.fsync, list[str]()

    def full(descriptor: int) -> None:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if name in path and "/trials/" in path and not raised:
            raised.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    outcome = run(one_trial)
    (row,) = outcome.results.to_pylist()
    assert (row["status"], row["failure"], row["attempts"]) == ("failed", "infrastructure", 1)
    trial = Path(one_trial["storage"]) / "trials" / row["trial"]
    assert row["error"].startswith(f"DiskFullError: {trial}/")
    assert [record.cause for record in attempts_of(trial)] == ["infrastructure"]
    assert list(trial.glob("scores/*/metrics.json")) == []
    assert not list(trial.rglob("*.tmp"))
    assert run(one_trial).num_failed == 0
    repaired = metrics_of(Path(one_trial["storage"]))
    # What is saved before the error is not trained again, so the seconds are not those of the whole training.
    continued = name != "step-"
    assert resumed_and_rate(trial) == (continued, not continued)
    shutil.rmtree(trial)
    run(one_trial)
    assert resumed_and_rate(trial) == (False, True)
    assert metrics_of(Path(one_trial["storage"])) == repaired


@pytest.mark.fault
def test_caches_on_a_full_disk_keep_what_they_had(small_disk: Path) -> None:
    texts = [f"text {number}" for number in range(2000)]
    vectors_ND = np.random.default_rng(0).normal(size=(2000, 384)).astype(np.float32)
    encoded = {text_key(text): Encoded(row, 3, 128) for text, row in zip(texts, vectors_ND, strict=True)}
    first = dict(list(encoded.items())[:100])
    cache = EmbeddingCache(small_disk, "a" * 64)
    cache.add(first)
    before = {path: path.read_bytes() for path in cache.folder.iterdir()}
    filler = fill(small_disk, leave=500_000)
    with pytest.raises(DiskFullError, match=rf"{cache.folder}/\w+\.parquet: {FULL}"):
        cache.add(encoded)
    assert {path: path.read_bytes() for path in cache.folder.iterdir()} == before
    assert cache.load(list(encoded)).keys() == first.keys()

    tokens = TokenisedTasks(
        ("one",),
        np.array([0, 1000]),
        Ragged.from_rows([[7] * 300] * 1000),
        Ragged.from_rows([[8]] * 1000),
        np.arange(1001),
        0,
        0,
    )
    with pytest.raises(DiskFullError, match=rf"{small_disk}/tokens/key: {FULL}"):
        stored(small_disk / "tokens/key", lambda: tokens)
    assert list((small_disk / "tokens").iterdir()) == []

    filler.unlink()
    cache.add(encoded)
    assert cache.load(list(encoded)).keys() == encoded.keys()
    stored(small_disk / "tokens/key", lambda: tokens)
    again = stored(small_disk / "tokens/key", lambda: pytest.fail("tokenised again"))
    assert again.sources.ids.tobytes() == tokens.sources.ids.tobytes()
