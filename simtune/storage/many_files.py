"""Many small reads or writes at once: an object store takes long for each, and so does a disk that is told to sync."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from simtune.storage.files import AnyPath

K = TypeVar("K")
T = TypeVar("T")
_THREADS = 16


def in_threads(work: Callable[[K], T], items: Iterable[K]) -> list[T]:
    """What a function returns for each item, in their order; raises the error of the first item that has one."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, items))


def read_each(root: AnyPath, items: Iterable[K], read: Callable[[K], T]) -> dict[K, T]:
    """What a function reads for each item, in their order; one thread reads a disk just as fast.

    Args:
        root: where it reads: on a disk or in an object store.
        items: each is read once.
        read: called with an item.
    """
    different = list(dict.fromkeys(items))
    found = map(read, different) if isinstance(root, Path) else in_threads(read, different)
    return dict(zip(different, found, strict=True))
