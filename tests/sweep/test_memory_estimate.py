"""Memory of a worker in a plan, and GPUs that are too small for a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import in_process

from simtune.config import ModelSettings, ResourceSettings, Sweep, TrainingSettings
from simtune.errors import ConfigError, RunError
from simtune.executors.base import Executor
from simtune.executors.hosts.host_reports import HostReport
from simtune.outside_files import GIB
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.sweep.memory_estimate import MemoryNeed, largest_need, memory_need
from simtune.sweep.preflight import check_hosts


def sweep(name: str = "google/t5-xl-lm-adapt", workers: int = 1, gpus: float = 1.0, **training: Any) -> Sweep:
    resources = ResourceSettings(workers=workers, gpus_per_worker=gpus)
    return Sweep(name="x", model=ModelSettings(name=name), training=TrainingSettings(**training), resources=resources)


def need(name: str = "google/t5-xl-lm-adapt", workers: int = 1, **training: Any) -> MemoryNeed:
    found = memory_need(sweep(name, workers, **training), None)
    assert found is not None
    return found


def test_the_table_of_the_docs_is_what_a_plan_counts() -> None:
    docs = (Path(__file__).parents[2] / "docs/clusters.md").read_text()
    for name in ("google/t5-xl-lm-adapt", "google/t5-xxl-lm-adapt"):
        for workers in (1, 2, 4, 8, 16):
            cells = [f"{size / GIB:.1f}" for size in need(name, workers).by_stage]
            assert f"| `{name}` | {workers} | {' | '.join(cells)} |" in docs


def test_what_cannot_fit_is_refused_with_what_fits() -> None:
    too_large = need(zero_stage=2)
    with pytest.raises(ConfigError) as caught:
        too_large.refuse_small_gpus(24 * GIB)
    assert str(caught.value) == (
        "training.zero_stage: google/t5-xl-lm-adapt has 2.85 billion parameters. With zero_stage: 2 and 1 worker, each "
        "needs 58.4 GiB for parameters, gradients and optimizer with its step, and its GPU has 24.0 GiB. What fits: "
        "zero_stage: 2 with resources.workers: 4, or offload: optimizer with zero_stage: 2"
    )
    # Its remedies do fit, and what is just below them does not.
    need(workers=4, zero_stage=2).refuse_small_gpus(24 * GIB)
    need(zero_stage=2, offload="optimizer").refuse_small_gpus(24 * GIB)
    assert "its GPU has 24.0 GiB" in need(workers=2, zero_stage=3).too_large(24 * GIB)
    half = replace(need(zero_stage=2), gpu_share=0.5).too_large(80 * GIB)
    assert "its GPU has 40.0 GiB (resources.gpus_per_worker: 0.5)" in half
    assert need(zero_stage=2).too_large(80 * GIB) == ""


def test_a_batch_that_may_not_fit_is_a_warning() -> None:
    found = need(zero_stage=2, batch_size=16)
    assert found.states.device < 48 * GIB < found.most
    assert "set training.gradient_checkpointing: true, or lower training.micro_batch_size" in found.warning(48 * GIB)
    assert found.warning(10_000 * GIB) == ""
    less = [need(zero_stage=2, **changes).activations for changes in ({}, {"gradient_checkpointing": True})]
    assert less[1] < less[0] / 5
    assert need(batch_size=16, micro_batch_size=4).activations == pytest.approx(found.activations / 4, rel=0.01)


def test_the_point_that_needs_most_counts_and_an_unknown_model_does_not() -> None:
    assert memory_need(sweep("someone/model"), None) is None
    small, large = need("google-t5/t5-small"), need()
    assert largest_need([small, None, large]) is large
    assert largest_need([None]) is None


def test_a_plan_says_what_a_worker_needs(tiny_sweep: dict[str, Any]) -> None:
    tiny_sweep["training"] |= {"precision": "bf16", "zero_stage": 2}
    tiny_sweep["grid"] = {"model.config": [{"d_model": 16, "d_ff": 64}, {"d_model": 32, "d_ff": 64}]}
    plan = plan_sweep(Sweep.model_validate(tiny_sweep | {"resources": {"workers": 2}}))
    assert plan.memory is not None
    memory = json.loads(json.dumps(plan.to_dict()))["memory"]
    assert memory["states"] == memory["parameters"] + memory["gradients"] + memory["optimizer"]
    assert memory["states_by_stage"][2] == memory["states"]
    assert memory["num_parameters"] * 9 == memory["states"]
    assert str(plan.memory).startswith("Memory per worker: ")


def test_the_command_line_refuses_small_gpus(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = in_process(monkeypatch, capsys)
    line = f"plan {finished / 'sweep-file.yaml'} --storage {finished} --nodes 2 --trial-minutes 1"
    line += " --set training.zero_stage=0 --set resources.gpus_per_worker=1"
    code, _, err = call(f"{line} --node-type gpus=1,vram=0.0001")
    assert (code, "training.zero_stage: google-t5/t5-small has" in err) == (2, True), err
    code, out, err = call(f"{line} --node-type gpus=1,vram=0.0005")
    assert (code, "Memory per worker: " in out, "If trials run out of memory" in err) == (0, True, True), err
    code, _, err = call(f"{line} --node-type gpus=1,vram=80")
    assert (code, "warning" in err) == (0, False), err


class OnHosts:
    """An executor whose hosts have said what they are."""

    has_hosts = True

    def __init__(self, *reports: tuple[str, float, int | None]) -> None:
        self._gpus = reports

    def report_hosts(self, driver: Any, *_: Any) -> list[HostReport]:
        return [
            HostReport(f"id-{name}", name, 4, gpus, replace(driver, host=name, found={}, gpu_bytes=gpu_bytes))
            for name, gpus, gpu_bytes in self._gpus
        ]


def test_a_host_whose_gpu_is_too_small_is_refused_before_anything_trains(tmp_path: Path) -> None:
    def check(*reports: tuple[str, float, int | None], gpus: float = 1.0) -> None:
        chosen = sweep(gpus=gpus, zero_stage=2).model_copy(
            update={"storage": str(tmp_path), "model": ModelSettings(name="google/t5-xl-lm-adapt", init="random")}
        )
        executor: Executor = OnHosts(*reports)  # type: ignore[assignment]
        check_hosts([chosen], executor, Quiet())

    small, large, unknown = ("small", 1.0, 24 * GIB), ("large", 1.0, 80 * GIB), ("unknown", 1.0, None)
    with pytest.raises(RunError, match=r"\nhost small: google/t5-xl-lm-adapt has 2\.7\d billion .* GPU has 24\.0 GiB"):
        check(small, large, unknown)
    check(large, unknown)
    check(small, gpus=0.0)
