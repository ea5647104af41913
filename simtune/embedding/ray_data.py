"""Encodes texts with Ray Data: an actor pool of encoders over all GPUs, or over the CPUs with one process each.

A row of the data set is a whole batch, made on the driver: which texts are padded together depends neither on how Ray
cuts its blocks nor on which actor is free, and the bytes do not either.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from simtune.embedding.batches import CPU_BATCH_TOKENS, batches_by_length
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress, encode_batch
from simtune.embedding.encoder import Encoder, ResolvedEncoder, count_tokens, max_tokens, resolve_encoder
from simtune.errors import ModelError

# A call costs Ray some hundredths of a second and a batch on a CPU takes a fifth of one: several go together where
# there are enough for every actor to have its share.
_MOST_BATCHES_A_CALL = 4
_CALLS_AN_ACTOR = 8


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

    def __call__(self, batches: pa.Table) -> pa.Table:
        rows = [row for rows in batches["rows"].to_pylist() for row in rows]
        vectors = [vector for texts in batches["texts"].to_pylist() for vector in encode_batch(self._encoder, texts)]
        width = max((len(vector) for vector in vectors if not isinstance(vector, str)), default=1)
        nothing = np.zeros(width, dtype=np.float32)
        vectors_ND = np.stack([nothing if isinstance(vector, str) else vector for vector in vectors])
        return pa.table(
            {
                "row": rows,
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), width),
                "error": [vector if isinstance(vector, str) else "" for vector in vectors],
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
    num_tokens_N = count_tokens(resolved, texts)
    batch_tokens = None if num_gpus else CPU_BATCH_TOKENS
    batches = list(batches_by_length(num_tokens_N, max_tokens(resolved), batch_size, batch_tokens))
    num_actors = max(1, min(len(batches), num_gpus or num_cpus))
    # A process each with its share of threads: an encoder's own thread pool scales worse than processes do.
    num_threads = None if num_gpus else max(1, num_cpus // num_actors)
    remote_args: dict[str, Any] = {"num_gpus": 1} if num_gpus else {"num_cpus": num_threads}
    remote_args |= {"max_restarts": max_restarts, "max_task_retries": max_restarts}
    together = max(1, min(_MOST_BATCHES_A_CALL, len(batches) // (_CALLS_AN_ACTOR * num_actors)))
    calls = [batches[begin : begin + together] for begin in range(0, len(batches), together)]
    blocks = [pa.table({"rows": call, "texts": [[texts[row] for row in rows] for rows in call]}) for call in calls]
    with warnings.catch_warnings():
        # Restarts have no named parameter yet; releases that take this one away are outside our range.
        warnings.simplefilter("ignore")
        encoded = ray.data.from_arrow(blocks).map_batches(
            _EncoderActor,
            fn_constructor_args=(resolved.name, resolved.revision, resolved.fingerprint, num_threads),
            batch_size=together,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            **remote_args,
        )
    results: list[Encoded | str] = ["not encoded"] * len(texts)
    done = 0
    for part in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
        vectors_ND = np.stack(part["vector"].to_numpy()).astype(np.float32)
        for row, vector_D, error in zip(part["row"].to_pylist(), vectors_ND, part["error"].to_pylist(), strict=True):
            results[row] = error or Encoded(vector_D, int(num_tokens_N[row]))
        done += len(part)
        on_progress(done, len(texts))
    return results
