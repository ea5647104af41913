"""Encodes texts with Ray Data: an actor pool of encoders over all GPUs, or over the CPUs with one process each.

A row of the data set is a whole batch, made on the driver: which texts are padded together depends neither on how Ray
cuts its blocks nor on which actor is free, and the bytes do not either.
"""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from simtune.embedding.batches import CPU_BATCH_TOKENS, batches_by_length
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress, encode_batch
from simtune.embedding.encoder import Encoder, ResolvedEncoder, resolve_encoder
from simtune.errors import ModelError
from simtune.wording import counted

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


@dataclass(frozen=True)
class _Round:
    """How texts go to encoders: `apart` in calls of one batch, one at a time to each; `single` text by text.

    Attributes:
        restarts: how often an encoder that died is started again; without, the first death ends the round.
    """

    apart: bool
    single: bool
    restarts: int


# A process that dies takes all along that it was given. What was lost is given out again in ever smaller portions,
# until a text that ends its process is alone in it. (Ray warns on the terminal of every actor that may be restarted.)
_ROUNDS = (
    _Round(apart=False, single=False, restarts=0),
    _Round(apart=True, single=False, restarts=8),
    _Round(apart=True, single=True, restarts=8),
)


def encode_with_ray(
    texts: Sequence[str],
    resolved: ResolvedEncoder,
    batch_size: int,
    on_progress: OnProgress,
    num_cpus: int,
    num_gpus: int,
) -> list[Encoded | str]:
    """Encodes texts on the connected Ray cluster, on at most so many CPUs or GPUs; needs `ray.init` before.

    A text whose encoder process dies on it, or whose machine is lost, is tried three times, the last time alone; the
    others are encoded by the processes that are started in place of the dead ones.

    Raises:
        ModelError: encoders die or fail whatever they are given.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What becomes of lost calls is told by the results.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # Here for its tokenizer alone: which texts are read together follows from their tokens.
    encoder = Encoder(resolved, device="cpu")
    num_tokens_N, max_tokens = encoder.count_tokens(texts), encoder.max_tokens
    del encoder
    batch_tokens = None if num_gpus else CPU_BATCH_TOKENS
    batches = list(batches_by_length(num_tokens_N, max_tokens, batch_size, batch_tokens))
    results: dict[int, Encoded | str] = {}
    lost = f"its encoder process died {counted(len(_ROUNDS), 'time')} without a word: out of memory, killed, or a crash"
    for how in _ROUNDS:
        left = [[row for row in rows if row not in results] for rows in batches]
        portions = [rows for rows in left if rows]
        if how.single:
            portions = [[row] for rows in portions for row in rows]
        if not portions:
            break
        before = len(results)
        try:
            for row, vector_D, reason in _encode(texts, portions, resolved, how, num_cpus, num_gpus):
                results[row] = reason or Encoded(vector_D, int(num_tokens_N[row]), max_tokens)
                on_progress(len(results), len(texts))
        except ray.exceptions.RayError as error:
            # The rest may yet be encoded, unless this is no matter of single texts.
            if how.restarts and len(results) == before:
                why = [line for line in str(error).splitlines() if line.strip()][-1:]
                raise ModelError(f"embedding.encoder: no process encoded anything ({' '.join(why)})") from error
            if how.single:
                lost = "too many encoder processes died before its turn"
        # A pass that failed leaves its encoders, and what they occupy, to the garbage collector.
        gc.collect()
    return [results.get(row, lost) for row in range(len(texts))]


def _encode(
    texts: Sequence[str],
    portions: list[list[int]],
    resolved: ResolvedEncoder,
    how: _Round,
    num_cpus: int,
    num_gpus: int,
) -> Iterator[tuple[int, np.ndarray, str]]:
    """One pass over the portions, each padded by itself: row, vector and error of every text that was not lost.

    Raises:
        RayError: too many calls were lost, or no encoder could be started.
    """
    num_actors = max(1, min(len(portions), num_gpus or num_cpus))
    # A process each with its share of threads: an encoder's own thread pool scales worse than processes do.
    num_threads = None if num_gpus else max(1, num_cpus // num_actors)
    remote_args: dict[str, Any] = {"num_gpus": 1} if num_gpus else {"num_cpus": num_threads}
    # Ray Data's own default is to try the same call for ever. A call that is lost with its process is left out, as
    # long as no encoder can have died more often than it is started again.
    remote_args |= {"max_restarts": how.restarts, "max_task_retries": 0}
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = how.restarts * num_actors
    context.max_consecutive_actor_init_deaths = 0
    together = 1 if how.apart else max(1, min(_MOST_BATCHES_A_CALL, len(portions) // (_CALLS_AN_ACTOR * num_actors)))
    calls = [portions[begin : begin + together] for begin in range(0, len(portions), together)]
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
            compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1 if how.apart else None),
            **remote_args,
        )
    for part in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
        vectors_ND = np.stack(part["vector"].to_numpy()).astype(np.float32)
        yield from zip(part["row"].to_pylist(), vectors_ND, part["error"].to_pylist(), strict=True)
