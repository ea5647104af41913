"""One score of a model: its answers to a suite, and the files with their scores.

`metrics.json` is written last, once, and never replaced: if it exists, the score is done; if it does not,
nothing else in the folder counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from simtune.evaluation.generation import generate
from simtune.evaluation.metric_registry import METRICS as KNOWN_METRICS
from simtune.evaluation.metrics import Tokenize
from simtune.evaluation.prediction_shards import Prediction, PredictionParts, shards_of
from simtune.evaluation.rank_classification import rank_choices
from simtune.evaluation.scores import PredictionRecord, Scores, score_predictions
from simtune.prompting.tokenizer import TextTokenizer
from simtune.storage.files import AnyPath, write_bytes, write_once
from simtune.storage.parquet_files import table_bytes
from simtune.storage.records import record_bytes, write_record
from simtune.training.engine import World
from simtune.training.examples import Ragged, TokenisedTasks
from simtune.training.seq2seq_model import Seq2SeqModel
from simtune.trial.failures import num_attempts
from simtune.trial.files import COSTS, FAILURE, METRICS, MODEL, PREDICTIONS, SCORE, identity_bytes, score_folder
from simtune.trial.records import Costs, Files, Metrics, Training, metrics_fields
from simtune.trial.spec import OnProgress, ScoreSpec, SharedData, SuiteData, TrialSpec

if TYPE_CHECKING:
    import pyarrow as pa


def predict_suite(
    model: Seq2SeqModel,
    score: ScoreSpec,
    shared: SharedData,
    parts: PredictionParts,
    world: World,
    on_progress: OnProgress,
) -> dict[int, Prediction]:
    """Answers by the number of the test instance, all of them on rank 0; other workers have their share."""
    data = shared.suites[score.prompts]
    sources = data.test.sources
    shards = list(enumerate(shards_of(sources.lengths, score.tokens_per_batch)))
    # Workers may differ by one shard; all must report equally often.
    num_reported = len(shards) // world.size
    report_every = max(1, num_reported // 10)
    share: dict[int, Prediction] = {}
    mine = shards[world.rank :: world.size]
    for done, (shard, numbers) in enumerate(mine, start=1):
        predictions = parts.read(shard, numbers)
        if predictions is None:
            predictions = _answer(model, data.test, numbers, score, shared.tokenizer)
            parts.write(shard, predictions)
        share |= predictions
        if done <= num_reported and done % report_every == 0:
            on_progress({"phase": "evaluate", "completed": done, "total": len(mine)})
    if world.size == 1:
        return share
    import torch.distributed as dist

    gathered: list[dict[int, Prediction] | None] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(share, gathered, dst=0)
    return {number: prediction for part in gathered or () if part for number, prediction in part.items()}


def _answer(
    model: Seq2SeqModel, test: TokenisedTasks, numbers: np.ndarray, score: ScoreSpec, tokenizer: TextTokenizer
) -> dict[int, Prediction]:
    """Generated answers, or the choices that the model finds likeliest."""
    suite, tokens_per_batch = score.suite, score.tokens_per_batch
    if suite.method == "generate":
        return generate(model, test.sources, numbers, tokenizer, suite.max_new_tokens, tokens_per_batch)
    if test.choices is None:
        raise ValueError("a suite that ranks has no answer choices")
    chosen = [test.choices.ids_of(number) for number in numbers.tolist()]
    sources = Ragged.from_rows([test.sources[number].tolist() for number in numbers.tolist()])
    model.eval()
    rankings = rank_choices(
        model,
        sources,
        [[choice.tolist() for choice in choices] for choices in chosen],
        tokenizer.pad_id,
        tokens_per_batch,
        suite.length_normalised,
    )
    return {
        number: Prediction(test.choices.texts_of(number)[ranking.winner], len(choices[ranking.winner]))
        for number, ranking, choices in zip(numbers.tolist(), rankings, chosen, strict=True)
    }


def answered(data: SuiteData, predictions: dict[int, Prediction]) -> list[PredictionRecord]:
    """The records of a suite with their predictions."""
    return [replace(record, prediction=predictions[number].text) for number, record in enumerate(data.records)]


def write_score(
    spec: TrialSpec,
    score: ScoreSpec,
    records: Sequence[PredictionRecord],
    training: Training | None,
    costs: dict[str, Any],
    num_tokens: Sequence[int] | None,
    rouge_tokenizers: Mapping[str, Tokenize],
) -> None:
    """Scores answers and writes the score's files, `metrics.json` last, which has the checksums of the others.

    Raises:
        LeaseLostError: the driver no longer holds its run.
    """
    suite = score.suite
    tokenizer = score.identity["rouge_tokenizer"]
    scores = score_predictions(records, suite.computed_metrics, rouge_tokenizers[tokenizer] if tokenizer else None)
    identity = identity_bytes(score.id, score.identity)
    predictions = table_bytes(_predictions_table(records, scores, num_tokens))
    files = Files(identity=hashlib.sha256(identity).hexdigest(), predictions=hashlib.sha256(predictions).hexdigest())
    spec.check_lease()
    folder = score_folder(spec.directory, score.id)
    write_bytes(spec.directory / MODEL, identity_bytes(spec.id, spec.identity))
    write_bytes(folder / SCORE, identity)
    write_bytes(folder / PREDICTIONS, predictions)
    took = Costs(trial=spec.id, score=score.id, failed_attempts=num_attempts(spec.directory), **costs)
    write_record(folder / COSTS, took)
    metrics = Metrics(model=spec.id, score=score.id, **metrics_fields(scores), training=training, files=files)
    write_once(folder / METRICS, record_bytes(metrics))
    (folder / FAILURE).unlink(missing_ok=True)


def prediction_parts(directory: AnyPath, score: ScoreSpec, made_by: str) -> PredictionParts:
    """Where an interrupted evaluation keeps its answers."""
    return PredictionParts(score_folder(directory, score.id) / "predictions.parts", made_by)


def _predictions_table(
    records: Sequence[PredictionRecord], scores: Scores, num_tokens: Sequence[int] | None
) -> pa.Table:
    import pyarrow as pa

    metrics = {
        KNOWN_METRICS[name].column: [score.values[name] for score in scores.instances] for name in scores.overall.values
    }
    return pa.table(
        {
            "instance_id": [record.instance_id for record in records],
            "task": [record.task for record in records],
            "category": [record.category for record in records],
            "prediction": [record.prediction for record in records],
            "references": pa.array([list(record.references) for record in records], pa.list_(pa.string())),
            **metrics,
            "num_tokens": pa.array(num_tokens, pa.int64()) if num_tokens else pa.nulls(len(records), pa.int64()),
        }
    )
