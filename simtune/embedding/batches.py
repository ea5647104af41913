"""Which texts an encoder reads together: texts of one length, few enough that what is computed stays in the cache.

A batch is padded to its longest text, so texts are put in order of their *tokens*: on 1,294 Super-NaturalInstructions
tasks 99 % of a batch of 32 are real tokens, in order of characters 87 %, unordered 85 %. The longest come first: what
does not fit the memory fails at once, and the last batches, which some encoders wait for, are the small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

CPU_BATCH_TOKENS = 2048
"""Most padded tokens of a batch on a CPU: MiniLM on one core reads batches of 1,024 to 2,048 tokens a fifth faster than
batches of 8,192, whose activations no longer fit its cache. A GPU gets whole batches."""


def batches_by_length(
    num_tokens: Sequence[int] | np.ndarray, max_tokens: int, batch_size: int, batch_tokens: int | None
) -> Iterator[list[int]]:
    """The rows of each batch, the longest texts first; texts of one length in the order given.

    What is padded together follows from the texts alone, not from the number of encoders or which of them is free.

    Args:
        num_tokens: of each text, before any cut.
        max_tokens: the encoder's limit, at which texts are cut.
        batch_size: most texts of a batch.
        batch_tokens: most tokens of a batch, padding included; one text may have more. None: no limit.
    """
    read_N = np.minimum(np.asarray(num_tokens), max_tokens)
    rows = np.argsort(-read_N, kind="stable").tolist()
    begin = 0
    while begin < len(rows):
        width = max(1, int(read_N[rows[begin]]))
        size = batch_size if batch_tokens is None else min(batch_size, max(1, batch_tokens // width))
        yield rows[begin : begin + size]
        begin += size
