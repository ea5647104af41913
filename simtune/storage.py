"""Artefacts on disk: fingerprints, atomic writes, and results written once.

Nothing is ever seen half-written under its final name: bytes go to a temporary file in the same directory, are
fsynced, and are then renamed (`write_bytes`) or linked without replacing (`write_once`).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.errors import DiskFullError, RunError

if TYPE_CHECKING:
    import pyarrow as pa


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        TypeError: the value holds something JSON cannot say; guessing would make identities collide.
        ValueError: the value holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_full_named(path: Path) -> Iterator[None]:
    """Turns the system's "no space left" into an error that names the path.

    Raises:
        DiskFullError: while writing to it there was no space left, or no quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
        free_mib = shutil.disk_usage(folder).free / 2**20
        raise DiskFullError(
            f"{path}: no space left ({free_mib:,.0f} MiB free on its disk, or a quota is used up). Nothing was left "
            "half-written; make room and run the same command again"
        ) from error


@contextmanager
def _temporary_sibling(path: Path, data: bytes) -> Iterator[Path]:
    with disk_full_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with disk_full_named(path), os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp's 0600 would hide results from the colleagues who share the directory.
            os.fchmod(file.fileno(), 0o644)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes or replaces a file atomically."""
    with _temporary_sibling(path, data) as temporary:
        temporary.replace(path)


def write_once(path: Path, data: bytes) -> bool:
    """Writes a file that must never change; returns False, and writes nothing, where it is there already."""
    with _temporary_sibling(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


def write_text(path: Path, text: str) -> None:
    """Writes or replaces a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def json_text(value: Any) -> bytes:
    """JSON for people: indented, keys in the given order, a final newline, no NaN."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Writes or replaces a JSON file atomically."""
    write_bytes(path, json_text(value))


def read_json(path: Path) -> Any:
    """Reads a JSON file of this run.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except ValueError as error:
        raise RunError(f"{path}: not valid JSON ({error}); move it aside and run again") from error


def table_bytes(table: pa.Table) -> bytes:
    """A table as parquet with page checksums: without them a flipped bit reads back as a wrong number."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=True)
    return sink.getvalue()


def write_table(path: Path, table: pa.Table) -> None:
    """Writes or replaces a parquet file atomically. The same table gives the same bytes."""
    write_bytes(path, table_bytes(table))


def read_table(path: Path) -> pa.Table:
    """Reads a parquet file and verifies its page checksums.

    Raises:
        RunError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    # ValueError: a column's name that is no text.
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{path}: damaged parquet file ({error}); move it aside and run again") from error
