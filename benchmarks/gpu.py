"""Fine-tuning on a GPU: tokens a second, share of the GPU's matrix-product rate, memory; 1, 2 and 4 trials on one GPU.

    python benchmarks/gpu.py

T5-small and T5-base in bf16 with new weights, on made-up examples as long as those of Super-NaturalInstructions
(sources of 311 tokens on average, targets of 9). Without a GPU the table's rows are empty.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from flops import flops_an_example
from harness import RUNS, machine, median, save, show

VOCABULARY = 32_128
STEPS = 60
BATCH_SIZE = 16
MODELS = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}
TRIALS_A_GPU = (1, 2, 4)


def made_up(num_examples: int, seed: int) -> Any:
    """Tokenised examples of one task, random ids."""
    from simtune.training.examples import Ragged, TokenisedTasks

    generator = np.random.default_rng(seed)
    sources = np.clip(generator.lognormal(5.5, 0.6, num_examples), 32, 1024).astype(int)
    targets = np.clip(generator.lognormal(1.4, 1.1, num_examples), 2, 128).astype(int)

    def rows(lengths: np.ndarray) -> Ragged:
        return Ragged.of([generator.integers(3, 32_000, length) for length in lengths])

    return TokenisedTasks(
        names=("made up",),
        task_offsets=np.array([0, num_examples]),
        sources=rows(sources),
        references=rows(targets),
        reference_offsets=np.arange(num_examples + 1),
        num_cut=0,
        num_left_out=0,
    )


def trial(name: str, seed: int, together: Any, results: Any) -> None:
    """One trial in a process of its own; all start their clocks together, after a warm-up."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from simtune.config import TrainingSettings
    from simtune.training.engine import single_process_world
    from simtune.training.loop import fine_tune

    world = single_process_world()
    training = TrainingSettings(epochs=1, batch_size=BATCH_SIZE, precision="bf16", zero_stage=0)

    def train(num_steps: int) -> float:
        data = made_up(num_steps * BATCH_SIZE, seed)
        started = time.perf_counter()
        fine_tune(
            lambda: T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, **MODELS[name])),
            data,
            np.arange(len(data.sources)),
            training,
            1,
            seed,
            0,
            world,
        )
        torch.cuda.synchronize()
        return time.perf_counter() - started

    train(10)
    together.wait()
    seconds = train(STEPS)
    results.put((seconds, torch.cuda.max_memory_allocated() / 2**20))


def matrix_rate() -> float:
    """FLOP a second of a large bf16 matrix product: what this GPU gives at most."""
    import torch

    one = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        one @ one
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(50):
        one @ one
    torch.cuda.synchronize()
    return 50 * 2 * 8192**3 / (time.perf_counter() - started)


def measured(name: str, num_trials: int, limit: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    lengths = made_up(STEPS * BATCH_SIZE, 0)
    tokens = int(lengths.sources.lengths.sum())
    pairs = zip(lengths.sources.lengths, lengths.references.lengths, strict=True)
    flops = sum(flops_an_example(MODELS[name], VOCABULARY, float(s), float(t)) for s, t in pairs)
    rates, peaks = [], []
    for _ in range(RUNS):
        together, results = context.Barrier(num_trials), context.Queue()
        processes = [context.Process(target=trial, args=(name, 0, together, results)) for _ in range(num_trials)]
        for process in processes:
            process.start()
        found = [results.get() for _ in processes]
        for process in processes:
            process.join()
        slowest = max(seconds for seconds, _ in found)
        rates.append(num_trials / slowest)
        peaks.append(sum(peak for _, peak in found))
    trials_a_second = median(rates)
    return {
        "source_tokens_per_s": trials_a_second * tokens,
        "share_of_matrix_rate": trials_a_second * flops / limit,
        "peak_gpu_mib": max(peaks),
    }


def rows(limit: float | None) -> Iterator[dict[str, Any]]:
    for name in MODELS:
        for num_trials in TRIALS_A_GPU:
            row: dict[str, Any] = {"model": name, "precision": "bf16", "trials_a_gpu": num_trials}
            empty = {"source_tokens_per_s": None, "share_of_matrix_rate": None, "peak_gpu_mib": None}
            yield row | (empty if limit is None else measured(name, num_trials, limit))


def main() -> None:
    import torch

    about = machine("torch", "deepspeed", "transformers")
    has_gpu = torch.cuda.is_available()
    about["gpu"] = torch.cuda.get_device_name() if has_gpu else "none"
    limit = matrix_rate() if has_gpu else None
    found = list(rows(limit))
    show(f"GPU: {about['gpu']}", found, about)
    save("gpu", found, about, matrix_flops_per_s=limit)


if __name__ == "__main__":
    main()
