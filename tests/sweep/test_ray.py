"""The Ray executor: real Ray Data, Tune, Train and DeepSpeed processes, held against the in-process executor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from simtune.config import ResourceSettings, load_sweep
from simtune.errors import ConfigError
from simtune.sweep.choice import make_executor
from simtune.sweep.display import Quiet
from simtune.sweep.executors import Executor
from simtune.sweep.run import RunOutcome, run_sweep


def run(fields: dict[str, Any], executor: Executor) -> RunOutcome:
    path = Path(fields["storage"]) / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    try:
        return run_sweep(load_sweep(path), executor, Quiet())
    finally:
        executor.close()


@pytest.mark.ray
@pytest.mark.slow
def test_ray_gives_the_bytes_of_the_inline_executor_and_two_workers_the_same_losses(
    tiny_sweep: dict[str, Any], tmp_path: Path
) -> None:
    """One test for three claims, because starting Ray costs most."""
    # The same number of threads, or matrix products add up in another order.
    tiny_sweep["selection"] = {"strategies": ["different"], "sizes": [3], "seeds": [0]}
    tiny_sweep["resources"] = {"cpus_per_worker": 1}
    tiny_sweep["training"]["zero_stage"] = 1
    inline = run(tiny_sweep, make_executor("inline"))

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    ray = run({**tiny_sweep, "storage": str(fresh)}, make_executor("local"))
    assert (ray.num_run, ray.num_failed) == (3, 0)
    for name in ("results.parquet", "scores.parquet", "subsets.parquet", "results.csv"):
        assert (ray.run_directory / name).read_bytes() == (inline.run_directory / name).read_bytes(), name
    assert not (ray.run_directory / ".ray").exists()
    assert ray.results.to_pylist()[-1]["num_steps"] == 3

    one_worker = losses(ray)
    shutil.rmtree(fresh / "trials")
    two = {**tiny_sweep, "storage": str(fresh), "resources": {"cpus_per_worker": 1, "workers": 2}}
    two["training"]["zero_stage"] = 2
    try:
        pair = run(two, make_executor("local"))
    except ConfigError as error:
        pytest.skip(f"this machine has one CPU: {error}")
    np.testing.assert_allclose(losses(pair), one_worker, atol=1e-5)


def losses(outcome: RunOutcome) -> list[float]:
    trial = outcome.results.to_pylist()[-1]["trial"]
    metrics = json.loads((outcome.run_directory.parent / "trials" / trial / "metrics.json").read_bytes())
    return metrics["training"]["losses"]


def test_resources_that_do_not_exist_are_refused_and_auto_fits_the_machine() -> None:
    from simtune.sweep.tune import WorkerResources, worker_resources

    auto = ResourceSettings()
    assert worker_resources(auto, 2, 0) == (WorkerResources(1, 1, 0.0), 2)
    assert worker_resources(auto, 16, 2) == (WorkerResources(1, 4, 1.0), 2)
    assert worker_resources(auto, 4, 2) == (WorkerResources(1, 2, 1.0), 2)
    shared = ResourceSettings(gpus_per_worker=0.25, max_concurrent=3)
    assert worker_resources(shared, 16, 1) == (WorkerResources(1, 4, 0.25), 3)
    with pytest.raises(ConfigError, match="2 x 1 GPUs, there are 1"):
        worker_resources(ResourceSettings(workers=2, gpus_per_worker=1.0), 8, 1)
    with pytest.raises(ConfigError, match="1 x 4 CPUs, there are 2"):
        worker_resources(ResourceSettings(cpus_per_worker=4), 2, 0)
