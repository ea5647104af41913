"""Greedy answers against `Seq2SeqTrainer.predict`, and rank classification against a model call a choice.

    pip install accelerate && python benchmarks/evaluate.py          some seven minutes on two cores

The same T5 of 15 M parameters in fp32, whose answers have the lengths of real ones (`wired_t5.py`), and the same
instances: blocks of 16 of tasks of all lengths, in the order of the test set, with definition and two demonstrations
(`--data`, or the bundled demo corpus where it is missing). A run is a process of its own; seconds are those of
answering alone. The trainer has labels, as Tk-Instruct's script gives it, and so runs the model once more for the
loss; a row without labels shows what is left of the difference. `share of matrix rate` is what the answers have to
compute over what this machine's matrix products give.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flops import flops_an_example, matrix_flops_per_s
from harness import RUNS, in_own_process, machine, median, save, show
from wired_t5 import SIZES, wired_t5

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
INSTANCES_OF_A_TASK = 16
MAX_NEW_TOKENS = 128
MOST_CHOICES = 6
PAD, EOS = 0, 1


@dataclass(frozen=True)
class Problem:
    """Sources, first references and, for prompts of classification tasks, answer choices, as token ids."""

    sources: Any
    references: Any
    choices: list[list[list[int]]]
    reference_lengths: np.ndarray
    vocabulary: int

    def first(self, size: int) -> Problem:
        """Every k-th instance, `size` of them."""
        from simtune.training.examples import Ragged

        chosen = np.linspace(0, len(self.sources) - 1, size).round().astype(int)
        return Problem(
            Ragged.from_rows([self.sources[number].tolist() for number in chosen]),
            Ragged.from_rows([self.references[number].tolist() for number in chosen]),
            [self.choices[number] for number in chosen],
            self.reference_lengths,
            self.vocabulary,
        )


def problem_of(shared: Path, num_tasks: int) -> Problem:
    """Blocks of test instances of tasks at even places in the order of their mean source lengths."""
    from simtune.config import CorpusSettings, EncodingSettings, EvaluationSettings, ModelSettings
    from simtune.corpus.pool import build_task_sets
    from simtune.prompting.tokenizer import load_tokenizer
    from simtune.training.examples import Ragged, tokenise_tasks

    real = (shared / "sup-natinst").is_dir()
    corpus = CorpusSettings(
        path=str(shared / "sup-natinst") if real else "demo", instances_per_task=10, min_instances=60
    )
    tasks = build_task_sets(corpus, EvaluationSettings(instances_per_task=INSTANCES_OF_A_TASK))
    model = ModelSettings(init="random", tokenizer=str(shared / "t5-tokenizer") if real else "pool", vocab_size=8000)
    tokenizer = load_tokenizer(model, tasks.pool)
    data = tokenise_tasks(tasks.test, EncodingSettings(), 1024, MAX_NEW_TOKENS, tokenizer)
    means = [data.sources.lengths[data.examples_of([name])].mean() for name in data.names]
    places = np.linspace(0, len(means) - 1, min(num_tasks, len(means))).round().astype(int)
    chosen = {data.names[place] for place in np.argsort(means, kind="stable")[places]}
    sources, references, choices = [], [], []
    for task in tasks.test:
        if task.name not in chosen:
            continue
        answers = sorted({instance.outputs[0] for instance in task.instances})
        ranked = tokenizer.encode_batch(answers) if 2 <= len(answers) <= MOST_CHOICES else []
        for number in data.examples_of([task.name]):
            sources.append(data.sources[number].tolist())
            references.append(data.references[data.reference_offsets[number]].tolist())
            choices.append(ranked)
    lengths = data.references.lengths[data.reference_offsets[:-1]]
    return Problem(
        Ragged.from_rows(sources), Ragged.from_rows(references), choices, lengths, -(-tokenizer.vocab_size // 64) * 64
    )


Answers = tuple[float, list[list[int]]]
"""Seconds, and the tokens of each instance up to the end of the sequence."""


def simtune(problem: Problem, threads: int, tokens_per_batch: int) -> Answers:
    import torch

    from simtune.evaluation.greedy import DecodingJob, decode_greedily
    from simtune.evaluation.prediction_shards import shards_of
    from simtune.training.families.t5 import T5

    torch.set_num_threads(threads)
    model = wired_t5(problem.reference_lengths, problem.vocabulary)
    sources = problem.sources

    def answer(limit: int) -> dict[int, list[int]]:
        layers = T5.decoder_layers(model)
        assert layers is not None
        answers: dict[int, list[int]] = {}
        for numbers in shards_of(sources.lengths, tokens_per_batch):
            job = DecodingJob(sources, numbers[:limit], PAD, EOS, MAX_NEW_TOKENS, tokens_per_batch)
            answers |= decode_greedily(layers, job)
        return answers

    answer(2)
    started = time.perf_counter()
    answers = answer(len(sources))
    return time.perf_counter() - started, [answers[number] for number in range(len(sources))]


def trainer(problem: Problem, threads: int, batch_size: int, labels: bool) -> Answers:
    """The library's own evaluation, greedy, with its padding collator."""
    import tempfile

    import torch
    from transformers import GenerationConfig, Seq2SeqTrainer, Seq2SeqTrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    model = wired_t5(problem.reference_lengths, problem.vocabulary)
    model.generation_config = GenerationConfig(pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD)

    def padded(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
        wide = max(len(row["input_ids"]) for row in rows)
        rest = [wide - len(row["input_ids"]) for row in rows]
        pairs = list(zip(rows, rest, strict=True))
        batch = {
            "input_ids": torch.tensor([row["input_ids"] + [PAD] * missing for row, missing in pairs]),
            "attention_mask": torch.tensor([[1] * (wide - missing) + [0] * missing for _, missing in pairs]),
        }
        if labels:
            long = max(len(row["labels"]) for row in rows)
            batch["labels"] = torch.tensor([row["labels"] + [-100] * (long - len(row["labels"])) for row in rows])
        return batch

    rows = [
        {"input_ids": problem.sources[number].tolist()}
        | ({"labels": problem.references[number].tolist()} if labels else {})
        for number in range(len(problem.sources))
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=batch_size,
            predict_with_generate=True,
            # The token that decoding starts with counts.
            generation_max_length=MAX_NEW_TOKENS + 1,
            generation_num_beams=1,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        peer = Seq2SeqTrainer(model=model, args=arguments, data_collator=padded)
        peer.predict(rows[:2])
        started = time.perf_counter()
        predictions = peer.predict(rows).predictions
        seconds = time.perf_counter() - started
    return seconds, [_until_end(row) for row in predictions[:, 1:].tolist()]


def _until_end(row: list[int]) -> list[int]:
    return row[: row.index(EOS) + 1] if EOS in row else row


def ranked(problem: Problem, threads: int, at_once: bool) -> tuple[float, list[int]]:
    """Seconds of ranking all choices, and the winners; not at once is one model call a choice."""
    import torch

    from simtune.evaluation.rank_classification import rank_choices

    torch.set_num_threads(threads)
    model = wired_t5(problem.reference_lengths, problem.vocabulary)
    started = time.perf_counter()
    if at_once:
        winners = [ranking.winner for ranking in rank_choices(model, problem.sources, problem.choices, PAD, 16_384)]
        return time.perf_counter() - started, winners
    winners = []
    with torch.inference_mode():
        for number, choices in enumerate(problem.choices):
            ids = torch.tensor(problem.sources[number][None].astype(np.int64))
            losses = [model(input_ids=ids, labels=torch.tensor([choice])).loss.item() for choice in choices]
            winners.append(int(np.argmax([-loss * len(choice) for loss, choice in zip(losses, choices, strict=True)])))
    return time.perf_counter() - started, winners


def flops_of(problem: Problem, answers: list[list[int]]) -> float:
    """What answering has to compute: one forward pass over each source and its answer."""
    return sum(
        flops_an_example(SIZES, problem.vocabulary, len(problem.sources[number]), len(answer)) / 3
        for number, answer in enumerate(answers)
    )


def generation_rows(problem: Problem, runs: int, threads: int, tokens_per_batch: int, limit: float) -> list[dict]:
    works = {"simtune": (simtune, (problem, threads, tokens_per_batch))}
    if machine("accelerate")["versions"]["accelerate"] != "not installed":
        for batch_size, labels in ((8, True), (16, True), (16, False)):
            name = f"Seq2SeqTrainer, batch {batch_size}{'' if labels else ', no labels'}"
            works[name] = (trainer, (problem, threads, batch_size, labels))
    found: dict[str, list[tuple[Answers, float]]] = {name: [] for name in works}
    for _ in range(runs):
        for name, (work, arguments) in works.items():
            found[name].append(in_own_process(work, *arguments))
            print(f"{name}: {found[name][-1][0][0]:.1f} s", file=sys.stderr)
    seconds = {name: median([answers[0] for answers, _ in of_name]) for name, of_name in found.items()}
    reference = found["simtune"][0][0][1]
    flops = flops_of(problem, reference)
    return [
        {
            "answers": name,
            "instances_per_s": len(reference) / seconds[name],
            "seconds": seconds[name],
            "simtune_is_faster": seconds[name] / seconds["simtune"],
            "same_tokens": sum(a == b for a, b in zip(of_name[0][0][1], reference, strict=True)) / len(reference),
            "share_of_matrix_rate": flops / seconds[name] / limit,
            "peak_mib": max(peak for _, peak in of_name),
            "runs": len(of_name),
        }
        for name, of_name in found.items()
    ]


def ranking_rows(problem: Problem, runs: int, threads: int) -> list[dict]:
    works = {"simtune": True, "a model call a choice": False}
    found: dict[str, list[tuple[tuple[float, list[int]], float]]] = {name: [] for name in works}
    for _ in range(runs):
        for name, at_once in works.items():
            found[name].append(in_own_process(ranked, problem, threads, at_once))
    seconds = {name: median([result[0] for result, _ in of_name]) for name, of_name in found.items()}
    winners = found["simtune"][0][0][1]
    return [
        {
            "ranking": name,
            "instances_per_s": len(winners) / seconds[name],
            "simtune_is_faster": seconds[name] / seconds["simtune"],
            "same_winners": sum(a == b for a, b in zip(of_name[0][0][1], winners, strict=True)) / len(winners),
            "peak_mib": max(peak for _, peak in of_name),
            "runs": len(of_name),
        }
        for name, of_name in found.items()
    ]


def only_ranked(problem: Problem) -> Problem:
    from simtune.training.examples import Ragged

    numbers = [number for number, choices in enumerate(problem.choices) if choices]
    sources = Ragged.from_rows([problem.sources[number].tolist() for number in numbers])
    choices = [problem.choices[number] for number in numbers]
    return Problem(sources, sources, choices, problem.reference_lengths, problem.vocabulary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="a folder of real data")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens-per-batch", type=int, default=16_384)
    given = parser.parse_args()
    problem = problem_of(given.data, given.tasks)
    limit = matrix_flops_per_s("fp32")
    rows = generation_rows(problem, given.runs, given.threads, given.tokens_per_batch, limit)
    classified = only_ranked(problem)
    rankings = ranking_rows(classified, given.runs, given.threads) if len(classified.sources) else []
    sizes = [len(problem.sources) // part for part in (8, 4, 2, 1)]
    scaled = []
    for size in sizes:
        part = problem.first(size)
        seconds, answers = in_own_process(simtune, part, given.threads, given.tokens_per_batch)[0]
        scaled.append((seconds, flops_of(part, answers) / limit, float(np.mean([len(row) for row in answers]))))
    about = machine("torch", "transformers", "accelerate", "numpy") | {
        "test_set": "Super-NaturalInstructions" if (given.data / "sup-natinst").is_dir() else "the bundled demo corpus",
        "threads": given.threads,
        "matrix_gflops_per_s": round(limit / 1e9, 1),
        "mean_source_tokens": round(float(problem.sources.lengths.mean()), 1),
        "mean_answer_tokens": round(scaled[-1][2], 1),
    }
    show(f"Greedy answers to {len(problem.sources)} instances", rows, about)
    if rankings:
        counts = [len(choices) for choices in classified.choices]
        show(f"\nRank classification of {len(counts)} instances, {np.mean(counts):.1f} choices", rankings, about)
    series = [
        {"name": "simtune", "x": sizes, "y": [seconds for seconds, _, _ in scaled], "limit": False},
        {"name": "matrix rate", "x": sizes, "y": [seconds for _, seconds, _ in scaled], "limit": True},
    ]
    save("evaluate", rows, about, ranking=rankings, scaling={"x": "test instances", "y": "s", "series": series})


if __name__ == "__main__":
    main()
