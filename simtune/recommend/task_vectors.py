"""Tasks with their vectors, from the locations that a user names: texts that are embedded, or files of embeddings.

Legend: N tasks, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from simtune.config.settings import EmbeddingSettings
from simtune.corpus.definitions import DefinedTasks, check_definitions, read_definitions
from simtune.embedding.embed import EncodeTexts, TaskEmbeddings, embed_tasks
from simtune.embedding.embedding_file import read_embeddings
from simtune.embedding.encoder import check_encoder
from simtune.errors import ConfigError, CorpusError
from simtune.graph.unit_vectors import unit_rows
from simtune.progress import Display
from simtune.wording import counted, some

CheckNames = Callable[[Mapping[str, Sequence[str]]], None]
DEFAULT_FIELDS = ("definition",)
"""What is embedded of every task by default, so that tasks with and without demonstrations are comparable."""


@dataclass(frozen=True)
class TaskVectors:
    """Tasks with their vectors, sorted by name, so that the order of the input has no effect.

    Attributes:
        location: where they come from, as it was given.
        definitions: one a task; empty texts where only vectors are known.
        vectors_ND: of any length, as given.
        notes: what a reader of results should know about these tasks.
    """

    location: str
    names: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]
    definitions: tuple[str, ...]
    vectors_ND: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def unit_ND(self) -> np.ndarray:
        """The vectors in float64 with length 1; zero rows stay zero."""
        return unit_rows(self.vectors_ND)

    def without(self, names: Iterable[str]) -> TaskVectors:
        """All but these tasks."""
        left_out = set(names)
        return self._rows([row for row, name in enumerate(self.names) if name not in left_out])

    def sorted(self) -> TaskVectors:
        """The same, by name."""
        return self._rows(sorted(range(len(self)), key=self.names.__getitem__))

    def _rows(self, rows: Sequence[int]) -> TaskVectors:
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            categories=tuple(self.categories[row] for row in rows),
            sources=tuple(self.sources[row] for row in rows),
            definitions=tuple(self.definitions[row] for row in rows),
            vectors_ND=self.vectors_ND[list(rows)],
        )


def embedding_settings(encoder: str | None, fields: str | None) -> EmbeddingSettings:
    """What is embedded, and by which encoder.

    Args:
        encoder: a hub name or a folder; None is the sweep file's default.
        fields: comma-separated names; None is the definition alone.

    Raises:
        ConfigError: a field is unknown or given twice.
    """
    known = get_args(get_args(EmbeddingSettings.model_fields["fields"].annotation)[0])
    given = DEFAULT_FIELDS if fields is None else tuple(field.strip() for field in fields.split(","))
    for field in given:
        if field not in known:
            raise ConfigError(f"--fields: {field!r} is not a field of a task; choose from {', '.join(known)}")
    if len(set(given)) < len(given):
        raise ConfigError(f"--fields: {fields!r} names a field twice; give each once")
    chosen = {"encoder": encoder} if encoder else {}
    return EmbeddingSettings.model_validate({"fields": given, **chosen})


def load_task_vectors(
    locations: Mapping[str, str],
    embedding: EmbeddingSettings,
    cache_root: Path,
    encode: EncodeTexts,
    display: Display,
    check_names: CheckNames = lambda names: None,
) -> dict[str, TaskVectors]:
    """Reads tasks and embeds those that have no vectors yet, all of them with one encoder.

    Args:
        locations: by the name of the argument that gave it: a `.parquet` file of embeddings, or what
            `read_definitions` takes.
        embedding: which text of a task is embedded, and how.
        cache_root: the embedding cache's folder.
        encode: encodes texts.
        display: shows progress.
        check_names: called with the names of each location's tasks before any is embedded; raises if they are wrong.

    Raises:
        CorpusError: a location is wrong, a text cannot be embedded, or vectors have different numbers of dimensions.
        ModelError: the encoder cannot be loaded.
    """
    for location in locations.values():
        if not location.endswith(".parquet"):
            check_definitions(location)
        elif not Path(location).exists():
            raise CorpusError(f"{location}: no such file of embeddings")
    if any(not location.endswith(".parquet") for location in locations.values()):
        check_encoder(embedding.encoder)
    loaded: dict[str, TaskVectors] = {}
    defined: dict[str, DefinedTasks] = {}
    for argument, location in locations.items():
        with display.stage(f"read {argument.lstrip('-').lower()}") as on_progress:
            if location.endswith(".parquet"):
                loaded[argument] = _from_file(location)
            else:
                defined[argument] = read_definitions(location, on_progress)
    # Files of different widths are refused before anything is encoded.
    _check_dimensions(locations, loaded)
    names = {argument: part.names for argument, part in loaded.items()}
    check_names(names | {argument: tuple(task.name for task in part.tasks) for argument, part in defined.items()})
    loaded |= _embedded(defined, embedding, cache_root, encode, display)
    _check_dimensions(locations, loaded)
    return {argument: loaded[argument] for argument in locations}


def _from_file(location: str) -> TaskVectors:
    file = read_embeddings(Path(location))
    return TaskVectors(
        location=location,
        names=file.names,
        categories=file.categories,
        sources=file.sources,
        definitions=("",) * len(file.names),
        vectors_ND=file.vectors_ND,
    ).sorted()


def _embedded(
    defined: Mapping[str, DefinedTasks],
    embedding: EmbeddingSettings,
    cache_root: Path,
    encode: EncodeTexts,
    display: Display,
) -> dict[str, TaskVectors]:
    # By position in the list and not by name: pool and target may both have a task of that name.
    tasks = [task for part in defined.values() for task in part.tasks]
    if not tasks:
        return {}
    with display.stage("embed tasks") as on_progress:
        embedded = embed_tasks(tasks, embedding, cache_root, encode, on_progress)
    made, begin = {}, 0
    for argument, part in defined.items():
        rows = slice(begin, begin + len(part.tasks))
        begin = rows.stop
        made[argument] = TaskVectors(
            location=part.location,
            names=tuple(task.name for task in part.tasks),
            categories=tuple(task.category for task in part.tasks),
            sources=tuple(task.sources for task in part.tasks),
            definitions=tuple(task.definition for task in part.tasks),
            vectors_ND=embedded.embeddings_ND[rows],
            notes=_notes(part, embedding, embedded, rows),
        ).sorted()
    return made


def _notes(part: DefinedTasks, embedding: EmbeddingSettings, embedded: TaskEmbeddings, rows: slice) -> tuple[str, ...]:
    """What is missing or cut in one location's tasks, which are these rows of the embeddings."""
    notes = []
    if part.absent:
        notes.append(
            f"{part.location} names {counted(len(part.absent), 'task that is', 'tasks that are')} not on disk "
            f"({some(part.absent)})"
        )
    num_cut = int((embedded.num_tokens_N[rows] > embedded.max_tokens).sum())
    if num_cut:
        notes.append(
            f"{part.location}: {counted(num_cut, 'text is', 'texts are')} longer than the encoder's "
            f"{counted(embedded.max_tokens, 'token')}"
        )
    for field in embedding.fields:
        num_without = sum(not getattr(task, field) for task in part.tasks)
        if num_without:
            notes.append(
                f"{part.location}: {counted(num_without, 'task has', 'tasks have')} no {field}: less comparable with "
                "others"
            )
    return tuple(notes)


def _check_dimensions(locations: Mapping[str, str], loaded: Mapping[str, TaskVectors]) -> None:
    first, *others = loaded or [""]
    for argument in others:
        expected, found = loaded[first].vectors_ND.shape[1], loaded[argument].vectors_ND.shape[1]
        if found != expected:
            raise CorpusError(
                f"{argument} {locations[argument]}: {counted(found, 'dimension')}, but {first} {locations[first]} has "
                f"{expected}; embed all of them with one encoder"
            )
