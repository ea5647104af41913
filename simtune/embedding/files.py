"""Embeddings of one's own: a parquet file with columns `task` and `embedding`, from any encoder.

Legend: N rows, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simtune.errors import CorpusError, cut, shown
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class EmbeddingFile:
    """What such a file holds.

    Attributes:
        names: of tasks, or of instances: any different texts.
        vectors_ND: float32, as in the file.
        categories: of column `category`, else empty texts.
        sources: of column `source` (a text or a list of texts), else none.
    """

    path: Path
    names: tuple[str, ...]
    vectors_ND: np.ndarray
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]

    def sha256(self) -> str:
        """Over names, categories, sources and vectors, whatever the order of the rows."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        digest = hashlib.sha256()
        for begin in range(0, len(order), _ROWS_AT_ONCE):
            rows = order[begin : begin + _ROWS_AT_ONCE]
            texts = [[self.names[row], self.categories[row], self.sources[row]] for row in rows]
            digest.update(json.dumps(texts).encode())
            digest.update(self.vectors_ND[rows].tobytes())
        return digest.hexdigest()


def read_embeddings(path: Path) -> EmbeddingFile:
    """Reads embeddings some rows at a time, so that no more than the vectors themselves are in memory.

    Raises:
        CorpusError: no such file, not parquet, a column missing or of another type, vectors of different lengths or
            with NaN or an infinity, a task without a name, or twice; with file, row and task.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file of embeddings") from None
    # ValueError: a column's name that is no text.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{path}: not a parquet file ({_short(error)})") from None
    with file:
        _check_columns(path, file.schema_arrow)
        others = [name for name in ("category", "source") if name in file.schema_arrow.names]
        names: list[str] = []
        categories: list[str] = []
        sources: list[tuple[str, ...]] = []
        vectors_ND: np.ndarray | None = None
        try:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=["task", "embedding", *others]):
                # Offsets beyond the column, and text that is no UTF-8.
                batch.validate(full=True)
                begin = len(names)
                names.extend(batch.column("task").to_pylist())
                wanted = None if vectors_ND is None else vectors_ND.shape[1]
                block_ND = _vectors(path, batch.column("embedding"), names, begin, wanted)
                if vectors_ND is None:
                    vectors_ND = np.empty((file.metadata.num_rows, block_ND.shape[1]), dtype=np.float32)
                vectors_ND[begin : len(names)] = block_ND
                if "category" in others:
                    categories.extend(value or "" for value in batch.column("category").to_pylist())
                if "source" in others:
                    sources.extend(_sources(value) for value in batch.column("source").to_pylist())
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise CorpusError(f"{path}: damaged ({_short(error)})") from None
    if vectors_ND is None:
        raise CorpusError(f"{path}: holds no row")
    if len(names) != len(vectors_ND):
        raise CorpusError(f"{path}: damaged ({counted(len(names), 'row')}, its metadata say {len(vectors_ND):,})")
    _check_names(path, names)
    return EmbeddingFile(
        path,
        tuple(names),
        vectors_ND,
        tuple(categories) if categories else ("",) * len(names),
        tuple(sources) if sources else ((),) * len(names),
    )


def _check_columns(path: Path, schema: pa.Schema) -> None:
    import pyarrow as pa

    for name in ("task", "embedding"):
        if name not in schema.names:
            raise CorpusError(f"{path}: no column {name!r} (columns: {cut(', '.join(schema.names))})")
    kind = schema.field("task").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise CorpusError(f"{path}, column task: {kind}, not text")
    kind = schema.field("embedding").type
    if not (_is_list(kind) and pa.types.is_floating(kind.value_type)):
        raise CorpusError(f"{path}, column embedding: {kind}, not lists of floating-point numbers")
    if "category" in schema.names and not _is_text(kind := schema.field("category").type):
        raise CorpusError(f"{path}, column category: {kind}, not text")
    if "source" in schema.names:
        kind = schema.field("source").type
        if not _is_text(kind.value_type if _is_list(kind) else kind):
            raise CorpusError(f"{path}, column source: {kind}, neither text nor lists of text")


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    """Text in any encoding, or nothing at all."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _vectors(path: Path, column: pa.Array, names: list[str], begin: int, wanted: int | None) -> np.ndarray:
    """Vectors of some rows; `wanted` is the first row's length where that is not among them."""
    import pyarrow.compute as pc

    lengths_N = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    wanted = int(lengths_N[0]) if wanted is None else wanted
    odd_N = np.flatnonzero((lengths_N != wanted) | (lengths_N == 0))
    if len(odd_N):
        row = int(odd_N[0])
        found = (
            f"{counted(int(lengths_N[row]), 'dimension')}, the first row has {wanted}"
            if lengths_N[row]
            else "no embedding"
        )
        raise CorpusError(f"{path}, row {begin + row + 1} (task {shown(names[begin + row])}): {found}")
    # Numbers beyond float32 become infinite and are refused below.
    with np.errstate(over="ignore"):
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    block_ND: np.ndarray = flat.reshape(len(lengths_N), wanted)
    bad_N = np.flatnonzero(~np.isfinite(block_ND).all(axis=1))
    if len(bad_N):
        row = int(bad_N[0])
        raise CorpusError(
            f"{path}, row {begin + row + 1} (task {shown(names[begin + row])}): the embedding holds NaN or an infinity"
        )
    return block_ND


def _sources(value: str | list[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def _check_names(path: Path, names: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(names, start=1):
        if not name:
            raise CorpusError(f"{path}, row {row}: column task is empty")
        if name in seen:
            raise CorpusError(f"{path}, row {row}: task {shown(name)} stands in row {seen[name]} already")
        seen[name] = row


def _short(error: BaseException) -> str:
    return cut((str(error).splitlines() or [type(error).__name__])[0])
