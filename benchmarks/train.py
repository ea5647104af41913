"""Fine-tuning against `transformers.Seq2SeqTrainer`, set up as Tk-Instruct does.

    pip install accelerate && python benchmarks/train.py          some fifteen minutes on two cores

The same model (a new T5 of 15 M parameters with T5's vocabulary), the same examples (Super-NaturalInstructions, its
definition and two demonstrations, 1024/128 tokens; `--data`, or the bundled demo corpus where it is missing), AdamW at
a constant rate, 16 examples a step, all cores. A run is a process of its own that trains on the same examples; seconds
are those of training alone, tokens the real source and target tokens, padding not counted. `share of matrix rate` is
what the model has to compute over what this machine's matrix products give in the same precision.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from flops import flops_an_example, matrix_flops_per_s
from harness import RUNS, in_own_process, machine, median, save, show

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZES = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4}
STEPS, BATCH_SIZE = 6, 16
EXAMPLES_OF_A_TASK = 10


Problem = tuple[Any, np.ndarray, int]


def examples_of(shared: Path) -> Problem:
    """Tokenised tasks, the examples that both train on, and the size of the vocabulary."""
    from simtune.config import CorpusSettings, EncodingSettings, EvaluationSettings, ModelSettings, TrainingSettings
    from simtune.corpus.pool import build_task_sets
    from simtune.prompting.tokenizer import load_tokenizer
    from simtune.training.batching import training_steps
    from simtune.training.examples import tokenise_tasks

    real = (shared / "sup-natinst").is_dir()
    corpus = CorpusSettings(
        path=str(shared / "sup-natinst") if real else "demo",
        instances_per_task=EXAMPLES_OF_A_TASK,
        min_instances=60,
    )
    pool = build_task_sets(corpus, EvaluationSettings()).pool[::2]
    model = ModelSettings(init="random", tokenizer=str(shared / "t5-tokenizer") if real else "pool", vocab_size=8000)
    tokenizer = load_tokenizer(model, pool)
    data = tokenise_tasks(pool, EncodingSettings(), 1024, 128, tokenizer)
    # The first steps of an epoch over all examples: as similar in length as batches of a whole study are.
    steps = training_steps(data, np.arange(len(data.sources)), TrainingSettings(batch_size=BATCH_SIZE, epochs=1), 0)
    examples = np.sort(np.concatenate([step.examples for step in steps[:STEPS]]))
    return data, examples, -(-tokenizer.vocab_size // 64) * 64


def build(vocabulary: int) -> Any:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(vocab_size=vocabulary, decoder_start_token_id=0, **SIZES))


def simtune(problem: Problem, precision: str, batch_size: int = BATCH_SIZE) -> float:
    """Seconds of a training."""
    from simtune.config import TrainingSettings
    from simtune.training.engine import single_process_world
    from simtune.training.loop import fine_tune

    data, examples, vocabulary = problem
    training = TrainingSettings(epochs=1, batch_size=batch_size, precision=precision)
    world = single_process_world()
    warm = training.model_copy(update={"batch_size": 1})
    fine_tune(lambda: build(vocabulary), data, examples[:1], warm, 1, 0, 0, world)
    model = build(vocabulary)
    started = time.perf_counter()
    fine_tune(lambda: model, data, examples, training, 1, 0, 0, world)
    return time.perf_counter() - started


def trainer(problem: Problem, precision: str) -> float:
    """The same through the library's own trainer, with its padding collator."""
    import tempfile

    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    data, examples, vocabulary = problem
    rows = [
        {
            "input_ids": data.sources[number].tolist(),
            "labels": data.references[data.reference_offsets[number]].tolist(),
        }
        for number in examples
    ]

    def padded(batch: list[dict[str, list[int]]]) -> dict[str, Any]:
        wide = max(len(row["input_ids"]) for row in batch)
        long = max(len(row["labels"]) for row in batch)
        rest = [wide - len(row["input_ids"]) for row in batch]
        pairs = list(zip(batch, rest, strict=True))
        return {
            "input_ids": torch.tensor([row["input_ids"] + [0] * missing for row, missing in pairs]),
            "attention_mask": torch.tensor([[1] * (wide - missing) + [0] * missing for _, missing in pairs]),
            "labels": torch.tensor([row["labels"] + [-100] * (long - len(row["labels"])) for row in batch]),
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH_SIZE,
            num_train_epochs=1,
            learning_rate=5e-5,
            lr_scheduler_type="constant",
            bf16=precision == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        )
        model = build(vocabulary)
        training = Seq2SeqTrainer(model=model, args=arguments, train_dataset=rows, data_collator=padded)
        training.log = lambda *_, **__: None
        started = time.perf_counter()
        training.train()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    arguments = parser.parse_args()
    problem = examples_of(arguments.data)
    data, examples, vocabulary = problem
    sources = data.sources.lengths[examples]
    targets = data.references.lengths[data.reference_offsets[examples]]
    tokens = int(sources.sum() + targets.sum())
    flops = sum(flops_an_example(SIZES, vocabulary, float(s), float(t)) for s, t in zip(sources, targets, strict=True))
    rows, series = [], []
    for precision in arguments.precisions:
        found: dict[str, list[tuple[float, float]]] = {"simtune": [], "Seq2SeqTrainer": []}
        for _ in range(arguments.runs):
            for name, work in (("simtune", simtune), ("Seq2SeqTrainer", trainer)):
                seconds, peak_mib = in_own_process(work, problem, precision)
                found[name].append((seconds, peak_mib))
                print(f"{precision} {name} {seconds:.1f} s", file=sys.stderr)
        limit = matrix_flops_per_s(precision)
        peer_s = median([seconds for seconds, _ in found["Seq2SeqTrainer"]])
        for name, runs in found.items():
            seconds = median([seconds for seconds, _ in runs])
            rows.append(
                {
                    "precision": precision,
                    "trainer": name,
                    "real_tokens_per_s": tokens / seconds,
                    "times_the_peer": peer_s / seconds,
                    "share_of_matrix_rate": flops / seconds / limit,
                    "peak_mib": max(peak for _, peak in runs),
                    "runs": len(runs),
                }
            )
        sizes = [4, 16, 64]
        rates = [tokens / in_own_process(simtune, problem, precision, size)[0] for size in sizes]
        mean_tokens = float(sources.mean())
        series.append({"name": precision, "x": [size * mean_tokens for size in sizes], "y": rates})
        top = limit * tokens / flops
        series.append({"name": f"{precision} matrix rate", "x": [sizes[0] * mean_tokens, sizes[-1] * mean_tokens]})
        series[-1] |= {"y": [top, top], "limit": True}
    about = machine("torch", "transformers", "deepspeed", "accelerate")
    show(f"Training, {len(examples)} examples, {tokens} tokens", rows, about)
    scaling = {"x": "source tokens a step", "y": "real tokens/s", "series": series}
    save("train", rows, about, scaling=scaling)


if __name__ == "__main__":
    main()
