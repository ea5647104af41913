"""Embedding beside bare `SentenceTransformer.encode` on the same cores: texts a second, memory, actors, the gap.

    python benchmarks/embed.py --part actors      600 texts on one and on two actors; some 15 minutes
    python benchmarks/embed.py --part full        all tasks; some 10 minutes
    python benchmarks/embed.py --part startup     100 to 10,000 shorter texts, start-up included; some 25 minutes
    python benchmarks/embed.py                    all of them, each in 5 interleaved runs

Texts are those that a sweep embeds of the Super-NaturalInstructions tasks (`--data`; the bundled demo corpus where it
is missing). `actors` and `full` leave start-up out: the peer's model is loaded before the clock starts, and from
our seconds those of encoding one word an actor are taken, which start, load and stop as many actors. Part `startup`
counts both whole processes from before their first import to the last vector; its texts are category and definition
only (with a number in front to make that many different ones), so that start-up weighs more than for whole task texts.
`of_limit` is the encoder's arithmetic on real tokens over what matrix products alone reach here on all cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS, RUNS, in_own_process, interleaved, machine, median, save, show

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "sup-natinst"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SAMPLE_OF_ACTORS = 600
MANY = (100, 1000, 10_000)


def texts_of(data: Path, *fields: str) -> list[str]:
    """What a sweep embeds of every task, each text once."""
    from simtune.config import CorpusSettings, EmbeddingSettings, EvaluationSettings
    from simtune.corpus.natural_instructions import parse_task_bytes
    from simtune.corpus.pool import build_task_sets
    from simtune.embedding.task_text import task_text

    embedding = EmbeddingSettings(fields=fields) if fields else EmbeddingSettings()
    if data.is_dir():
        paths = sorted((data / "tasks").glob("*.json"))
        tasks = [parse_task_bytes(path.stem, path.read_bytes(), str(path)).task for path in paths]
    else:
        sets = build_task_sets(CorpusSettings(min_instances=1), EvaluationSettings())
        tasks = [*sets.pool, *sets.test]
    return list(dict.fromkeys(task_text(task, embedding) for task in tasks))


def many_texts(data: Path) -> list[str]:
    texts = texts_of(data, "category", "definition")
    return [f"{number} {texts[number % len(texts)]}" for number in range(max(MANY))]


def tokens_and_flops(texts: Sequence[str]) -> tuple[int, float]:
    """Tokens that the encoder reads, and its multiplications and additions on them without padding."""
    from simtune.embedding.encoder import Encoder, resolve_encoder

    resolved = resolve_encoder(ENCODER)
    config = json.loads((resolved.folder / "config.json").read_bytes())
    layers, width, inner = (config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    encoder = Encoder(resolved, device="cpu")
    counts = [min(int(count), encoder.max_tokens) for count in encoder.count_tokens(texts)]
    a_token = 2 * (4 * width * width + 2 * width * inner)
    return sum(counts), float(sum(layers * (n * a_token + 4 * n * n * width) for n in counts))


def matmul_rate(cores: int) -> float:
    """Best float32 operations a second of a large matrix product on that many threads."""
    import torch

    torch.set_num_threads(cores)
    square = torch.ones(4096, 4096)
    square @ square
    return 2 * 4096**3 / min(timed(lambda: square @ square) for _ in range(8))


def timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Memory:
    """The peak of a process and its descendants, resident sizes added up, sampled twice a second."""

    def __enter__(self) -> Memory:
        self.peak_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_mib = max(self.peak_mib, total / 2**20)


def bare(connection: Any, cores: int) -> None:
    """The peer: a loaded model; answers texts with seconds and peak of memory."""
    import torch
    from sentence_transformers import SentenceTransformer

    from simtune.embedding.encoder import resolve_encoder

    torch.set_num_threads(cores)
    model = SentenceTransformer(str(resolve_encoder(ENCODER).folder), device="cpu")
    model.encode(["warm up"] * 32)
    connection.send("ready")
    while (texts := connection.recv()) is not None:
        with Memory() as memory:
            seconds = timed(lambda texts=texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False))
        connection.send((seconds, memory.peak_mib))


def start_ray(cores: int) -> None:
    import logging

    import ray
    import ray.data

    # As a sweep starts it, and of its own words only errors.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.init(
        address="local",
        num_cpus=cores + 1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def ours(connection: Any, cores: int) -> None:
    """Ray Data on a running Ray; answers (texts, actors) with seconds beyond start-up, start-up, peak of memory."""
    from simtune.embedding.encoder import resolve_encoder
    from simtune.executors.placement import Host
    from simtune.executors.ray_data import encode_with_ray

    start_ray(cores)
    resolved = resolve_encoder(ENCODER)

    def encode(texts: Sequence[str], batch_size: int, actors: int) -> float:
        hosts = [Host("here", actors)]
        return timed(lambda: encode_with_ray(texts, resolved, batch_size, lambda *_: None, hosts, actors))

    encode(["warm up"], 1, 1)
    connection.send("ready")
    while (request := connection.recv()) is not None:
        texts, actors = request
        startup_s = encode([f"word{number}" for number in range(actors)], 1, actors)
        with Memory() as memory:
            seconds = encode(texts, 32, actors)
        connection.send((seconds - startup_s, startup_s, memory.peak_mib))


class Side:
    """A process of its own that answers requests."""

    def __init__(self, serve: Any, cores: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, cores))
        self._process.start()
        self._connection.recv()

    def ask(self, request: Any) -> Any:
        self._connection.send(request)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def row(part: str, who: str, texts: int, seconds: float, flops: float, limit: float, **more: Any) -> dict[str, Any]:
    return {
        "part": part,
        "who": who,
        "texts": texts,
        "seconds": seconds,
        "texts_per_s": texts / seconds,
        "gflops": flops / seconds / 1e9,
        "of_limit": flops / seconds / limit,
        **more,
    }


def part_actors(data: Path, cores: int, limit: float) -> list[dict[str, Any]]:
    """Steady rates on one actor and on one a core, interleaved; `ratio` is over the single actor."""
    texts = texts_of(data)
    sample = random.Random(0).sample(texts, min(SAMPLE_OF_ACTORS, len(texts)))
    return rates("actors", sample, cores, limit, sorted({1, cores}), beside=False)


def part_full(data: Path, cores: int, limit: float) -> list[dict[str, Any]]:
    """Steady rates of all tasks, interleaved with the peer's."""
    return rates("full", texts_of(data), cores, limit, [cores], beside=True)


def rates(
    part: str, texts: Sequence[str], cores: int, limit: float, pools: Sequence[int], beside: bool
) -> list[dict[str, Any]]:
    """Rows of pools of that many actors; ratios are over the first row: the peer's, or the smallest pool's."""
    flops = tokens_and_flops(texts)[1]
    simtune = Side(ours, cores)
    answers: dict[str, list[Any]] = {}

    def remember(name: str, answer: Any) -> float:
        answers.setdefault(name, []).append(answer)
        return float(answer[0])

    works = {}
    if beside:
        peer = Side(bare, cores)
        works["bare encode"] = lambda: remember("bare encode", peer.ask(texts))
    for actors in pools:
        name = f"simtune, {actors} actor{'s' if actors > 1 else ''}"
        works[name] = lambda name=name, actors=actors: remember(name, simtune.ask((texts, actors)))
    taken = interleaved(works)
    simtune.close()
    if beside:
        peer.close()
    first_s = median(next(iter(taken.values())))
    return [
        row(
            part,
            name,
            len(texts),
            median(seconds),
            flops,
            limit,
            ratio=first_s / median(seconds),
            fastest_s=min(seconds),
            slowest_s=max(seconds),
            peak_mib=max(answer[-1] for answer in answers[name]),
            startup_s=median([answer[1] for answer in answers[name]]) if "simtune" in name else None,
        )
        for name, seconds in taken.items()
    ]


def whole_bare(texts: Sequence[str], cores: int) -> tuple[float, float]:
    """Seconds since before the first import, and the peak of memory."""
    started = time.perf_counter()
    with Memory() as memory:
        import torch
        from sentence_transformers import SentenceTransformer

        from simtune.embedding.encoder import resolve_encoder

        torch.set_num_threads(cores)
        model = SentenceTransformer(str(resolve_encoder(ENCODER).folder), device="cpu")
        model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        seconds = time.perf_counter() - started
    return seconds, memory.peak_mib


def whole_ours(texts: Sequence[str], cores: int) -> tuple[float, float]:
    started = time.perf_counter()
    with Memory() as memory:
        start_ray(cores)
        from simtune.embedding.encoder import resolve_encoder
        from simtune.executors.placement import Host
        from simtune.executors.ray_data import encode_with_ray

        encode_with_ray(texts, resolve_encoder(ENCODER), 32, lambda *_: None, [Host("here", cores)], cores)
        seconds = time.perf_counter() - started
    return seconds, memory.peak_mib


def part_startup(data: Path, cores: int, limit: float) -> list[dict[str, Any]]:
    """Whole processes on more and more texts, interleaved."""
    most = many_texts(data)
    rows = []
    for number in MANY:
        texts = most[:number]
        flops = tokens_and_flops(texts)[1]
        found: dict[str, list[tuple[float, float]]] = {"bare encode": [], f"simtune, {cores} actors": []}
        for _ in range(RUNS):
            for name, work in zip(found, (whole_bare, whole_ours), strict=True):
                found[name].append(in_own_process(work, texts, cores)[0])
        peer_s = median([seconds for seconds, _ in found["bare encode"]])
        for name, runs in found.items():
            seconds = median([seconds for seconds, _ in runs])
            spread = {"fastest_s": min(s for s, _ in runs), "slowest_s": max(s for s, _ in runs)}
            peak_mib = max(peak for _, peak in runs)
            more = {"ratio": peer_s / seconds, **spread, "peak_mib": peak_mib}
            rows.append(row("startup", name, number, seconds, flops, limit, **more))
    return rows


PARTS = {"actors": part_actors, "full": part_full, "startup": part_startup}


def scaling_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Texts a second of whole processes against texts, and what matrix products alone would reach."""
    rows = [row for row in rows if row["part"] == "startup"]
    if not rows:
        return None
    numbers = sorted({row["texts"] for row in rows})
    series: list[dict[str, Any]] = [
        {"name": who, "x": numbers, "y": [row["texts_per_s"] for row in rows if row["who"] == who]}
        for who in dict.fromkeys(row["who"] for row in rows)
    ]
    top = [row["texts_per_s"] / row["of_limit"] for row in rows if row["who"] == "bare encode"]
    series.append({"name": "matrix products", "x": numbers, "y": top, "limit": True})
    return {"x": "texts", "y": "texts/s, start-up counted", "series": series}


def earlier_rows(about: dict[str, Any], parts: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the parts not measured now, where they come from this machine."""
    path = RESULTS / "embed.json"
    found = json.loads(path.read_text()) if path.is_file() else {"machine": None}
    return [row for row in found["rows"] if row["part"] not in parts] if found["machine"] == about else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="these only; the other rows stay as they are")
    parser.add_argument("--data", type=Path, default=DATA, help="a Super-NaturalInstructions folder")
    arguments = parser.parse_args()
    about = machine("sentence-transformers", "torch", "ray", "transformers")
    about["texts"] = "Super-NaturalInstructions tasks" if arguments.data.is_dir() else "the bundled demo corpus"
    limit, _ = in_own_process(matmul_rate, about["cores"])
    parts = arguments.part or list(PARTS)
    rows = earlier_rows(about, parts)
    for part in parts:
        rows += PARTS[part](arguments.data, about["cores"], limit)
    rows.sort(key=lambda row: list(PARTS).index(row["part"]))
    show(f"Embedding beside bare SentenceTransformer.encode ({about['texts']})", rows, about)
    print(f"matrix products alone: {limit / 1e9:.0f} GFLOP/s on {about['cores']} cores")
    save("embed", rows, about, matmul_gflops=round(limit / 1e9, 1), scaling=scaling_of(rows))


if __name__ == "__main__":
    main()
