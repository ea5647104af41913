"""The texts that an encoder reads together: texts of similar length, few enough for the CPU's cache.

A batch is padded to its longest text, so texts are sorted by their number of *tokens*: on 1,294
Super-NaturalInstructions tasks 99 % of a batch of 32 are real tokens, sorted by characters 87 %, unsorted 85 %. The
longest texts come first, so that a lack of memory shows at once, and the last batches, which some encoders wait for,
are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

CPU_BATCH_TOKENS = 2048
"""Most tokens, including padding, of a batch on a CPU: MiniLM on one core reads batches of 1,024 to 2,048 tokens a
fifth faster than batches of 8,192, whose activations do not fit the cache. A GPU gets whole batches."""


def batches_by_length(
    num_tokens: Sequence[int] | np.ndarray, max_tokens: int, batch_size: int, batch_tokens: int | None
) -> Iterator[list[int]]:
    """The rows of each batch, the longest texts first; texts of equal length in the order given.

    The batches depend on the texts alone, not on the number of encoders or on which of them is free.

    Args:
        num_tokens: of each text, before any cut.
        max_tokens: the encoder's limit, at which texts are cut.
        batch_size: maximum number of texts.
        batch_tokens: maximum number of tokens, including padding; a single text may have more. None: no limit.
    """
    read_N = np.minimum(np.asarray(num_tokens), max_tokens)
    rows = np.argsort(-read_N, kind="stable").tolist()
    begin = 0
    while begin < len(rows):
        width = max(1, int(read_N[rows[begin]]))
        size = batch_size if batch_tokens is None else min(batch_size, max(1, batch_tokens // width))
        yield rows[begin : begin + size]
        begin += size
