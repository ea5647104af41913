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
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flops import flops_an_example, matrix_flops_per_s
from harness import RESULTS, RUNS, in_own_process, machine, median, save, show

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZES = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4}
STEPS, BATCH_SIZE = 6, 16
SCALED_SIZES = (2, 8, 32)
EXAMPLES_OF_A_TASK = 10


Problem = tuple[Any, np.ndarray, int]


def examples_of(shared: Path) -> Problem:
    """Tokenised tasks, the examples that both train on, and the size of the vocabulary."""
    from simtune.config import CorpusSettings, EncodingSettings, EvaluationSettings, ModelSettings
    from simtune.corpus.pool import build_task_sets
    from simtune.prompting.tokenizer import load_tokenizer
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
    return data, first_examples(data, BATCH_SIZE, STEPS), -(-tokenizer.vocab_size // 64) * 64


def first_examples(data: Any, batch_size: int, num_steps: int) -> np.ndarray:
    """Those of the first steps of an epoch over all: as similar in length as batches of a whole sweep are."""
    from simtune.config import TrainingSettings
    from simtune.training.steps import training_steps

    steps = training_steps(data, np.arange(len(data.sources)), TrainingSettings(batch_size=batch_size, epochs=1), 0)
    return np.sort(np.concatenate([step.examples for step in steps[:num_steps]]))


def build(vocabulary: int) -> Any:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(vocab_size=vocabulary, decoder_start_token_id=0, **SIZES))


def simtune(problem: Problem, precision: str) -> float:
    """Seconds of a training."""
    from simtune.config import TrainingSettings
    from simtune.training.engine import single_process_world
    from simtune.training.loop import TrainingJob, fine_tune

    data, examples, vocabulary = problem
    training = TrainingSettings(epochs=1, batch_size=BATCH_SIZE, precision=precision)
    world = single_process_world()
    warm = training.model_copy(update={"batch_size": 1})
    fine_tune(lambda: build(vocabulary), TrainingJob(data, examples[:1], warm, 1, 0, 0), world)
    model = build(vocabulary)
    started = time.perf_counter()
    fine_tune(lambda: model, TrainingJob(data, examples, training, 1, 0, 0), world)
    return time.perf_counter() - started


def by_batch_size(problem: Problem, precision: str, batch_size: int) -> tuple[float, float, float]:
    """Real tokens a second of a training's steps but for the first, which asks the system for its memory.

    Returns:
        also the FLOP of a token, and the source tokens of a step, both in the mean.
    """
    from simtune.config import TrainingSettings
    from simtune.training.engine import single_process_world
    from simtune.training.loop import TrainingHooks, TrainingJob, fine_tune
    from simtune.training.steps import training_steps

    data, _, vocabulary = problem
    examples = first_examples(data, batch_size, max(6, 96 // batch_size))
    training = TrainingSettings(epochs=1, batch_size=batch_size, precision=precision)
    clock: list[float] = []
    done: list[int] = []

    def on_step(number: int, total: int, loss: float) -> None:
        clock.append(time.perf_counter())
        done.append(number)

    job = TrainingJob(data, examples, training, 1, 0, 0)
    fine_tune(lambda: build(vocabulary), job, single_process_world(), TrainingHooks(on_step))
    steps = training_steps(data, examples, training, 0)[done[0] :]
    sources = np.concatenate([data.sources.lengths[step.examples] for step in steps])
    targets = np.concatenate([data.references.lengths[step.references] for step in steps])
    tokens = float(sources.sum() + targets.sum())
    return tokens / (clock[-1] - clock[0]), flops_of(sources, targets, vocabulary) / tokens, sources.sum() / len(steps)


def flops_of(sources: np.ndarray, targets: np.ndarray, vocabulary: int) -> float:
    pairs = zip(sources, targets, strict=True)
    return sum(flops_an_example(SIZES, vocabulary, float(s), float(t)) for s, t in pairs)


def scaling(problem: Problem, precisions: Sequence[str]) -> dict[str, Any]:
    """Rates against the size of a step, once each, and what the matrix rate would make of the same examples."""
    series: list[dict[str, Any]] = []
    for precision in precisions:
        limit = matrix_flops_per_s(precision)
        found = [in_own_process(by_batch_size, problem, precision, size)[0] for size in SCALED_SIZES]
        widths = [source_tokens for _, _, source_tokens in found]
        series.append({"name": precision, "x": widths, "y": [rate for rate, _, _ in found]})
        top = [limit / a_token for _, a_token, _ in found]
        series.append({"name": f"{precision} matrix rate", "x": widths, "y": top, "limit": True})
    return {"x": "source tokens a step", "y": "real tokens/s", "series": series}


def rows_of(data: Any, examples: np.ndarray) -> list[dict[str, list[int]]]:
    """Examples as the library's trainer reads them."""
    firsts = data.reference_offsets[examples]
    return [
        {"input_ids": data.sources[number].tolist(), "labels": data.references[first].tolist()}
        for number, first in zip(examples, firsts, strict=True)
    ]


def padded(batch: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Examples as one batch, each as wide as its longest: what the library's collator for sequences does."""
    import torch

    wide = max(len(row["input_ids"]) for row in batch)
    long = max(len(row["labels"]) for row in batch)
    rest = [wide - len(row["input_ids"]) for row in batch]
    pairs = list(zip(batch, rest, strict=True))
    return {
        "input_ids": torch.tensor([row["input_ids"] + [0] * missing for row, missing in pairs]),
        "attention_mask": torch.tensor([[1] * (wide - missing) + [0] * missing for _, missing in pairs]),
        "labels": torch.tensor([row["labels"] + [-100] * (long - len(row["labels"])) for row in batch]),
    }


def trainer_settings(folder: str, **more: Any) -> Any:
    """Of the library's trainer: an epoch at a constant rate, which saves and reports nothing."""
    from transformers import Seq2SeqTrainingArguments

    return Seq2SeqTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=1,
        learning_rate=5e-5,
        lr_scheduler_type="constant",
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )


def trainer(problem: Problem, precision: str) -> float:
    """The same through the library's own trainer, with its padding collator."""
    import tempfile

    from transformers import Seq2SeqTrainer
    from transformers.utils import logging

    logging.set_verbosity_error()
    data, examples, vocabulary = problem
    with tempfile.TemporaryDirectory() as folder:
        arguments = trainer_settings(folder, bf16=precision == "bf16", use_cpu=True, logging_steps=1)
        model = build(vocabulary)
        training = Seq2SeqTrainer(
            model=model, args=arguments, train_dataset=rows_of(data, examples), data_collator=padded
        )
        training.log = lambda *_, **__: None
        started = time.perf_counter()
        training.train()
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--only-scaling", action="store_true", help="the rows stay as they are")
    arguments = parser.parse_args()
    about = machine("torch", "transformers", "deepspeed", "accelerate")
    problem = examples_of(arguments.data)
    if arguments.only_scaling:
        earlier = json.loads((RESULTS / "train.json").read_text())
        if earlier["machine"] != about:
            raise SystemExit("results/train.json is of another machine or other versions: measure all of it")
        save("train", earlier["rows"], about, scaling=scaling(problem, arguments.precisions))
        return
    data, examples, vocabulary = problem
    sources = data.sources.lengths[examples]
    targets = data.references.lengths[data.reference_offsets[examples]]
    tokens = int(sources.sum() + targets.sum())
    flops = flops_of(sources, targets, vocabulary)
    rows = []
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
    show(f"Training, {len(examples)} examples, {tokens} tokens", rows, about)
    save("train", rows, about, scaling=scaling(problem, arguments.precisions))


if __name__ == "__main__":
    main()
