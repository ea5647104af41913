"""Readers of files of runs, models and tokenizers: a storage may be shared, and a model may come from anyone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from fuzz_inputs import changed_bytes, changed_values, json_files, texts, values
from fuzz_targets import inside, parquet, target, written
from hypothesis import strategies as st

from simtune.storage.checksummed import checksummed_json, checksummed_parquet

TRIAL = "0123456789abcdef"
SCORE = "fedcba9876543210"
_MEANS = {"values": {"rouge-l": 1.5, "exact-match": 0.5}, "num_instances": 2}
_GROUP = {**_MEANS, "name": "t", "category": "c", "metric": "rouge-l"}


def _metrics() -> dict[str, Any]:
    groups = [{**_GROUP, "headline": 1.5, "num_tasks": 1}]
    counts = dict.fromkeys(("num_examples", "num_source_tokens", "num_target_tokens", "num_steps"), 1)
    training = {**counts, "loss_by_epoch": [1.0], "losses": [1.0], "accumulation_steps": 1}
    shared = {"overall": _MEANS, "task_mean": _MEANS, "categories": groups, "tasks": groups, "training": training}
    return {
        "version": 1,
        "model": TRIAL,
        "score": SCORE,
        **shared,
        "files": dict.fromkeys(("identity", "predictions"), "0" * 64),
    }


_MANIFEST = {
    "version": 1,
    "versions": {"torch": "2"},
    "machine": "Linux",
    "command": ["run"],
    "commits": {},
    "embeddings": [{"num_cut": 1}],
    "grid_points": {"all": {"pool_tasks": 1}},
    "trials": {
        TRIAL: {"label": "random, 10 tasks, seed 0", "scores": {SCORE: "test"}},
        "f" * 16: {"label": "full", "scores": {"0" * 16: "test"}},
    },
    "trained_on": None,
}
_FAILURE = {"version": 1, "trial": TRIAL, "cause": "unexpected", "error": "ValueError", "message": "no\nreason"}
_FAILURE |= {"step": None, "retry": True, "attempts": 1, "host": "h1", "log": "attempts/1.log"}


def _checksummed(data: bytes) -> bytes:
    """The file with a valid checksum, as if the checksum had been changed too."""
    return checksummed_json(data.rstrip().removesuffix(b"}") + b"\n}\n")


def _run_files() -> st.SearchStrategy[tuple[bytes, bytes, str]]:
    result = st.one_of(
        st.tuples(json_files([_metrics()]), st.just(f"scores/{SCORE}/metrics.json")),
        st.tuples(json_files([_FAILURE]), st.just("failure.json")),
    )
    good = st.just(json.dumps(_MANIFEST).encode())
    return st.tuples(good | json_files([_MANIFEST]), result).map(lambda given: (given[0], *given[1]))


@target(_run_files)
def status(given: tuple[bytes, bytes, str], folder: Path) -> None:
    from rich.console import Console

    from simtune.inspection.status import run_status
    from simtune.inspection.tables import status_table

    manifest, result, name = given
    written(folder / "run" / "manifest.json", _checksummed(manifest))
    written(folder / "trials" / TRIAL / name, _checksummed(result))
    found = run_status(folder / "run")
    json.dumps(found.to_dict(), allow_nan=False)
    with (folder / "shown").open("w", encoding="utf-8") as file:
        Console(file=file).print(status_table(found))


_ARMS: tuple[tuple[str, Any], ...] = (("random", "strategy"), ("full", "full"), ("untuned", "baseline"))


@cache
def _results() -> list[dict[str, Any]]:
    from simtune.report.results_view import COLUMNS

    numbers = {name: 1 for name in COLUMNS if name.startswith(("num_", "size", "seed"))}
    reals = {name: 0.5 for name in COLUMNS if name.startswith(("final", "mean", "max", "cov"))}
    rest = {
        "trial": TRIAL,
        "score": SCORE,
        "suite": "test",
        "arm": "random",
        "status": "done",
        "error": "",
        "note": "",
        "training.epochs": "2",
    }
    row = {name: {**numbers, **reals, **rest}[name] for name in (*COLUMNS, "training.epochs")} | {"rouge_l": 0.5}
    return [row, {**row, "seed": 2}, {**row, "arm": "full", "size": None}, {**row, "arm": "untuned", "size": None}]


@cache
def _metadata() -> dict[str, Any]:
    return json.loads(_table(_results()).schema.metadata[b"simtune.results"])


def _table_with_metadata(described: bytes) -> bytes:
    table = _table(_results())
    return parquet(table.replace_schema_metadata({**table.schema.metadata, b"simtune.results": described}))


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    from simtune.report.table_metadata import ArmInfo, MetricInfo, ResultsMetadata

    arms = tuple(ArmInfo(name=name, type=arm_type) for name, arm_type in _ARMS)
    metric = MetricInfo(name="rouge-l", column="rouge_l", title="ROUGE-L", unit="points", digits=2)
    metadata = ResultsMetadata(arms=arms, metrics=(metric,)).schema_metadata()
    return pa.Table.from_pylist(rows).replace_schema_metadata(metadata)


def _tables(rows: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """The table with bytes changed, with a column of other values or types, or without it."""
    good = _table(rows)

    def with_column(change: tuple[str, Any, bool]) -> bytes:
        name, cells, keep = change
        place = good.column_names.index(name)
        try:
            changed = good.set_column(place, name, pa.array(cells)) if keep else good.remove_column(place)
            return parquet(changed)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, ValueError, TypeError):
            return parquet(good)

    number = st.floats() | st.integers(-(2**63), 2**63 - 1) | st.none()
    cells = st.one_of(*(st.lists(kind, min_size=len(rows), max_size=len(rows)) for kind in (number, texts, values)))
    changes = st.tuples(st.sampled_from(good.column_names), cells, st.sampled_from((True, True, True, False)))
    return changed_bytes([parquet(good, compression="none"), parquet(good)]) | changes.map(with_column)


def _reports() -> st.SearchStrategy[tuple[str, bytes]]:
    scores = [
        {"trial": TRIAL, "score": SCORE, "arm": arm, "size": 1, "seed": 0, "level": "category", "name": "c"}
        | {"category": "c", "num_instances": 2, "metric": "rouge-l", "value": 1.0, "is_headline": True}
        for arm in ("random", "full")
    ]
    tasks = [
        {"task": f"t{role}", "role": role, "category": "c", "num_instances": 2, "num_drawn": 1}
        | {"reason": "x", "reason_group": "x"}
        for role in ("pool", "test", "dropped")
    ]
    return st.one_of(
        st.tuples(st.just("results.parquet"), _tables(_results())),
        st.tuples(st.just("results.parquet"), json_files([_metadata()]).map(_table_with_metadata)),
        st.tuples(st.just("scores.parquet"), _tables(scores)),
        st.tuples(st.just("tasks.parquet"), _tables(tasks)),
        st.tuples(st.just("manifest.json"), json_files([_MANIFEST])),
        st.tuples(st.just("sweep.yaml"), st.binary(max_size=99)),
    )


@target(_reports, examples=30)
def report(given: tuple[str, bytes], folder: Path) -> None:
    from simtune.report.build import build_report

    name, data = given
    written(folder / "results.parquet", checksummed_parquet(parquet(_table(_results()))))
    encode = {".parquet": checksummed_parquet, ".json": _checksummed}.get(Path(name).suffix, bytes)
    written(folder / name, encode(data))
    build_report(folder)


@cache
def _subsets() -> list[dict[str, Any]]:
    row = {"grid": "", "arm": "random", "seed": 0, "size": 2, "rank": 0, "task": "a"}
    return [row, {**row, "rank": 1, "task": "b"}]


@target(lambda: _tables(_subsets()), examples=60)
def subsets(data: bytes, folder: Path) -> None:
    from simtune.inspection.find_subset import find_subset

    written(folder / "sweep.yaml", b"name: s\n")
    written(folder / "subsets.parquet", checksummed_parquet(data))
    assert all(isinstance(task, str) for task in find_subset(folder, "random", None, None).tasks)


_MADE = {"arm": "random", "size": 10, "seed": 0}


@target(lambda: json_files([{"version": 1, "folders": {"random-10": _MADE, "grid/full-3": _MADE}}]))
def index_of_split_lists(data: bytes, folder: Path) -> None:
    """Whatever the index names, nothing but folders below `splits/` is removed."""
    from simtune.selection.split_lists import write_split_lists

    kept = [written(folder / place / "kept", b"") for place in ("", "run", "run/report", "x")]
    written(folder / "run" / "splits" / "own" / "train_tasks.txt", b"mine\n")
    written(folder / "run" / "splits" / "subsets.json", _checksummed(data))
    try:
        write_split_lists(folder / "run", {})
    finally:
        assert all(path.is_file() for path in kept)


@cache
def _token_store() -> dict[str, bytes]:
    from simtune.training.token_store import stored

    with TemporaryDirectory() as folder:
        stored(Path(folder) / "kept", _tokenised)
        return {path.name: path.read_bytes() for path in sorted((Path(folder) / "kept").iterdir())}


def _tokenised() -> Any:
    from simtune.training.examples import Ragged, TokenisedTasks

    sources, references = Ragged.from_rows([[5, 1], [6, 7, 1], [1]]), Ragged.from_rows([[8, 1], [9, 1], [1], [3, 4, 1]])
    return TokenisedTasks(("a", "b"), np.array([0, 1, 3]), sources, references, np.array([0, 2, 3, 4]), 1, 2)


def _store_changes() -> st.SearchStrategy[tuple[str, bytes]]:
    files = _token_store()
    texts_of = {name: json.loads(data) for name, data in files.items() if name.endswith(".json")}
    changed = [st.tuples(st.just(name), changed_bytes([data])) for name, data in files.items()]
    return st.one_of(*changed, *(st.tuples(st.just(name), json_files([value])) for name, value in texts_of.items()))


@target(_store_changes, examples=60)
def token_store(given: tuple[str, bytes], folder: Path) -> None:
    """A damaged store is written again, and then has the right tokens."""
    from simtune.training.token_store import stored

    for name, data in (*_token_store().items(), given):
        written(folder / "kept" / name, data)
    found, wanted = stored(folder / "kept", _tokenised), _tokenised()
    assert found.names == wanted.names
    assert [found.sources[row].tolist() for row in range(3)] == [wanted.sources[row].tolist() for row in range(3)]
    assert found.reference_offsets.tolist() == wanted.reference_offsets.tolist()


@cache
def tokenizer_files() -> dict[str, bytes]:
    from simtune.corpus.demo import demo_tasks
    from simtune.corpus.natural_instructions import parse_task_bytes
    from simtune.prompting.tokenizer import train_tokenizer

    name, fields = next(iter(demo_tasks().items()))
    task = parse_task_bytes(name, json.dumps(fields).encode(), name).task
    assert task is not None
    trained = train_tokenizer([task], 300)
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    return {
        "tokenizer.json": trained.tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(described).encode(),
    }


def _tokenizers() -> st.SearchStrategy[tuple[str, bytes]]:
    return st.one_of(
        *(st.tuples(st.just(name), json_files([json.loads(data)])) for name, data in tokenizer_files().items())
    )


@target(_tokenizers, examples=40)
def light_tokenizer(given: tuple[str, bytes], folder: Path) -> None:
    from simtune.config import ModelSettings
    from simtune.prompting import tokenizer

    for name, data in (*tokenizer_files().items(), given):
        written(folder / name, data)
    found = tokenizer.light_tokenizer(ModelSettings(name=str(folder)), ("T5",))
    if found is not None:
        found.count_tokens(["Say it."])


@target(_tokenizers, examples=25)
def model_tokenizer(given: tuple[str, bytes], folder: Path) -> None:
    from simtune.config import ModelSettings
    from simtune.prompting.tokenizer import load_tokenizer

    for name, data in (*tokenizer_files().items(), given):
        written(folder / name, data)
    found = load_tokenizer(ModelSettings(name=str(folder)), ())
    found.decode(found.encode_batch(["Say it."])[0])


@target(_tokenizers, examples=40)
def scoring_tokenizer(given: tuple[str, bytes], folder: Path) -> None:
    from simtune.evaluation.xlingual import gpt2_tokenize

    for name, data in (*tokenizer_files().items(), given):
        written(folder / name, data)
    gpt2_tokenize(str(folder))


@cache
def model_files() -> dict[str, bytes]:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 384, "d_model": 4, "d_kv": 2, "d_ff": 4, "num_layers": 1, "num_heads": 2}
    with TemporaryDirectory() as folder:
        T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _models() -> st.SearchStrategy[tuple[str, bytes]]:
    files = model_files()
    weights = files["model.safetensors"]
    length = int.from_bytes(weights[:8], "little")
    headers = changed_values([json.loads(weights[8 : 8 + length])]).map(lambda value: json.dumps(value).encode())
    remade = headers.map(lambda header: len(header).to_bytes(8, "little") + header + weights[8 + length :])
    # Its header and the first numbers; most of the rest are similar numbers.
    return st.one_of(
        st.tuples(st.just("model.safetensors"), changed_bytes([weights[: length + 64], weights]) | remade),
        st.tuples(st.just("config.json"), json_files([json.loads(files["config.json"])])),
    )


@target(_models, examples=25)
def model_folder(given: tuple[str, bytes], folder: Path) -> None:
    from simtune.config import ModelSettings
    from simtune.prompting.tokenizer import train_tokenizer
    from simtune.training.model import build_model, resolve_model

    for name, data in (*model_files().items(), given):
        written(folder / name, data)
    build_model(resolve_model(ModelSettings(name=str(folder)), train_tokenizer((), 300)), 0, None)


_DOWNLOAD = {"version": 1, "url": "https://x/y", "sha256": "0" * 64, "size": 5, "num_files": 1, "num_bytes": 2}


@target(lambda: json_files([_DOWNLOAD]))
def record_of_download(data: bytes, folder: Path) -> None:
    from simtune.corpus.archive.fetch import read_fetch_record

    written(folder / "x.fetch.json", _checksummed(data))
    record = read_fetch_record(folder / "x")
    assert record is not None
    assert isinstance(record.url, str)
    assert isinstance(record.num_bytes, int)


@target(lambda: st.lists(texts, max_size=4))
def labels(names: list[str], folder: Path) -> None:
    """Labels of arms and grid points name folders, which are below their parent folder."""
    from simtune.selection.split_lists import _folder_name

    for name in names:
        inside(folder, _folder_name(name))
