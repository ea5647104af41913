"""Objects that register with simtune as those of an installed package do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from types import ModuleType
from unittest import mock


@contextmanager
def installed_entry(registry: ModuleType, name: str, value: str) -> Iterator[None]:
    """Makes `name = value` the one entry point of a registry's group."""
    entries = [EntryPoint(name, value, registry.ENTRY_POINTS)]
    registry._installed.cache_clear()
    with mock.patch(
        "simtune.entry_points.entry_points", lambda group: entries if group == registry.ENTRY_POINTS else []
    ):
        yield
    registry._installed.cache_clear()
