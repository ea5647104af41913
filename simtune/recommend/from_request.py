"""`simtune recommend`: from what a user names to recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simtune.errors import UserError
from simtune.executors.base import Executor
from simtune.progress import Display
from simtune.recommend.nearest_tasks import Explanation, check_known, explain
from simtune.recommend.order_additions import Recommendations, check_new, objective_arm, order_additions
from simtune.recommend.task_vectors import embedding_settings, load_task_vectors
from simtune.selection.arms import Arm, check_options
from simtune.storage.files import as_path, cache_folder
from simtune.storage.object_store import is_object_url
from simtune.storage.output_path import check_folder
from simtune.storage.preflight import check_storage

_LABELS = {"POOL": "pool", "--candidates": "candidates", "--target": "target"}


@dataclass(frozen=True)
class RecommendationRequest:
    """What is asked for; `pool`, `candidates` and `target` take what `load_task_vectors` takes.

    Attributes:
        pool: the tasks at hand.
        candidates: tasks to choose from.
        target: tasks to cover; None where there are none.
        size: number of tasks to recommend.
        objective: an arm; see `objective_arm`.
        explained: a task to explain; None for none.
        encoder: a hub name or a folder; see `embedding_settings`.
        fields: comma-separated names; see `embedding_settings`.
        storage: the embedding cache is below it.
    """

    pool: str
    candidates: str
    target: str | None = None
    size: int = 10
    objective: str | None = None
    explained: str | None = None
    encoder: str | None = None
    fields: str | None = None
    storage: str = "runs"

    @property
    def locations(self) -> dict[str, str]:
        """Where tasks are read from, by the name of the argument."""
        target = {} if self.target is None else {"--target": self.target}
        return {"POOL": self.pool, "--candidates": self.candidates, **target}


def recommend_from_request(
    request: RecommendationRequest, executor: Executor, display: Display
) -> tuple[Recommendations, Explanation | None]:
    """Reads, embeds and ranks.

    Args:
        request: what is asked for.
        executor: encodes texts that the cache does not have.
        display: shows progress, and warns of settings that have no effect.

    Returns:
        The recommendations, and the explanation of the task to explain if there is one.

    Raises:
        UserError: the request is wrong; raised before anything is embedded where that is possible.
    """
    if request.size < 1:
        raise UserError(f"--size: {request.size} is not a number of tasks; give 1 or more")
    if not is_object_url(request.storage):
        check_folder(Path(request.storage), "--storage")
    arm = objective_arm(request.objective, request.target is not None)
    settings = embedding_settings(request.encoder, request.fields)
    _warn_of_unused(request, display)

    def check(names: Mapping[str, Sequence[str]]) -> None:
        _check_names(request, arm, names)
        check_storage(as_path(request.storage))

    loaded = load_task_vectors(
        request.locations,
        settings,
        cache_folder(request.storage) / "embeddings",
        executor.encode_texts,
        display,
        check,
    )
    with display.stage("choose tasks") as on_progress:
        target = loaded.get("--target")
        found = order_additions(loaded["POOL"], loaded["--candidates"], target, request.size, arm, on_progress)
    if request.explained is None:
        return found, None
    parts = {_LABELS[argument]: part for argument, part in loaded.items()}
    parts["candidates"] = parts["candidates"].without(parts["pool"].names)
    return found, explain(request.explained, parts, found)


def _warn_of_unused(request: RecommendationRequest, display: Display) -> None:
    if all(location.endswith(".parquet") for location in request.locations.values()):
        for option, value in (("--encoder", request.encoder), ("--fields", request.fields)):
            if value is not None:
                display.warn(f"{option} {value} has no effect: all tasks come with their embeddings")


def _check_names(request: RecommendationRequest, arm: Arm, names: Mapping[str, Sequence[str]]) -> None:
    """Refuses names that cannot work together, before anything is embedded.

    Args:
        request: what is asked for.
        arm: its options may name tasks.
        names: of the tasks, by argument.

    Raises:
        UserError: no candidate is new, or a task that is named does not exist.
    """
    new = check_new(names["POOL"], names["--candidates"], request.pool, request.candidates)
    check_options(arm, {*names["POOL"], *new}, [])
    if request.explained is not None:
        check_known(request.explained, {location: names[argument] for argument, location in request.locations.items()})
