"""Reads JSON files of a run, whose checksum the package verifies, as plain values."""

from __future__ import annotations

import json
from typing import Any

from simtune.storage.files import AnyPath


def read_json(path: AnyPath) -> Any:
    """The content of a JSON file in a folder or an object store."""
    return json.loads(path.read_bytes())
