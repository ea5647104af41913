"""Encodes texts with Ray Data: an actor pool of encoders over all GPUs, or over the CPUs with one process each.

A block is a batch: blocks are made on the driver with exactly `batch_size` rows, so which texts are padded together
does not depend on which actor is free, and the bytes do not either.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress, encode_batch
from simtune.embedding.encoder import Encoder, ResolvedEncoder, resolve_encoder
from simtune.errors import ModelError


class _EncoderActor:
    """One encoder in one process, with its share of the machine."""

    def __init__(self, name: str, revision: str | None, fingerprint: str, num_threads: int | None) -> None:
        resolved = resolve_encoder(name, revision)
        if resolved.fingerprint != fingerprint:
            raise ModelError(
                f"embedding.encoder: {name!r} in {resolved.folder} on {ray.util.get_node_ip_address()} is not the one "
                "on the driver; install the same weights on every host"
            )
        self._encoder = Encoder(resolved, device="cpu" if num_threads else "cuda", num_threads=num_threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        results = encode_batch(self._encoder, batch["text"].to_pylist())
        width = max((len(result.vector_D) for result in results if isinstance(result, Encoded)), default=1)
        nothing = np.zeros(width, dtype=np.float32)
        vectors_ND = np.stack([result.vector_D if isinstance(result, Encoded) else nothing for result in results])
        return pa.table(
            {
                "row": batch["row"],
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), width),
                "num_tokens": [result.num_tokens if isinstance(result, Encoded) else 0 for result in results],
                "error": ["" if isinstance(result, Encoded) else result for result in results],
            }
        )


def encode_with_ray(
    texts: Sequence[str],
    resolved: ResolvedEncoder,
    batch_size: int,
    on_progress: OnProgress,
    num_cpus: int,
    num_gpus: int,
    max_restarts: int,
) -> list[Encoded | str]:
    """Encodes texts on the connected Ray cluster, on at most so many CPUs or GPUs; needs `ray.init` before.

    An encoder process that dies is started again at most `max_restarts` times: Ray Data's own default is for ever.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    num_batches = -(-len(texts) // batch_size)
    num_actors = max(1, min(num_batches, num_gpus or num_cpus))
    # A process each with its share of threads: an encoder's own thread pool scales worse than processes do.
    num_threads = None if num_gpus else max(1, num_cpus // num_actors)
    blocks = [
        pa.table(
            {
                "row": pa.array(range(start, min(start + batch_size, len(texts))), pa.int64()),
                "text": list(texts[start : start + batch_size]),
            }
        )
        for start in range(0, len(texts), batch_size)
    ]
    remote_args: dict[str, Any] = {"num_gpus": 1} if num_gpus else {"num_cpus": num_threads}
    remote_args |= {"max_restarts": max_restarts, "max_task_retries": max_restarts}
    with warnings.catch_warnings():
        # Restarts have no named parameter yet; releases that take this one away are outside our range.
        warnings.simplefilter("ignore")
        encoded = _encoded(blocks, resolved, batch_size, num_actors, num_threads, remote_args)
    results: list[Encoded | str] = ["not encoded"] * len(texts)
    done = 0
    for batch in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
        vectors_ND = np.stack(batch["vector"].to_pylist()).astype(np.float32)
        rows = zip(
            batch["row"].to_pylist(),
            vectors_ND,
            batch["num_tokens"].to_pylist(),
            batch["error"].to_pylist(),
            strict=True,
        )
        for row, vector_D, num_tokens, error in rows:
            results[row] = error or Encoded(vector_D, num_tokens)
        done += len(batch)
        on_progress(done, len(texts))
    return results


def _encoded(
    blocks: list[pa.Table],
    resolved: ResolvedEncoder,
    batch_size: int,
    num_actors: int,
    num_threads: int | None,
    remote_args: dict[str, Any],
) -> Any:
    return ray.data.from_arrow(blocks).map_batches(
        _EncoderActor,
        fn_constructor_args=(resolved.name, resolved.revision, resolved.fingerprint, num_threads),
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        **remote_args,
    )
