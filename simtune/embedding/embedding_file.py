"""Embeddings from any encoder: a parquet file with columns `task` and `embedding`.

Legend: N rows, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simtune.errors import CorpusError, cut, shown
from simtune.outside_files import OutsideFileError, refuse_special
from simtune.storage.parquet_size import check_decoded, decoded_bytes
from simtune.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_ROWS_AT_ONCE = 8192
_BYTES_AT_ONCE = 256 << 20


@dataclass(frozen=True)
class EmbeddingFile:
    """The content of such a file.

    Attributes:
        path: of the file.
        names: of tasks, or of instances: any texts, each once.
        vectors_ND: float32, as in the file.
        categories: from column `category`, otherwise empty texts.
        sources: from column `source` (a text or a list of texts), otherwise none.
    """

    path: Path
    names: tuple[str, ...]
    vectors_ND: np.ndarray
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]

    def sha256(self) -> str:
        """Over names, categories, sources and vectors, whatever the order of the rows."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        # Tasks share categories and sources, which may be long: each text is hashed once.
        distinct = sorted({*self.categories, *(source for sources in self.sources for source in sources)})
        number = {text: index for index, text in enumerate(distinct)}
        digest = hashlib.sha256(json.dumps(distinct).encode())
        for begin in range(0, len(order), _ROWS_AT_ONCE):
            rows = order[begin : begin + _ROWS_AT_ONCE]
            texts = [
                [self.names[row], number[self.categories[row]], [number[source] for source in self.sources[row]]]
                for row in rows
            ]
            digest.update(json.dumps(texts).encode())
            digest.update(self.vectors_ND[rows].tobytes())
        return digest.hexdigest()


def read_embeddings(path: Path) -> EmbeddingFile:
    """Reads embeddings in blocks of rows, so that memory holds little more than the vectors.

    Raises:
        CorpusError: no such file, not parquet, far larger when decoded than on disk (see `parquet_size`), a column
            missing or of another type, vectors of different lengths or with NaN or an infinity, a task without a name
            or a duplicate; with file, row and task.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        refuse_special([path])
        # Texts as dictionaries: a text that occurs a million times is in memory once.
        schema = pq.read_schema(path)
        texts = _text_leaves(schema)
        file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts)
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file of embeddings") from None
    except OutsideFileError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    # ValueError: a column name that is not text.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{path}: not a parquet file ({_short(error)})") from None
    with file:
        _check_columns(path, schema)
        rows = _Rows(path, file, [name for name in ("category", "source") if name in schema.names])
        try:
            rows.read()
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise CorpusError(f"{path}: damaged ({_short(error)})") from None
    return rows.found()


class _Rows:
    """The rows of a file as they are read."""

    def __init__(self, path: Path, file: pq.ParquetFile, others: list[str]) -> None:
        self._path, self._file, self._others = path, file, others
        self._file_bytes = path.stat().st_size
        self._decoded = 0
        self._names: list[str] = []
        self._row_of: dict[str, int] = {}
        self._categories: list[str] = []
        self._sources: list[tuple[str, ...]] = []
        self._vectors_ND: np.ndarray | None = None

    def read(self) -> None:
        """Reads them all.

        Raises:
            CorpusError: they are too many, or wrong.
        """
        metadata = self._file.metadata
        columns = ["task", "embedding", *self._others]
        with self._path.open("rb") as data:
            needed = decoded_bytes(data, columns)
        self._check_size(needed)
        row_bytes = max(1, needed // max(1, metadata.num_rows))
        rows_at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // row_bytes))
        for batch in self._file.iter_batches(rows_at_once, columns=columns):
            # Detects offsets beyond the column, and text that is not UTF-8.
            batch.validate(full=True)
            self._take(batch)

    def _take(self, batch: pa.RecordBatch) -> None:
        begin = len(self._names)
        self._names.extend(self._texts(batch.column("task")))
        wanted = None if self._vectors_ND is None else self._vectors_ND.shape[1]
        block_ND = _vectors(self._path, batch.column("embedding"), self._names, begin, wanted)
        if self._vectors_ND is None:
            shape = (self._file.metadata.num_rows, block_ND.shape[1])
            self._check_size(shape[0] * shape[1] * 4)
            self._vectors_ND = np.empty(shape, dtype=np.float32)
        self._vectors_ND[begin : len(self._names)] = block_ND
        self._check_names(begin)
        if "category" in self._others:
            self._categories.extend(value or "" for value in self._texts(batch.column("category")))
        if "source" in self._others:
            self._sources.extend(self._lists(batch.column("source")))
        # The footer may claim less than there is.
        self._decoded += block_ND.nbytes
        self._check_size(self._decoded)

    def _texts(self, column: pa.Array) -> list[Any]:
        """A column's texts; equal ones share one object, a missing one is None."""
        import pyarrow.compute as pc

        if _is_nothing(column.type):
            return [None] * len(column)
        index_N = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
        # Only the entries that are used: the dictionary may be that of a million rows.
        used_M, entry_N = np.unique(index_N, return_inverse=True)
        texts = column.dictionary.take(used_M[used_M >= 0])
        self._decoded += texts.nbytes
        made = [None] * int((used_M < 0).sum()) + texts.to_pylist()
        return [made[entry] for entry in entry_N.tolist()]

    def _lists(self, column: pa.Array) -> list[tuple[str, ...]]:
        """A column's texts, or lists of texts, as tuples."""
        import pyarrow.compute as pc

        if not _is_list(column.type):
            return [() if text is None else (text,) for text in self._texts(column)]
        texts = self._texts(column.flatten())
        ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)).tolist()
        return [tuple(texts[begin:end]) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _check_size(self, num_bytes: int) -> None:
        try:
            check_decoded(num_bytes, self._file_bytes)
        except ValueError as error:
            raise CorpusError(f"{self._path}: {error}; write a file of the tasks that you need") from None

    def _check_names(self, begin: int) -> None:
        for row, name in enumerate(self._names[begin:], start=begin + 1):
            if not name:
                raise CorpusError(f"{self._path}, row {row}: column task is empty")
            if self._row_of.setdefault(name, row) != row:
                raise CorpusError(f"{self._path}, row {row}: task {shown(name)} is already in row {self._row_of[name]}")

    def found(self) -> EmbeddingFile:
        """What was read.

        Raises:
            CorpusError: there is no row, or another number than the metadata say.
        """
        names, vectors_ND = self._names, self._vectors_ND
        if vectors_ND is None:
            raise CorpusError(f"{self._path}: has no rows")
        if len(names) != len(vectors_ND):
            raise CorpusError(
                f"{self._path}: damaged ({counted(len(names), 'row')}, its metadata says {len(vectors_ND):,})"
            )
        return EmbeddingFile(
            self._path,
            tuple(names),
            vectors_ND,
            tuple(self._categories) if self._categories else ("",) * len(names),
            tuple(self._sources) if self._sources else ((),) * len(names),
        )


def _text_leaves(schema: pa.Schema) -> list[str]:
    """Parquet's names of the text columns that are read."""
    leaves = []
    for name in ("task", "category", "source"):
        if name in schema.names:
            column_type = schema.field(name).type
            inner = column_type.value_type if _is_list(column_type) else column_type
            if _is_text(inner) and not _is_nothing(inner):
                leaves.append(f"{name}.list.{column_type.value_field.name}" if _is_list(column_type) else name)
    return leaves


def _check_columns(path: Path, schema: pa.Schema) -> None:
    import pyarrow as pa

    for name in ("task", "embedding"):
        if name not in schema.names:
            raise CorpusError(f"{path}: no column {name!r} (columns: {cut(', '.join(schema.names))})")
    column_type = schema.field("task").type
    if not _is_text(column_type) or _is_nothing(column_type):
        raise CorpusError(f"{path}, column task: {column_type}, not text")
    column_type = schema.field("embedding").type
    if isinstance(column_type, pa.FixedShapeTensorType) and len(column_type.shape) != 1:
        shape = " x ".join(map(str, column_type.shape))
        raise CorpusError(f"{path}, column embedding: tensors of {shape} numbers; write one vector a row")
    column_type = _storage(column_type)
    if not (_is_list(column_type) and pa.types.is_floating(column_type.value_type)):
        raise CorpusError(f"{path}, column embedding: {column_type}, not lists of floating-point numbers")
    if "category" in schema.names and not _is_text(column_type := schema.field("category").type):
        raise CorpusError(f"{path}, column category: {column_type}, not text")
    if "source" in schema.names:
        column_type = schema.field("source").type
        if not _is_text(column_type.value_type if _is_list(column_type) else column_type):
            raise CorpusError(f"{path}, column source: {column_type}, neither text nor lists of text")


def _storage(column_type: pa.DataType) -> pa.DataType:
    """The type that an extension type, such as a tensor of a fixed shape, is stored as."""
    import pyarrow as pa

    return column_type.storage_type if isinstance(column_type, pa.BaseExtensionType) else column_type


def _is_view(column_type: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list_view(column_type) or pa.types.is_large_list_view(column_type))


def _is_list(column_type: pa.DataType) -> bool:
    import pyarrow as pa

    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return _is_view(column_type) or any(is_type(column_type) for is_type in checks)


def _is_text(column_type: pa.DataType) -> bool:
    """Text in any encoding, or nothing at all."""
    import pyarrow as pa

    column_type = column_type.value_type if pa.types.is_dictionary(column_type) else column_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, _is_nothing)
    return any(is_type(column_type) for is_type in checks)


def _is_nothing(column_type: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_null(column_type))


def _vectors(path: Path, column: pa.Array, names: list[str], begin: int, wanted: int | None) -> np.ndarray:
    """Vectors of some rows; `wanted` is the length of the file's first row where that is not among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    if _is_view(column.type):
        column = column.cast(pa.large_list(column.type.value_type))
    lengths_N = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    wanted = int(lengths_N[0]) if wanted is None else wanted
    odd_N = np.flatnonzero((lengths_N != wanted) | (lengths_N == 0))
    if len(odd_N):
        row = int(odd_N[0])
        found = (
            f"{counted(int(lengths_N[row]), 'dimension')}, but the first row has {wanted}"
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
            f"{path}, row {begin + row + 1} (task {shown(names[begin + row])}): the embedding contains NaN or an "
            "infinity"
        )
    return block_ND


def _short(error: BaseException) -> str:
    return cut((str(error).splitlines() or [type(error).__name__])[0])
