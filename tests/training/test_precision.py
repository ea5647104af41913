"""Settings that a machine cannot compute in are refused; slow or risky ones give a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simtune.config import ModelSettings, ResourceSettings, Sweep, TrainingSettings
from simtune.errors import ConfigError
from simtune.executors.ray_executor import RayExecutor
from simtune.progress import Quiet
from simtune.training import precision as hardware
from simtune.training.precision import check_hardware, cpu_has_bf16


def sweep(init: str = "random", **training: Any) -> Sweep:
    return Sweep(name="x", model=ModelSettings(init=init), training=TrainingSettings(**training))


def test_fp16_needs_a_gpu_and_weights_that_were_not_trained_in_bf16() -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        check_hardware(sweep(precision="fp16"), has_gpu=False)
    with pytest.raises(ConfigError, match="overflows"):
        check_hardware(sweep("pretrained", precision="fp16"), has_gpu=True)
    (warning,) = check_hardware(sweep(precision="fp16"), has_gpu=True)
    assert "bf16 is safer" in warning
    assert check_hardware(sweep("pretrained", precision="fp32"), has_gpu=False) == []


def test_bf16_on_a_processor_that_emulates_it_gives_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: False)
    (warning,) = check_hardware(sweep(precision="bf16"), has_gpu=False)
    assert "this CPU emulates bf16" in warning
    assert check_hardware(sweep(precision="bf16"), has_gpu=True) == []
    monkeypatch.setattr(hardware, "gpu_has_bf16", lambda: False)
    (warning,) = check_hardware(sweep(precision="bf16"), has_gpu=True)
    assert "this GPU emulates bf16" in warning


def test_a_cluster_refuses_fp16_before_it_is_connected() -> None:
    executor = RayExecutor("cluster")
    with pytest.raises(ConfigError, match="overflows"):
        executor.check(sweep("pretrained", precision="fp16"), Quiet())
    on_cpus = sweep(precision="fp16").model_copy(update={"resources": ResourceSettings(gpus_per_worker=0.0)})
    with pytest.raises(ConfigError, match="needs a GPU"):
        executor.check(on_cpus, Quiet())


@pytest.mark.parametrize(
    ("flags", "native"), [("flags : fpu avx2", False), ("flags : fpu avx512_bf16 x", True), ("Features : bf16", True)]
)
def test_the_processor_says_whether_it_has_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, native: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu_has_bf16() == native


def test_offloading_needs_a_gpu_and_its_stage() -> None:
    with pytest.raises(ConfigError, match="there is no GPU"):
        check_hardware(sweep(offload="optimizer"), has_gpu=False)
    with pytest.raises(ValueError, match="it needs zero_stage 3"):
        TrainingSettings(offload="parameters", zero_stage=2)
    with pytest.raises(ValueError, match="it needs zero_stage 1 or more"):
        TrainingSettings(offload="optimizer", zero_stage=0)


def test_budgets_of_tokens_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="less than one source may have"):
        TrainingSettings(tokens_per_batch=512)
    with pytest.raises(ValueError, match="use micro_batch_tokens"):
        TrainingSettings(tokens_per_batch=4096, micro_batch_size=2)
    with pytest.raises(ValueError, match="without tokens_per_batch"):
        TrainingSettings(micro_batch_tokens=512)
