"""The test set in shards: units of work for one worker, which an interrupted evaluation does not repeat.

Shards depend on the sources and the token budget, never on the number of workers, and each is decoded separately. So
predictions are the same on any number of workers and after any interruption.

A finished shard is a parquet file (a part) in the trial's directory. A trial that starts again trains again, so a part
counts only for exactly the weights and the environment that made it: their fingerprint is in its name and in the file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simtune.errors import RunError
from simtune.storage.files import AnyPath, child_names, remove_tree
from simtune.storage.parquet_files import check_schema, read_table, write_table
from simtune.training.seq2seq_model import Seq2SeqModel

if TYPE_CHECKING:
    import pyarrow as pa

_BATCHES_PER_SHARD = 4
_MADE_BY = b"simtune.made_by"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to a source.

    Attributes:
        text: without special tokens.
        num_tokens: without end and padding.
    """

    text: str
    num_tokens: int


def shards_of(lengths: np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Source numbers in shards of equal cost, each a few batches: every k-th source in order of length."""
    order = np.lexsort((np.arange(len(lengths)), -lengths))
    num_shards = -(-int(lengths.sum()) // (_BATCHES_PER_SHARD * tokens_per_batch))
    return [order[shard::num_shards] for shard in range(num_shards)]


def weights_fingerprint(model: Seq2SeqModel) -> str:
    """SHA-256 (hex) of a model's weights: names, shapes, precisions and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, weights in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype}".encode())
        digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _schema() -> pa.Schema:
    import pyarrow as pa

    types = {"source": pa.int64(), "prediction": pa.string(), "num_tokens": pa.int64()}
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


class PredictionParts:
    """The parts of one trial.

    Args:
        folder: used for nothing else.
        made_by: fingerprint of the weights and the environment.

    Attributes:
        num_read: parts that were read.
    """

    def __init__(self, folder: AnyPath, made_by: str) -> None:
        self._folder, self._prefix, self._made_by = folder, made_by[:16], made_by.encode()
        self._names: set[str] | None = None
        self.num_read = 0

    def read(self, shard: int, numbers: np.ndarray) -> dict[int, Prediction] | None:
        """The shard's predictions by source number, or None where they are missing, damaged, or of other sources."""
        if self._names is None:
            # One listing: mostly there is no part, and an object store is slow to say so for each shard.
            self._names = child_names(self._folder)
        path = self._path(shard)
        if path.name not in self._names:
            return None
        try:
            # Missing, damaged or not a file: the shard is predicted again.
            table = read_table(path)
            check_schema(table, _schema(), path)
        except RunError:
            return None
        columns = table.to_pydict()
        if (table.schema.metadata or {}).get(_MADE_BY) != self._made_by or sorted(columns["source"]) != sorted(
            numbers.tolist()
        ):
            return None
        self.num_read += 1
        rows = zip(columns["source"], columns["prediction"], columns["num_tokens"], strict=True)
        return {source: Prediction(text, num_tokens) for source, text, num_tokens in rows}

    def write(self, shard: int, predictions: dict[int, Prediction]) -> None:
        """Saves a finished shard; an incomplete part never exists."""
        import pyarrow as pa

        columns = {
            "source": list(predictions),
            "prediction": [prediction.text for prediction in predictions.values()],
            "num_tokens": [prediction.num_tokens for prediction in predictions.values()],
        }
        table = pa.table(columns, _schema().with_metadata({_MADE_BY: self._made_by}))
        write_table(self._path(shard), table)
        if self._names is not None:
            self._names.add(self._path(shard).name)

    def remove(self) -> None:
        """Removes all parts, including those of other weights, once the trial has its results."""
        remove_tree(self._folder)

    def _path(self, shard: int) -> AnyPath:
        return self._folder / f"{self._prefix}-{shard:05d}.parquet"
