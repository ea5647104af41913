"""From what a command line names to tasks with their vectors: texts that are embedded now, or files of embeddings.

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
from simtune.embedding.embed import EncodeTexts, embed_tasks
from simtune.embedding.embedding_file import read_embeddings
from simtune.embedding.encoder import check_encoder
from simtune.errors import ConfigError, CorpusError
from simtune.progress import Display
from simtune.wording import counted, some

CheckNames = Callable[[Mapping[str, Sequence[str]]], None]
DEFAULT_FIELDS = ("definition",)
"""Of every task, so that tasks with demonstrations and tasks without any are comparable."""


@dataclass(frozen=True)
class TaskVectors:
    """Tasks with their vectors, sorted by name, so that the order of the input changes nothing.

    Attributes:
        place: where they come from, as it was given.
        definitions: one a task; empty texts where only vectors are known.
        vectors_ND: as they came, of any length.
        notes: what a reader of results should know about these tasks.
    """

    place: str
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
        """The vectors in float64 with length 1; zero rows stay."""
        vectors_ND = self.vectors_ND.astype(np.float64)
        lengths_N = np.linalg.norm(vectors_ND, axis=1)
        return vectors_ND / np.where(lengths_N > 0, lengths_N, 1.0)[:, None]

    def without(self, names: Iterable[str]) -> TaskVectors:
        """All but these tasks."""
        left_out = set(names)
        return self._take([row for row, name in enumerate(self.names) if name not in left_out])

    def sorted(self) -> TaskVectors:
        """The same, by name."""
        return self._take(sorted(range(len(self)), key=self.names.__getitem__))

    def _take(self, rows: Sequence[int]) -> TaskVectors:
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
        fields: names with commas between; None is the definition alone.

    Raises:
        ConfigError: a field is unknown or stands twice.
    """
    known = get_args(get_args(EmbeddingSettings.model_fields["fields"].annotation)[0])
    given = DEFAULT_FIELDS if fields is None else tuple(field.strip() for field in fields.split(","))
    for field in given:
        if field not in known:
            raise ConfigError(f"--fields: {field!r} is no field of a task; choose of {', '.join(known)}")
    if len(set(given)) < len(given):
        raise ConfigError(f"--fields: {fields!r} names a field twice")
    chosen = {"encoder": encoder} if encoder else {}
    return EmbeddingSettings.model_validate({"fields": given, **chosen})


def load_task_vectors(
    places: Mapping[str, str],
    embedding: EmbeddingSettings,
    cache_root: Path,
    encode: EncodeTexts,
    display: Display,
    check_names: CheckNames = lambda names: None,
) -> dict[str, TaskVectors]:
    """Reads tasks and embeds those that have no vectors yet, all of them with one encoder.

    Args:
        places: by the name of the argument that gave it: a `.parquet` file of embeddings, or what `read_definitions`
            takes.
        embedding: which text of a task is embedded, and how.
        cache_root: the embedding cache's folder.
        encode: where texts are encoded.
        display: told of progress.
        check_names: given the names of each place's tasks before any is embedded; raises where they will not do.

    Raises:
        CorpusError: a place is wrong, a text cannot be embedded, or vectors have different numbers of dimensions.
        ModelError: the encoder cannot be loaded.
    """
    for place in places.values():
        if not place.endswith(".parquet"):
            check_definitions(place)
        elif not Path(place).exists():
            raise CorpusError(f"{place}: no such file of embeddings")
    if any(not place.endswith(".parquet") for place in places.values()):
        check_encoder(embedding.encoder)
    loaded: dict[str, TaskVectors] = {}
    defined: dict[str, DefinedTasks] = {}
    for role, place in places.items():
        with display.stage(f"read {role.lstrip('-').lower()}") as on_progress:
            if place.endswith(".parquet"):
                loaded[role] = _from_file(place)
            else:
                defined[role] = read_definitions(place, on_progress)
    # What does not fit is found before anything is encoded.
    _check_dimensions(places, loaded)
    names = {role: part.names for role, part in loaded.items()}
    check_names(names | {role: tuple(task.name for task in part.tasks) for role, part in defined.items()})
    loaded |= _embedded(defined, embedding, cache_root, encode, display)
    _check_dimensions(places, loaded)
    return {role: loaded[role] for role in places}


def _from_file(place: str) -> TaskVectors:
    file = read_embeddings(Path(place))
    unknown = ("",) * len(file.names)
    return TaskVectors(place, file.names, file.categories, file.sources, unknown, file.vectors_ND).sorted()


def _embedded(
    defined: Mapping[str, DefinedTasks],
    embedding: EmbeddingSettings,
    cache_root: Path,
    encode: EncodeTexts,
    display: Display,
) -> dict[str, TaskVectors]:
    # By place in the list and not by name: pool and target may both have a task of that name.
    tasks = [task for part in defined.values() for task in part.tasks]
    if not tasks:
        return {}
    with display.stage("embed tasks") as on_progress:
        embedded = embed_tasks(tasks, embedding, cache_root, encode, on_progress)
    made, begin = {}, 0
    for role, part in defined.items():
        rows = slice(begin, begin + len(part.tasks))
        begin = rows.stop
        notes = []
        if part.absent:
            notes.append(
                f"{part.place} names {counted(len(part.absent), 'task that is', 'tasks that are')} not on disk "
                f"({some(part.absent)})"
            )
        num_cut = int((embedded.num_tokens_N[rows] > embedded.max_tokens).sum())
        if num_cut:
            notes.append(
                f"{part.place}: {counted(num_cut, 'text is', 'texts are')} longer than the encoder's "
                f"{counted(embedded.max_tokens, 'token')}"
            )
        for field in embedding.fields:
            num_without = sum(not getattr(task, field) for task in part.tasks)
            if num_without:
                notes.append(
                    f"{part.place}: {counted(num_without, 'task has', 'tasks have')} no {field}: less comparable "
                    "with others"
                )
        made[role] = TaskVectors(
            part.place,
            tuple(task.name for task in part.tasks),
            tuple(task.category for task in part.tasks),
            tuple(task.sources for task in part.tasks),
            tuple(task.definition for task in part.tasks),
            embedded.embeddings_ND[rows],
            tuple(notes),
        ).sorted()
    return made


def _check_dimensions(places: Mapping[str, str], loaded: Mapping[str, TaskVectors]) -> None:
    first, *others = loaded or [""]
    for role in others:
        expected, found = loaded[first].vectors_ND.shape[1], loaded[role].vectors_ND.shape[1]
        if found != expected:
            raise CorpusError(
                f"{role} {places[role]}: {counted(found, 'dimension')}, {first} {places[first]} has {expected}; "
                "embed all of them with one encoder"
            )
