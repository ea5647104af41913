"""What `simtune plan` says that a GPU must hold, beside what a training there holds at most.

    python benchmarks/gpu_memory.py          some four minutes on a GPU of 80 GB

Models with new weights in bf16, each training in a process of its own, on examples as long as the settings admit: the
largest batch that the estimate counts. `least_gib` is what a training needs whatever its batches (refused if it does
not fit), `most_gib` what it may need (a warning if it does not fit). `start_gib` is the peak up to the end of the first
step, `peak_gib` that of all later ones; both are what torch held for arrays. Cases whose least exceeds the GPU are left
out. Without a GPU the table's rows are empty.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from gpu import VOCABULARY, of_lengths
from harness import in_own_process, machine, save, show

STEPS = 4
GIB = 2**30
CHECKPOINTED = {"gradient_checkpointing": True}
CASES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("google-t5/t5-base", 16, {"zero_stage": 0}),
    ("google-t5/t5-base", 16, {"zero_stage": 0} | CHECKPOINTED),
    ("google-t5/t5-base", 16, {"zero_stage": 0, "precision": "fp32"} | CHECKPOINTED),
    ("google-t5/t5-base", 16, {"zero_stage": 2} | CHECKPOINTED),
    ("google-t5/t5-large", 8, {"zero_stage": 0}),
    ("google-t5/t5-large", 8, {"zero_stage": 2} | CHECKPOINTED),
    ("google-t5/t5-large", 8, {"zero_stage": 2, "offload": "optimizer"} | CHECKPOINTED),
    ("google/t5-xl-lm-adapt", 8, {"zero_stage": 0} | CHECKPOINTED),
    ("google/t5-xl-lm-adapt", 8, {"zero_stage": 2} | CHECKPOINTED),
    ("google/t5-xl-lm-adapt", 8, {"zero_stage": 3} | CHECKPOINTED),
    ("google/t5-xl-lm-adapt", 8, {"zero_stage": 2, "offload": "optimizer"} | CHECKPOINTED),
)


def sweep_of(name: str, batch_size: int, changes: dict[str, Any]) -> Any:
    """The settings of a case."""
    from simtune.config import Sweep

    training = {"epochs": 1, "batch_size": batch_size, "precision": "bf16", "zero_stage": 0} | changes
    return Sweep.model_validate({"name": "memory", "model": {"name": name, "init": "random"}, "training": training})


def peaks(name: str, batch_size: int, changes: dict[str, Any]) -> tuple[float, float]:
    """GiB that torch held at most before the first step ended, and after it."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from simtune.training.engine import single_process_world
    from simtune.training.families.registry import family
    from simtune.training.loop import TrainingHooks, TrainingJob, fine_tune

    training = sweep_of(name, batch_size, changes).training
    sizes = dict(family("t5").known_sizes[name])
    config = T5Config(**sizes | {"decoder_start_token_id": 0})
    lengths = np.ones(STEPS * batch_size, dtype=int)
    data = of_lengths(
        lengths * training.max_source_tokens, lengths * training.max_target_tokens, np.random.default_rng(0)
    )
    starts: list[float] = []

    def build() -> Any:
        # On the GPU, where new weights of 3 billion parameters take seconds; training starts from the CPU, as in a run.
        with torch.device("cuda"):
            model = T5ForConditionalGeneration(config)
        model.to("cpu")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return model

    def step(done: int, total: int, loss: float) -> None:
        if done == 1:
            starts.append(torch.cuda.max_memory_allocated() / GIB)
            torch.cuda.reset_peak_memory_stats()

    job = TrainingJob(data, np.arange(STEPS * batch_size), training, 1, 0, 0)
    fine_tune(build, job, single_process_world(), TrainingHooks(step))
    return starts[0], torch.cuda.max_memory_allocated() / GIB


def row(name: str, batch_size: int, changes: dict[str, Any], gpu_gib: float) -> dict[str, Any]:
    """The estimate of a case beside its measurement."""
    from simtune.sweep.memory_estimate import memory_need

    need = memory_need(sweep_of(name, batch_size, changes), VOCABULARY)
    assert need is not None
    start = peak = None
    if need.states.least / GIB <= gpu_gib:
        try:
            (start, peak), _ = in_own_process(peaks, name, batch_size, changes)
        except RuntimeError as error:
            print(name, changes, error, file=sys.stderr, flush=True)
    print(name, changes, start, peak, file=sys.stderr, flush=True)
    return {
        "model": name,
        "settings": ", ".join(f"{key}: {value}" for key, value in changes.items()),
        "least_gib": need.states.least / GIB,
        "most_gib": need.most / GIB,
        "start_gib": start,
        "peak_gib": peak,
        "of_most": peak / (need.most / GIB) if peak else None,
    }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="models whose name has this in it")
    only = parser.parse_args().only
    about = machine("torch", "deepspeed", "transformers")
    has_gpu = torch.cuda.is_available()
    about["gpu"] = torch.cuda.get_device_name() if has_gpu else "none"
    gpu_gib = torch.cuda.get_device_properties(0).total_memory / GIB if has_gpu else 0.0
    found = []
    for case in CASES:
        if only in case[0]:
            found.append(row(*case, gpu_gib))
            save("gpu_memory", found, about)
    show(f"Memory of a GPU: {about['gpu']}", found, about)


if __name__ == "__main__":
    main()
