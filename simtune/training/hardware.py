"""What a machine can compute in, and T5's traps: refused where a result would be wrong, told where it would be slow."""

from __future__ import annotations

import platform
from pathlib import Path

from simtune.config import Sweep
from simtune.errors import ConfigError

_CPUINFO = Path("/proc/cpuinfo")
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def check_hardware(sweep: Sweep, has_gpu: bool) -> list[str]:
    """Refuses settings that cannot work here; returns warnings of those that work badly.

    Published T5 weights were trained in bf16 and overflow fp16 (65,504 at most) in their feed-forward layers; the
    library clips what becomes infinite, which hides it and changes what is learned.

    Raises:
        ConfigError: fp16 without a GPU or for pretrained weights; offloading without a GPU.
    """
    training = sweep.training
    warnings = []
    if training.precision == "fp16":
        if not has_gpu:
            raise ConfigError("training.precision: fp16 needs a GPU; use fp32 or bf16")
        if sweep.model.init == "pretrained":
            raise ConfigError(
                "training.precision: fp16 overflows in published T5 weights, which were trained in bf16; use bf16, or "
                "fp32 on a GPU without it"
            )
        warnings.append("training.precision: T5 overflows easily in fp16; bf16 is safer where the GPU has it")
    if training.precision == "bf16" and not has_gpu and not cpu_has_bf16():
        warnings.append(
            "training.precision: this processor has no bf16 of its own and imitates it, slowly; fp32 is faster here"
        )
    if training.offload != "none" and not has_gpu:
        raise ConfigError(
            f"training.offload: {training.offload} moves a GPU's memory to the host, and there is no GPU; use none"
        )
    return warnings


def cpu_has_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bf16 matrices itself; true where that cannot be found out."""
    if platform.system() != "Linux" or not cpuinfo.exists():
        return True
    words = {word for line in cpuinfo.read_text().splitlines() if ":" in line for word in line.split(":", 1)[1].split()}
    return bool(words & _NATIVE_BF16)
