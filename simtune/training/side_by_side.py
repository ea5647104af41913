"""Independent pieces of work on the CPU at the same time, instead of one after another with all threads in each.

The threads of one piece meet after every operation, and all wait for the slowest: where another process has taken a
core, for the one on it. Pieces do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

# Between torch's operations, Python runs one piece at a time.
_MOST_AT_ONCE = 4


def num_side_by_side(device: torch.device) -> int:
    """How many pieces are done at once: one on a GPU, and on a CPU as many as torch has threads, up to four."""
    import torch

    return min(_MOST_AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1


def side_by_side(work: Callable[[Piece], Result], pieces: Sequence[Piece], device: torch.device) -> list[Result]:
    """What a function returns for each piece, in their order, without gradients; pieces divide torch's threads.

    Args:
        work: spends its time in torch.
        pieces: a single one has all threads.
        device: of the work.
    """
    import torch

    num_threads, at_once = torch.get_num_threads(), num_side_by_side(device)

    def without_gradients(piece: Piece) -> Result:
        # This holds for a thread, not for the process.
        with torch.inference_mode():
            return work(piece)

    if at_once == 1 or len(pieces) == 1:
        return [without_gradients(piece) for piece in pieces]
    try:
        with ThreadPoolExecutor(
            at_once, initializer=torch.set_num_threads, initargs=(num_threads // at_once,)
        ) as threads:
            return list(threads.map(without_gradients, pieces))
    finally:
        # OpenMP's number is a thread's own, but MKL's is the process's.
        torch.set_num_threads(num_threads)
