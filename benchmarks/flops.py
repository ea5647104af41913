"""What a T5 has to compute, and how fast this machine multiplies matrices: the gap between them is a number."""

from __future__ import annotations

import time
from statistics import median


def flops_an_example(sizes: dict[str, int], vocabulary: int, source: float, target: float) -> float:
    """Multiplications and additions of the model itself, forward and backward (three forwards), for one example."""
    d, inner, ff = sizes["d_model"], sizes["d_kv"] * sizes["num_heads"], sizes["d_ff"]
    attention, feed_forward = 4 * d * inner, 2 * d * ff
    encoder = source * (attention + feed_forward) + 2 * source * source * inner
    decoder = target * (2 * d * inner + attention + feed_forward) + source * 2 * d * inner
    decoder += 2 * target * (target + source) * inner
    return 3 * 2 * (sizes["num_layers"] * (encoder + decoder) + target * d * vocabulary)


def matrix_flops_per_s(precision: str, rows: int = 4096, width: int = 256, inner: int = 1024) -> float:
    """FLOP a second of the products that a feed-forward block of this model's widths is made of, all cores."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    one, two = torch.randn(rows, width, dtype=dtype), torch.randn(width, inner, dtype=dtype)
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(20):
            one @ two
        seconds.append(time.perf_counter() - started)
    return 20 * 2 * rows * width * inner / median(seconds)
