"""The environment that a training runs in: everything besides its inputs that affects the last bits of its results."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from simtune.training.engine import World

_CPUINFO = Path("/proc/cpuinfo")
_PACKAGES = ("deepspeed", "transformers")


def current_environment(world: World) -> dict[str, str | int]:
    """The hardware and the versions that affect the last bits of results, through the order of additions.

    Equal inputs give equal bytes in equal environments.
    """
    import torch

    return {
        "device": torch.cuda.get_device_name() if world.device != "cpu" else "cpu",
        "processor": processor_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "workers": world.size,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        **{package: version(package) for package in _PACKAGES},
    }


def processor_name() -> str:
    """The processor's model: libraries choose their kernels by it."""
    try:
        lines = _CPUINFO.read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
