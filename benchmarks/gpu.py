"""Fine-tuning on a GPU: tokens a second, share of the GPU's matrix-product rate, memory; 1, 2 and 4 trials on one GPU.

    python benchmarks/gpu.py                      some fifteen minutes on one GPU

T5-small and T5-base in bf16 with new weights, on made-up examples as long as those of Super-NaturalInstructions
(sources of some 300 tokens on average, targets of 8). A trial is a process of its own; the clock of all trials starts
together once each has made its first steps, so that neither start nor warm-up counts, and stops with the slowest.
`share_of_matrix_rate` is the model FLOP utilisation: what the model has to compute on real tokens over what large bf16
matrix products reach on this GPU. `peak_gpu_mib` is what torch held for arrays at most, all trials together. Without a
GPU the table's rows are empty.
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
STEPS = 200
BATCH_SIZE = 16
MODELS = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}
TRIALS_A_GPU = (1, 2, 4)
TOGETHER_WITHIN_S = 300.0


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


def trial(name: str, seed: int, together: Any, sender: Any) -> None:
    """One trial in a process of its own; sends seconds, source tokens and FLOP behind the common start, and MiB."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    from simtune.config import TrainingSettings
    from simtune.training.batching import training_steps
    from simtune.training.engine import single_process_world
    from simtune.training.loop import fine_tune

    training = TrainingSettings(epochs=1, batch_size=BATCH_SIZE, precision="bf16", zero_stage=0)
    data = made_up(STEPS * BATCH_SIZE, seed)
    examples = np.arange(len(data.sources))
    clock: dict[int, float] = {}

    def on_step(done: int, total: int, loss: float) -> None:
        if not clock or done == total:
            torch.cuda.synchronize()
            if not clock:
                together.wait(TOGETHER_WITHIN_S)
            clock[done] = time.perf_counter()

    def build() -> Any:
        return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **MODELS[name]))

    fine_tune(build, data, examples, training, 1, seed, 0, single_process_world(), on_step)
    (first, started), (_, ended) = clock.items()
    timed = np.concatenate([step.examples for step in training_steps(data, examples, training, seed)[first:]])
    sources, targets = data.sources.lengths[timed], data.references.lengths[timed]
    pairs = zip(sources, targets, strict=True)
    flops = sum(flops_an_example(MODELS[name], VOCABULARY, float(s), float(t)) for s, t in pairs)
    sender.send((ended - started, int(sources.sum()), flops, torch.cuda.max_memory_allocated() / 2**20))


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


def run_together(name: str, num_trials: int, limit: float) -> dict[str, float]:
    """Trials side by side on the one GPU."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(num_trials)
    receivers = []
    processes = []
    for seed in range(num_trials):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=trial, args=(name, seed, together, sender))
        process.start()
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    try:
        found = [receiver.recv() for receiver in receivers]
    except EOFError:
        # The others wait for the one that died.
        for process in processes:
            process.kill()
        raise RuntimeError(f"{name}: one of {num_trials} trials on the GPU ended without a result; see above") from None
    for process in processes:
        process.join()
    slowest_s = max(seconds for seconds, *_ in found)
    return {
        "source_tokens_per_s": sum(tokens for _, tokens, _, _ in found) / slowest_s,
        "share_of_matrix_rate": sum(flops for _, _, flops, _ in found) / slowest_s / limit,
        "peak_gpu_mib": sum(peak for *_, peak in found),
    }


def rows(limit: float | None) -> Iterator[dict[str, Any]]:
    """Medians of interleaved runs; the largest peak."""
    kinds = [(name, num_trials) for name in MODELS for num_trials in TRIALS_A_GPU]
    found: dict[tuple[str, int], list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(RUNS if limit else 0):
        for kind in kinds:
            found[kind].append(run_together(*kind, limit))
    for (name, num_trials), runs in found.items():
        row: dict[str, Any] = {"model": name, "precision": "bf16", "trials_a_gpu": num_trials}
        for column in ("source_tokens_per_s", "share_of_matrix_rate"):
            row[column] = median([run[column] for run in runs]) if runs else None
        yield row | {"peak_gpu_mib": max((run["peak_gpu_mib"] for run in runs), default=None)}


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
