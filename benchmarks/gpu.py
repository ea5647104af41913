"""Fine-tuning on a GPU beside `Seq2SeqTrainer`: tokens a second and memory, several trials on one GPU, less memory.

    pip install accelerate && python benchmarks/gpu.py          some fifteen minutes on one GPU

T5-small and T5-base in bf16 with new weights, on made-up examples as long as those of Super-NaturalInstructions
(sources of some 300 tokens on average, targets of 8). A trial is a process of its own; the clock of all trials starts
together once each has made its first steps, so that neither start nor warm-up counts, and stops with the slowest.
The peer trains the same model on the same examples, in bf16 with its fused AdamW and two workers that load its data.
`share_of_matrix_rate` is the model FLOP utilisation: what the model has to compute on real tokens over what large bf16
matrix products reach on this GPU. `peak_gpu_mib` is what torch held for arrays at most, all trials together. Without a
GPU the table's rows are empty.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from flops import flops_an_example
from harness import RUNS, machine, median, save, show
from train import BATCH_SIZE, padded, rows_of, trainer_settings

VOCABULARY = 32_128
STEPS = 100
MODELS = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}
TRIALS_A_GPU = (1, 2, 4)
PEER = "Seq2SeqTrainer"
OTHER_WAYS: dict[str, dict[str, Any]] = {
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "offload": {"offload": "optimizer", "zero_stage": 1},
    "compile": {"compile": True},
}
WARM_STEPS = 10
TOGETHER_WITHIN_S = 100.0
TRIAL_WITHIN_S = 200.0


def made_up(num_examples: int, seed: int) -> Any:
    """Tokenised examples as long as those of Super-NaturalInstructions."""
    generator = np.random.default_rng(seed)
    sources = np.clip(generator.lognormal(5.5, 0.6, num_examples), 32, 1024).astype(int)
    targets = np.clip(generator.lognormal(1.4, 1.1, num_examples), 2, 128).astype(int)
    return of_lengths(sources, targets, generator)


def of_lengths(sources: np.ndarray, targets: np.ndarray, generator: np.random.Generator) -> Any:
    """Tokenised examples of one task, random ids."""
    from simtune.training.examples import Ragged, TokenisedTasks

    def rows(lengths: np.ndarray) -> Ragged:
        return Ragged.from_rows([generator.integers(3, 32_000, length) for length in lengths])

    return TokenisedTasks(
        names=("made up",),
        task_offsets=np.array([0, len(sources)]),
        sources=rows(sources),
        references=rows(targets),
        reference_offsets=np.arange(len(sources) + 1),
        num_cut=0,
        num_left_out=0,
    )


def build(name: str) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **MODELS[name]))


class Clock:
    """Starts together with the other trials once the first steps are made, stops at the last step."""

    def __init__(self, together: Any) -> None:
        self._together = together
        self.first = 0
        self._started = self.seconds = 0.0

    def step(self, done: int, total: int) -> None:
        import torch

        if not self.first and done >= WARM_STEPS:
            torch.cuda.synchronize()
            self._together.wait(TOGETHER_WITHIN_S)
            self.first, self._started = done, time.perf_counter()
        elif done == total:
            torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self._started


def trial(name: str, way: str, seed: int, together: Any, sender: Any) -> None:
    """One trial in a process of its own; sends seconds, source tokens and FLOP behind the common start, and MiB."""
    import torch

    data = made_up(STEPS * BATCH_SIZE, seed)
    clock = Clock(together)
    timed = by_the_peer(name, data, clock) if way == PEER else by_simtune(name, way, data, seed, clock)
    sources, targets = data.sources.lengths[timed], data.references.lengths[timed]
    pairs = zip(sources, targets, strict=True)
    flops = sum(flops_an_example(MODELS[name], VOCABULARY, float(s), float(t)) for s, t in pairs)
    sender.send((clock.seconds, int(sources.sum()), flops, torch.cuda.max_memory_allocated() / 2**20))


def by_simtune(name: str, way: str, data: Any, seed: int, clock: Clock) -> np.ndarray:
    """Trains, and returns the examples behind the clock's start."""
    from simtune.config import TrainingSettings
    from simtune.training.engine import single_process_world
    from simtune.training.loop import TrainingHooks, TrainingJob, fine_tune
    from simtune.training.steps import training_steps

    settings = {"precision": "bf16", "zero_stage": 0} | OTHER_WAYS.get(way, {})
    training = TrainingSettings(epochs=1, batch_size=BATCH_SIZE, **settings)
    examples = np.arange(len(data.sources))
    world = single_process_world()
    job = TrainingJob(data, examples, training, 1, seed, 0)
    fine_tune(lambda: build(name), job, world, TrainingHooks(lambda done, total, loss: clock.step(done, total)))
    return np.concatenate([step.examples for step in training_steps(data, examples, training, seed)[clock.first :]])


def by_the_peer(name: str, data: Any, clock: Clock) -> np.ndarray:
    """The same with the library's trainer, its examples in order."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import Seq2SeqTrainer, TrainerCallback

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.step(state.global_step, state.max_steps)

    class InOrder(Seq2SeqTrainer):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset)

    examples = np.arange(len(data.sources))
    with tempfile.TemporaryDirectory() as folder:
        arguments = trainer_settings(
            folder,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            optim="adamw_torch_fused",
            dataloader_num_workers=2,
            logging_steps=STEPS,
        )
        trainer = InOrder(
            model=build(name),
            args=arguments,
            train_dataset=rows_of(data, examples),
            data_collator=padded,
            callbacks=[Steps()],
        )
        trainer.log = lambda *_, **__: None
        trainer.train()
    return examples[clock.first * BATCH_SIZE :]


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


def run_together(name: str, way: str, num_trials: int, limit: float) -> dict[str, float]:
    """Trials side by side on the one GPU."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(num_trials)
    receivers = []
    processes = []
    for seed in range(num_trials):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=trial, args=(name, way, seed, together, sender))
        process.start()
        sender.close()
        receivers.append(receiver)
        processes.append(process)
    try:
        if not all(receiver.poll(TRIAL_WITHIN_S) for receiver in receivers):
            raise EOFError
        found = [receiver.recv() for receiver in receivers]
    except EOFError:
        # The others wait for the one that died.
        for process in processes:
            process.kill()
        raise RuntimeError(f"{name}, {way}: no result of {num_trials} trials on the GPU; see above") from None
    for process in processes:
        process.join()
    slowest_s = max(seconds for seconds, *_ in found)
    return {
        "source_tokens_per_s": sum(tokens for _, tokens, _, _ in found) / slowest_s,
        "share_of_matrix_rate": sum(flops for _, _, flops, _ in found) / slowest_s / limit,
        "peak_gpu_mib": sum(peak for *_, peak in found),
    }


def rows(limit: float | None, runs: int, minutes: float) -> Iterator[dict[str, Any]]:
    """Medians of interleaved runs, none of which starts after some minutes; the largest peak."""
    kinds = [(name, way, 1) for name in MODELS for way in ("simtune", PEER)]
    kinds += [(name, "simtune", num_trials) for name in MODELS for num_trials in TRIALS_A_GPU[1:]]
    kinds += [("t5-base", way, 1) for way in OTHER_WAYS]
    found: dict[tuple[str, str, int], list[dict[str, float]]] = {kind: [] for kind in kinds}
    ends = time.monotonic() + 60 * minutes
    for number in range(runs if limit else 0):
        for kind in kinds:
            if time.monotonic() > ends:
                break
            try:
                found[kind].append(run_together(*kind, limit))
            except RuntimeError as error:
                print(error, file=sys.stderr, flush=True)
                continue
            print(number, *kind, f"{found[kind][-1]['source_tokens_per_s']:.0f} tokens/s", file=sys.stderr, flush=True)
    rates = {kind: median([run["source_tokens_per_s"] for run in all_]) for kind, all_ in found.items() if all_}
    for (name, way, num_trials), all_ in found.items():
        peer = rates.get((name, PEER, 1))
        yield {
            "model": name,
            "trainer": way if way in ("simtune", PEER) else f"simtune, {way}",
            "trials_a_gpu": num_trials,
            "source_tokens_per_s": rates.get((name, way, num_trials)),
            "times_the_peer": rates[name, way, num_trials] / peer if peer and all_ else None,
            "share_of_matrix_rate": median([run["share_of_matrix_rate"] for run in all_]) if all_ else None,
            "peak_gpu_mib": max((run["peak_gpu_mib"] for run in all_), default=None),
            "runs": len(all_),
        }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--minutes", type=float, default=60, help="no further run starts after these")
    arguments = parser.parse_args()
    about = machine("torch", "deepspeed", "transformers", "accelerate")
    has_gpu = torch.cuda.is_available()
    about["gpu"] = torch.cuda.get_device_name() if has_gpu else "none"
    limit = matrix_rate() if has_gpu else None
    found = list(rows(limit, arguments.runs, arguments.minutes))
    show(f"GPU: {about['gpu']}", found, about)
    save("gpu", found, about, matrix_flops_per_s=limit)


if __name__ == "__main__":
    main()
