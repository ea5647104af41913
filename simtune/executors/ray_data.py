"""Encodes texts with Ray Data: a pool of encoder actors, one per GPU, or several on the CPUs.

Each row of the dataset is a whole batch, made on the driver. So neither the texts that are padded together nor the
resulting bytes depend on how Ray splits its blocks or which actor is free.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import ray
from ray._private import state

from simtune.embedding.batches import CPU_BATCH_TOKENS, batches_by_length
from simtune.embedding.cache import Encoded
from simtune.embedding.embed import OnProgress, encode_batch
from simtune.embedding.encoder import Encoder, ResolvedEncoder, same_encoder
from simtune.errors import ModelError
from simtune.executors.placement import Host, encoder_threads
from simtune.wording import counted, last_line

# A call costs Ray some hundredths of a second, and a batch on a CPU takes a fifth of a second. So a call has several
# batches, if there are enough to give every actor its share.
_MAX_BATCHES_PER_CALL = 4
_CALLS_PER_ACTOR = 8
_LOOK_EVERY_S = 1.0
_ITEMS_AHEAD = 2
# A process on a CPU takes as long to start as to encode some twenty batches.
_BATCHES_PER_CPU_ACTOR = 16

T = TypeVar("T")


class _EncoderActor:
    """One encoder in a process of its own, with its share of the machine."""

    def __init__(self, name: str, revision: str | None, fingerprint: str, num_threads: int | None) -> None:
        resolved = same_encoder(name, revision, fingerprint)
        self._encoder = Encoder(resolved, device="cpu" if num_threads else "cuda", num_threads=num_threads)

    def __call__(self, batches: pa.Table) -> pa.Table:
        rows = [row for rows in batches["rows"].to_pylist() for row in rows]
        vectors = [vector for texts in batches["texts"].to_pylist() for vector in encode_batch(self._encoder, texts)]
        width = max((len(vector) for vector in vectors if not isinstance(vector, str)), default=1)
        zero_D = np.zeros(width, dtype=np.float32)
        vectors_ND = np.stack([zero_D if isinstance(vector, str) else vector for vector in vectors])
        return pa.table(
            {
                "row": rows,
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), width),
                "error": [vector if isinstance(vector, str) else "" for vector in vectors],
            }
        )


@dataclass(frozen=True)
class _Round:
    """How texts are given to encoders.

    Attributes:
        one_batch_per_call: whether each call has one batch, and each encoder one call at a time.
        one_text_per_batch: whether each text is a batch of its own.
        restarts: how often an encoder that died is restarted; with 0 the first death ends the round.
    """

    one_batch_per_call: bool
    one_text_per_batch: bool
    restarts: int


# If a process dies, all texts that it was given are lost. They are given out again in smaller and smaller portions,
# until a text that kills its process is alone. (Ray prints a warning for every actor that may be restarted.)
_ROUNDS = (
    _Round(one_batch_per_call=False, one_text_per_batch=False, restarts=0),
    _Round(one_batch_per_call=True, one_text_per_batch=False, restarts=8),
    _Round(one_batch_per_call=True, one_text_per_batch=True, restarts=8),
)


def encode_with_ray(
    texts: Sequence[str],
    resolved: ResolvedEncoder,
    batch_size: int,
    on_progress: OnProgress,
    hosts: Sequence[Host],
    num_units: int,
    on_wait: Callable[[bool], object] = lambda waits: None,
) -> list[Encoded | str]:
    """Encodes texts on the connected Ray; `ray.init` must have been called.

    A text whose encoder process dies, or whose machine is lost, is tried three times, the last time alone. The other
    texts are encoded by the processes that replace the dead ones.

    Args:
        texts: to encode.
        resolved: the encoder.
        batch_size: the most texts in a batch.
        on_progress: called with the number of encoded texts and the total.
        hosts: whose GPUs are used, or whose CPUs if they have none.
        num_units: how many of these may be used, see `encoding_units`.
        on_wait: called again and again while no vector comes, with whether no encoder has a place on a host.

    Returns:
        For each text its vector, or the reason why it has none.

    Raises:
        ModelError: encoders die or fail whatever the text.
    """
    _silence_ray_data()
    # Only its tokenizer is needed here: batches are formed by the number of tokens.
    encoder = Encoder(resolved, device="cpu")
    num_tokens_N, max_tokens = encoder.count_tokens(texts), encoder.max_tokens
    del encoder
    batch_tokens = None if _num_gpus(hosts) else CPU_BATCH_TOKENS
    batches = list(batches_by_length(num_tokens_N, max_tokens, batch_size, batch_tokens))
    results: dict[int, Encoded | str] = {}
    reason_lost = f"its encoder process died {counted(len(_ROUNDS), 'time')}: it was out of memory, killed, or crashed"
    for round_ in _ROUNDS:
        portions = _portions([[row for row in rows if row not in results] for rows in batches], round_)
        if not portions:
            break
        before = len(results)
        try:
            encoded = _encode(texts, portions, resolved, round_, hosts, num_units)
            for row, vector_D, reason in while_waiting(encoded, lambda: on_wait(not _has_place())):
                results[row] = reason or Encoded(vector_D, int(num_tokens_N[row]), max_tokens)
                on_progress(len(results), len(texts))
        except ray.exceptions.RayError as error:
            # The next round may encode the rest, unless the problem does not depend on the text.
            if round_.restarts and len(results) == before:
                text = f"no process encoded any text ({last_line(str(error))})"
                raise ModelError(text, field="embedding.encoder") from error
            if round_.one_text_per_batch:
                reason_lost = "too many encoder processes died before its turn"
        on_wait(False)
        # After a failed round the garbage collector has to free the encoders and the resources they occupy.
        gc.collect()
    return [results.get(row, reason_lost) for row in range(len(texts))]


def _portions(missing: Sequence[list[int]], round_: _Round) -> list[list[int]]:
    """The texts that a round gives out together, of those that each batch still lacks."""
    if round_.one_text_per_batch:
        return [[row] for rows in missing for row in rows]
    return [rows for rows in missing if rows]


def encoding_units(hosts: Sequence[Host]) -> int:
    """How many encoders fit on hosts: one a GPU, or one a CPU if they have no GPU."""
    return _num_gpus(hosts) or sum(host.num_cpus for host in hosts)


def encoders_for(num_batches: int, hosts: Sequence[Host], num_units: int) -> tuple[int, int | None]:
    """How many encoders to start, and the threads of each; None on GPUs.

    Several processes with a few threads each are faster than one process with many threads. How many threads, which
    decides last digits, does not depend on what other sweeps leave, or on how many processes are worth their start.
    """
    most = max(1, min(num_batches, encoding_units(hosts)))
    if _num_gpus(hosts):
        return max(1, min(most, num_units)), None
    threads = encoder_threads(hosts, most)
    return max(1, min(most, -(-num_batches // _BATCHES_PER_CPU_ACTOR), num_units // threads)), threads


def _num_gpus(hosts: Sequence[Host]) -> int:
    return sum(int(host.num_gpus) for host in hosts)


def while_waiting(items: Iterator[T], look: Callable[[], object]) -> Iterator[T]:
    """The items of an iterator; while the next one is not there, `look` is called each second.

    An error of `look` ends the iteration; what the iterator does then goes on in its thread.
    """
    found: queue.Queue[tuple[T, ...] | Exception] = queue.Queue(maxsize=_ITEMS_AHEAD)

    def iterate() -> None:
        try:
            for item in items:
                found.put((item,))
            found.put(())
        except Exception as error:
            found.put(error)

    threading.Thread(target=iterate, name="items", daemon=True).start()
    while True:
        try:
            news = found.get(timeout=_LOOK_EVERY_S)
        except queue.Empty:
            look()
            continue
        if isinstance(news, Exception):
            raise news
        if not news:
            return
        yield from news


def _has_place() -> bool:
    """Whether a host has room for one of this driver's encoders; it may still be starting there."""
    job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    # Not by Ray's state API, which needs its dashboard. An actor that waits for a process has a host's id, and no port.
    return any(
        actor["Address"]["Port"] and actor["State"] != "DEAD"
        for actor in state.actors(job_id=job).values()
        if _EncoderActor.__name__ in actor["ActorClassName"]
    )


def _silence_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The results say which texts were lost.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _encode(
    texts: Sequence[str],
    portions: list[list[int]],
    resolved: ResolvedEncoder,
    round_: _Round,
    hosts: Sequence[Host],
    num_units: int,
) -> Iterator[tuple[int, np.ndarray, str]]:
    """Encodes portions of texts once; each portion is padded by itself.

    Yields:
        Row, vector and error of every text that was not lost.

    Raises:
        RayError: too many calls were lost, or no encoder could be started.
    """
    num_actors, num_threads = encoders_for(len(portions), hosts, num_units)
    remote_args: dict[str, Any] = {"num_cpus": num_threads} if num_threads else {"num_gpus": 1}
    # By default Ray Data retries a call forever. Here a call that is lost with its process is skipped; there cannot be
    # more of them than restarts.
    remote_args |= {"max_restarts": round_.restarts, "max_task_retries": 0}
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = round_.restarts * num_actors
    context.max_consecutive_actor_init_deaths = 0
    alone = round_.one_batch_per_call
    fair_share = len(portions) // (_CALLS_PER_ACTOR * num_actors)
    batches_per_call = 1 if alone else max(1, min(_MAX_BATCHES_PER_CALL, fair_share))
    calls = [portions[begin : begin + batches_per_call] for begin in range(0, len(portions), batches_per_call)]
    blocks = [pa.table({"rows": call, "texts": [[texts[row] for row in rows] for rows in call]}) for call in calls]
    with warnings.catch_warnings():
        # There is no named parameter for restarts yet; releases that remove this one are outside our range.
        warnings.simplefilter("ignore")
        encoded = ray.data.from_arrow(blocks).map_batches(
            _EncoderActor,
            fn_constructor_args=(resolved.name, resolved.revision, resolved.fingerprint, num_threads),
            batch_size=batches_per_call,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1 if alone else None),
            **remote_args,
        )
    for part in encoded.iter_batches(batch_size=None, batch_format="pyarrow"):
        vectors_ND = np.stack(part["vector"].to_numpy()).astype(np.float32)
        yield from zip(part["row"].to_pylist(), vectors_ND, part["error"].to_pylist(), strict=True)
