"""Every reader of files from outside, with its inputs and what must be true besides "returns or says why not".

Shared with `benchmarks/fuzz.py`, which runs the same targets for longer.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_inputs import changed_bytes, changed_values, json_files, json_line_files, texts, values
from hypothesis import strategies as st

from simtune.errors import SimtuneError

LONGEST_MESSAGE = 20_000


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        inputs: makes what it is given.
        read: gives an input to it, in an empty folder; asserts what must hold of what comes back.
        examples: tried in CI; the slower the reader, the fewer.
    """

    inputs: Callable[[], st.SearchStrategy[Any]]
    read: Callable[[Any, Path], None]
    examples: int = 150


TARGETS: dict[str, Target] = {}


def target(
    inputs: Callable[[], st.SearchStrategy[Any]], examples: int = 150
) -> Callable[[Callable[[Any, Path], None]], Callable[[Any, Path], None]]:
    def register(read: Callable[[Any, Path], None]) -> Callable[[Any, Path], None]:
        TARGETS[read.__name__.replace("_", " ")] = Target(inputs, read, examples)
        return read

    return register


def attempt(name: str, given: Any, folder: Path) -> str | None:
    """Gives an input to a reader; returns None or its error message. Any other exception is a defect."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        TARGETS[name].read(given, folder)
    except SimtuneError as error:
        message = str(error)
        assert message.strip(), "an error without a message"
        assert len(message) <= LONGEST_MESSAGE, f"a message of {len(message):,} characters"
        return message
    return None


def written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@cache
def _task() -> dict[str, Any]:
    from simtune.corpus.demo import demo_tasks

    task = next(iter(demo_tasks().values()))
    return {**task, "Instances": task["Instances"][:2]}


@target(lambda: json_files([_task()]), examples=300)
def task_file(data: bytes, folder: Path) -> None:
    from simtune.corpus.drawn_tasks import draw_instances
    from simtune.corpus.natural_instructions import parse_task_bytes
    from simtune.corpus.pool import task_fingerprint

    file = parse_task_bytes("task1_x", data, "f.json")
    assert (file.task is None) == any(problem.severity == "error" for problem in file.problems)
    assert all(len(str(problem)) < LONGEST_MESSAGE for problem in file.problems)
    if file.task is not None:
        task_fingerprint(file.task)
        draw_instances(file.task, 1, 0)


_NAMES = st.lists(texts.filter(lambda text: "\ud800" not in text), max_size=5)


@target(
    lambda: st.one_of(_NAMES.map("\n".join).map(str.encode), changed_bytes([b"task1_x\ntask2_y.json\n"]), st.binary())
)
def split_list(data: bytes, folder: Path) -> None:
    from simtune.corpus.task_lists import read_task_list

    for name in read_task_list(written(folder / "train_tasks.txt", data)):
        inside(folder, f"{name}.json")


_REFERENCE = {"id": "i1", "references": ["a", "b"], "task_id": "t1", "task_category": "c", "track": "default"}
_PREDICTION = {"id": "i1", "prediction": "a"}


@target(lambda: json_line_files([_REFERENCE, {**_REFERENCE, "id": "i2"}]))
def references(data: bytes, folder: Path) -> None:
    from simtune.evaluation.leaderboard import score_files

    predictions = written(folder / "p.jsonl", json.dumps(_PREDICTION).encode())
    score_files(written(folder / "r.jsonl", data), predictions, "default")


@target(lambda: json_line_files([_PREDICTION, {**_PREDICTION, "id": "i2"}]))
def predictions(data: bytes, folder: Path) -> None:
    from simtune.evaluation.leaderboard import score_files

    path = written(folder / "r.jsonl", json.dumps(_REFERENCE).encode())
    report = score_files(path, written(folder / "p.jsonl", data))
    assert all(math.isfinite(value) for track in report.tracks for value in track.scores.overall.values.values())


@target(lambda: json_line_files([{"task": "t1", "definition": "Say it.", "category": "c"}]))
def definitions(data: bytes, folder: Path) -> None:
    from simtune.corpus.definitions import read_definitions
    from simtune.corpus.pool import task_fingerprint

    for task in read_definitions(str(written(folder / "d.jsonl", data))).tasks:
        task_fingerprint(task)


@cache
def _sweeps() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml")))


@cache
def _sweep_values() -> tuple[Any, ...]:
    import yaml

    return tuple(map(yaml.safe_load, _sweeps()))


def _yaml(value: Any) -> bytes:
    import yaml

    return yaml.safe_dump(value, allow_unicode=False).encode()


def _sweep_files() -> st.SearchStrategy[bytes]:
    return st.one_of(
        changed_bytes(_sweeps()),
        changed_values(_sweep_values()).map(_yaml),
        values.map(_yaml),
        st.binary(max_size=100),
    )


@target(_sweep_files, examples=200)
def sweep_file(data: bytes, folder: Path) -> None:
    from simtune.config import load_sweep

    sweep = load_sweep(written(folder / "s.yaml", data))
    inside(folder, sweep.name)


_KEYS = st.sampled_from(
    ("name", "training.epochs", "selection.strategies", "selection", "grid.training.epochs", "leakage", "storage")
)


def _overrides() -> st.SearchStrategy[str]:
    valid = [b"[10, all]", b"{a: 1}", b"graph-cut(lambda=0.3)"]
    changed = changed_bytes(valid).map(lambda data: data.decode("latin-1"))
    return st.one_of(st.tuples(_KEYS, texts | changed).map("=".join), texts)


@target(_overrides)
def override(text: str, folder: Path) -> None:
    from simtune.config import load_sweep

    inside(folder, load_sweep(written(folder / "s.yaml", b"name: s\n"), [text]).name)


def _arms() -> st.SearchStrategy[str]:
    named = st.sampled_from(("different", "random", "graph-cut", "log-det", "list", "near-target", "k-means"))
    settings = st.sampled_from(("lambda", "per_category_cap", "by", "include", "label", "strategy", "file", "start"))
    setting = st.tuples(settings, texts | values.map(repr)).map("=".join)
    return st.tuples(named, st.lists(setting, max_size=3)).map(lambda parts: f"{parts[0]}({', '.join(parts[1])})")


@target(lambda: _arms() | texts)
def strategy(text: str, folder: Path) -> None:
    from simtune.selection.from_file import selection_of
    from simtune.selection.subsets import resolve_arms

    resolve_arms(selection_of([text], [1], [0]))


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=True, **options)
    return sink.getvalue()


@cache
def _embeddings() -> tuple[bytes, ...]:
    names = [f"task{row}" for row in range(6)]
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32).tolist()
    table = pa.table({"task": names, "embedding": vectors, "category": list("aabbcc"), "source": [["s"]] * 6})
    fixed = table.set_column(1, "embedding", pa.array(vectors, pa.list_(pa.float32(), 3)))
    return parquet(table, compression="none"), parquet(fixed, compression="zstd", row_group_size=2)


def _table(columns: dict[str, list[Any]]) -> bytes | None:
    """A table of whatever the values make, or nothing where no column can hold them."""
    try:
        return parquet(pa.table(columns))
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, ValueError, TypeError):
        return None


def _embedding_files() -> st.SearchStrategy[bytes]:
    number = st.floats(width=32) | st.none()
    vectors = st.lists(number, min_size=2, max_size=2) | st.none() | st.lists(number, max_size=3) | values
    columns = st.integers(0, 4).flatmap(
        lambda size: st.fixed_dictionaries(
            {"task": column(texts | st.none(), size), "embedding": column(vectors, size)},
            optional={"category": column(texts | values, size), "source": column(texts | st.lists(texts), size)},
        )
    )
    return st.one_of(
        changed_bytes(_embeddings()), columns.map(_table).filter(lambda data: data is not None), st.binary(max_size=99)
    )


def column(cells: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(cells, min_size=size, max_size=size)


@target(_embedding_files)
def embeddings_file(data: bytes, folder: Path) -> None:
    from simtune.embedding.embedding_file import read_embeddings

    file = read_embeddings(written(folder / "e.parquet", data))
    assert len(file.names) == len(set(file.names)) == len(file.vectors_ND) == len(file.categories) == len(file.sources)
    assert np.isfinite(file.vectors_ND).all()


@cache
def _cache_segment() -> tuple[bytes, list[str]]:
    from tempfile import TemporaryDirectory

    from simtune.embedding.cache import EmbeddingCache, Encoded, text_key

    keys = [text_key(text) for text in "abc"]
    with TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder), "f" * 64)
        vectors_ND = np.eye(3, 4, dtype=np.float32)
        cache.add({key: Encoded(vectors_ND[row], row, 128) for row, key in enumerate(keys)})
        (path,) = cache.folder.glob("*.parquet")
        return path.read_bytes(), keys


def _segments() -> st.SearchStrategy[bytes]:
    row = st.fixed_dictionaries(
        {
            name: values | st.lists(st.floats(width=32))
            for name in ("key", "vector", "num_tokens", "max_tokens", "checksum")
        }
    )
    tables = st.lists(row, max_size=3).map(
        lambda rows: _table(
            {name: [row[name] for row in rows] for name in ("key", "vector", "num_tokens", "max_tokens", "checksum")}
        )
    )
    return changed_bytes([_cache_segment()[0]]) | tables.filter(lambda data: data is not None)


@target(_segments)
def embedding_cache(data: bytes, folder: Path) -> None:
    """A damaged cache returns what was put into it, or nothing."""
    from simtune.embedding.cache import EmbeddingCache
    from simtune.storage.checksummed import checksummed_parquet

    keys = _cache_segment()[1]
    cache = EmbeddingCache(folder, "f" * 64)
    # As if the checksum had been changed too: each row has its own checksum.
    written(cache.folder / "s.parquet", checksummed_parquet(data))
    for key, encoded in cache.load(keys).items():
        row = keys.index(key)
        assert (encoded.vector_D.tolist(), encoded.num_tokens, encoded.max_tokens) == (
            np.eye(3, 4)[row].tolist(),
            row,
            128,
        )


@cache
def _archives() -> tuple[bytes, ...]:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as members:
        for name in ("top/tasks/task1_x.json", "top/" + "long" * 40, "top/README"):
            member = tarfile.TarInfo(name)
            member.size = 700
            members.addfile(member, io.BytesIO(b"x" * 700))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("top/tasks/task1_x.json", b"x" * 700)
        members.writestr("top/README", b"y" * 30)
    return plain.getvalue(), gzip.compress(plain.getvalue(), mtime=0), zipped.getvalue()


def _made_archive(form: str, members: list[tuple[str, bytes, bytes, str]]) -> bytes:
    sink = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(sink, "w") as archive:
            for name, _, content, _ in members:
                archive.writestr(zipfile.ZipInfo(name.replace("\ud800", "?") or "x"), content)
        return sink.getvalue()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, kind, content, link in members:
            member = tarfile.TarInfo(name.replace("\ud800", "?"))
            member.type, member.linkname = kind, link.replace("\ud800", "?")
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def _archive_files() -> st.SearchStrategy[bytes]:
    kinds = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
    member = st.tuples(texts, st.sampled_from(kinds), st.binary(max_size=20), texts)
    made = st.tuples(st.sampled_from(("zip", "tar")), st.lists(member, max_size=4))
    return st.one_of(changed_bytes(_archives()), made.map(lambda given: _made_archive(*given)), st.binary(max_size=99))


@target(_archive_files)
def archive(data: bytes, folder: Path) -> None:
    """Nothing but plain files and folders, and nothing beside the folder."""
    from simtune.corpus.archive.unpack import Limits, unpack

    path = written(folder / "a", data)
    (folder / "into").mkdir()
    try:
        unpack(path, folder / "into", Limits(num_entries=100, unpacked_bytes=1 << 20))
    finally:
        assert sorted(entry.name for entry in folder.iterdir()) == ["a", "into"]
        for root, folders, files in os.walk(folder / "into"):
            assert not any(Path(root, name).is_symlink() for name in folders + files)
            assert all(Path(root, name).is_file() for name in files)


def inside(folder: Path, name: str) -> None:
    """Asserts that a name used as a file's or folder's stays in its folder."""
    assert "\0" not in name
    assert Path(os.path.normpath(folder / name)).parent == folder
