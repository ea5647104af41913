"""Precisions that a machine and a model can train in: wrong results are refused, slow settings give a warning."""

from __future__ import annotations

import platform
from pathlib import Path

from simtune.config import Sweep
from simtune.errors import ConfigError
from simtune.training.families.registry import possible_families

_CPUINFO = Path("/proc/cpuinfo")
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def check_hardware(sweep: Sweep, has_gpu: bool) -> list[str]:
    """Refuses settings that cannot work on this machine or for this model; returns warnings about slow or risky ones.

    Raises:
        ConfigError: fp16 without a GPU, a precision that the model's family refuses, offloading without a GPU.
    """
    training = sweep.training
    warnings = []
    families = possible_families(sweep.model)
    pretrained = sweep.model.init == "pretrained"
    if training.precision == "fp16" and not has_gpu:
        raise ConfigError("fp16 needs a GPU; use fp32 or bf16", field="training.precision")
    for family in families:
        if error := family.precision_error(training.precision, pretrained):
            raise ConfigError(f"{error}", field="training.precision")
        if warning := family.precision_warning(training.precision):
            warnings.append(f"training.precision: {warning}")
    if training.precision == "bf16" and not (gpu_has_bf16() if has_gpu else cpu_has_bf16()):
        what = "GPU" if has_gpu else "CPU"
        warnings.append(
            f"training.precision: this {what} emulates bf16 in software, which is slow; fp32 is faster here"
        )
    if training.offload != "none" and not has_gpu:
        raise ConfigError(
            f"{training.offload} moves a GPU's memory to the host, but there is no GPU; use none",
            field="training.offload",
        )
    return warnings


def gpu_has_bf16() -> bool:
    """Whether this machine's GPU multiplies bf16 matrices in hardware; true where that cannot be determined."""
    import torch

    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware; true where that cannot be determined."""
    if platform.system() != "Linux" or not _CPUINFO.exists():
        return True
    words = {
        word for line in _CPUINFO.read_text().splitlines() if ":" in line for word in line.split(":", 1)[1].split()
    }
    return bool(words & _NATIVE_BF16)
