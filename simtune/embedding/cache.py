"""The embedding cache: a text is encoded once, and damaged vectors are encoded again.

Each encoder has a folder, named by its fingerprint, of immutable parquet segments, each written in one piece. Every row
has a checksum of its encoder, its text's key and its numbers: a row that does not match, or that another encoder made,
is ignored and encoded again.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simtune.errors import RunError
from simtune.outside_files import visible
from simtune.storage.files import write_once
from simtune.storage.parquet_files import read_table, table_bytes


@dataclass(frozen=True)
class Encoded:
    """One encoded text.

    Attributes:
        vector_D: unit vector, float32 [D].
        num_tokens: of the text, before any cut.
        max_tokens: that the encoder reads.
    """

    vector_D: np.ndarray
    num_tokens: int
    max_tokens: int


def text_key(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class EmbeddingCache:
    """Vectors of one encoder on disk."""

    def __init__(self, root: Path, encoder_fingerprint: str) -> None:
        self.folder = root / encoder_fingerprint[:16]
        self._encoder = encoder_fingerprint
        self.num_damaged = 0

    def load(self, keys: Sequence[str]) -> dict[str, Encoded]:
        """The undamaged rows among `keys`; damaged rows and segments are counted in `num_damaged`."""
        wanted = set(keys)
        found: dict[str, Encoded] = {}
        self.num_damaged = 0
        for path in sorted(visible(self.folder.glob("*.parquet"))):
            try:
                table = read_table(path)
                vectors = table["vector"].combine_chunks().to_numpy(zero_copy_only=False)
                rows = zip(
                    table["key"].to_pylist(),
                    table["checksum"].to_pylist(),
                    table["num_tokens"].to_pylist(),
                    table["max_tokens"].to_pylist(),
                    [np.asarray(vector, dtype=np.float32) for vector in vectors],
                    strict=True,
                )
            # The names and types of columns have no checksum: damaged, they read back as something else.
            except (RunError, KeyError, TypeError, ValueError):
                self.num_damaged += 1
                # Renamed, so that an undamaged segment can be written under the name again. Another driver may have
                # done it already; a segment that cannot be renamed is ignored each time.
                with suppress(OSError):
                    path.replace(path.with_suffix(".damaged"))
                continue
            for key, checksum, num_tokens, max_tokens, vector_D in rows:
                encoded = Encoded(vector_D, num_tokens, max_tokens)
                if checksum != self._checksum(key, encoded):
                    self.num_damaged += 1
                elif key in wanted and key not in found:
                    found[key] = encoded
        return found

    def add(self, encoded: dict[str, Encoded]) -> None:
        """Writes one segment, named by its content."""
        import pyarrow as pa

        if not encoded:
            return
        keys = sorted(encoded)
        vectors_ND = np.stack([encoded[key].vector_D for key in keys])
        table = pa.table(
            {
                "key": keys,
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1]),
                "num_tokens": pa.array([encoded[key].num_tokens for key in keys], pa.int32()),
                "max_tokens": pa.array([encoded[key].max_tokens for key in keys], pa.int32()),
                "checksum": pa.array([self._checksum(key, encoded[key]) for key in keys], pa.int64()),
            }
        )
        data = table_bytes(table)
        write_once(self.folder / f"{hashlib.sha256(data).hexdigest()[:16]}.parquet", data)

    def _checksum(self, key: str, encoded: Encoded) -> int:
        about = f"{self._encoder} {key} {encoded.num_tokens} {encoded.max_tokens}"
        return zlib.crc32(encoded.vector_D.tobytes(), zlib.crc32(about.encode()))
