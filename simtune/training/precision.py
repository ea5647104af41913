"""What a machine can compute in, and T5's traps: refused where a result would be wrong, told where it would be slow."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simtune.config import Sweep
from simtune.errors import ConfigError
from simtune.training.engine import World

_CPUINFO = Path("/proc/cpuinfo")
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_DECIDING_PACKAGES = ("deepspeed", "transformers")


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
    if training.precision == "bf16" and not (gpu_has_bf16() if has_gpu else cpu_has_bf16()):
        what = "GPU" if has_gpu else "processor"
        warnings.append(
            f"training.precision: this {what} has no bf16 of its own and imitates it, slowly; fp32 is faster here"
        )
    if training.offload != "none" and not has_gpu:
        raise ConfigError(
            f"training.offload: {training.offload} moves a GPU's memory to the host, and there is no GPU; use none"
        )
    return warnings


def gpu_has_bf16() -> bool:
    """Whether this machine's GPU multiplies bf16 matrices itself; true where that cannot be found out."""
    import torch

    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bf16 matrices itself; true where that cannot be found out."""
    if platform.system() != "Linux" or not cpuinfo.exists():
        return True
    words = {word for line in cpuinfo.read_text().splitlines() if ":" in line for word in line.split(":", 1)[1].split()}
    return bool(words & _NATIVE_BF16)


def machine_kind(world: World) -> dict[str, Any]:
    """What beside the inputs decides the last bits of a trial's numbers: in which order, and how, they are added up.

    Equal inputs give equal bytes where all of it is equal.
    """
    import torch

    return {
        "device": torch.cuda.get_device_name() if world.device != "cpu" else "cpu",
        "processor": processor_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "workers": world.size,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        **{package: version(package) for package in _DECIDING_PACKAGES},
    }


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's model: libraries choose their kernels by it."""
    try:
        lines = cpuinfo.read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
