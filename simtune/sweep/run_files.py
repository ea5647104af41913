"""The checksums of what the last run wrote to its directory."""

from __future__ import annotations

from typing import Any

from simtune.errors import RunError
from simtune.storage import AnyPath, file_sha256, files_below, read_json, write_json

CHECKSUMS = "checksums.json"
_PATTERNS = ("sweep.yaml", "manifest.json", "*.parquet", "results.*", "report/**/*", "splits/**/*")


def write_checksums(run_directory: AnyPath) -> None:
    """Records what a finished run left in its directory."""
    below = [item for pattern in _PATTERNS for item in files_below(run_directory, pattern).items()]
    # Not what a file manager leaves in a folder that it shows.
    found = {name: path for name, path in below if not path.name.startswith(".")}
    write_json(run_directory / CHECKSUMS, {"files": {name: file_sha256(found[name]) for name in sorted(found)}})


def read_checksums(run_directory: AnyPath) -> dict[str, str] | None:
    """SHA-256 by path, or None where no run has ended in this directory (or only one of the first release).

    Raises:
        RunError: the file is damaged.
    """
    path = run_directory / CHECKSUMS
    if not path.is_file():
        return None
    content: Any = read_json(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
        raise RunError(f"{path}: not a list of checksums; `simtune run` writes it anew")
    return files
