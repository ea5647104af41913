"""clusters/on-prem.yaml filled in for hosts that are namespaces, which have this environment and no registry."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def filled_in(head: str, workers: Iterable[str]) -> dict[str, Any]:
    """The settings for a head without CPUs and workers with one each.

    Args:
        head: its address.
        workers: their addresses.
    """
    text = (ROOT / "clusters/on-prem.yaml").read_text()
    text = text.replace("[FILL-IN, FILL-IN]", f"[{', '.join(workers)}]").replace("head_ip: FILL-IN", f"head_ip: {head}")
    config: dict[str, Any] = yaml.safe_load(text.replace("ssh_user: FILL-IN", "ssh_user: root"))
    activate = f"mkdir -p ~/simtune-env/bin; echo 'PATH={sys.prefix}/bin:$PATH' > ~/simtune-env/bin/activate"
    config["setup_commands"] = [
        activate if "python3 -m venv" in command else command
        for command in config["setup_commands"]
        if "pip install" not in command
    ]
    start = config["worker_start_ray_commands"]
    config["worker_start_ray_commands"] = [line.replace("ray start", "ray start --num-cpus=1") for line in start]
    return config
