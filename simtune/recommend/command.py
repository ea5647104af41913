"""`simtune recommend` from what a command line says to the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simtune.errors import UserError
from simtune.executors.base import Executor
from simtune.progress import Display
from simtune.recommend.explain import Explanation, check_known, explain
from simtune.recommend.recommend import Recommendations, check_new, objective_arm, recommend
from simtune.recommend.task_vectors import embedding_settings, load_task_vectors
from simtune.selection.arms import check_options
from simtune.storage.files import cache_folder
from simtune.storage.object_store import is_object_url
from simtune.storage.output_path import check_folder


def recommend_places(
    pool: str,
    candidates: str,
    target: str | None,
    size: int,
    executor: Executor,
    display: Display,
    *,
    objective: str | None = None,
    explained: str | None = None,
    encoder: str | None = None,
    fields: str | None = None,
    storage: str = "runs",
) -> tuple[Recommendations, Explanation | None]:
    """Reads, embeds and ranks; pool, candidates and target each are what `load_task_vectors` takes.

    Args:
        pool: tasks there are.
        candidates: tasks to choose from.
        target: tasks to cover; None where there are none.
        size: tasks wanted.
        executor: encodes texts that the cache does not have.
        display: told of progress, and of settings that decide nothing.
        objective: an arm; see `objective_arm`.
        explained: a task to explain.
        encoder: a hub name or a folder; see `embedding_settings`.
        fields: names with commas between; likewise.
        storage: the embedding cache is below it.

    Raises:
        UserError: anything of this is wrong; what can be told before embedding is.
    """
    if size < 1:
        raise UserError(f"--size: {size} is no number of tasks; give 1 or more")
    if not is_object_url(storage):
        check_folder(Path(storage), "--storage")
    arm = objective_arm(objective, target is not None)
    settings = embedding_settings(encoder, fields)
    places = {"POOL": pool, "--candidates": candidates} | ({"--target": target} if target is not None else {})
    if all(place.endswith(".parquet") for place in places.values()):
        for option, value in (("--encoder", encoder), ("--fields", fields)):
            if value is not None:
                display.warn(f"{option} {value} decides nothing: all tasks come with their embeddings")
    cache_root = cache_folder(storage) / "embeddings"

    def check_names(names: Mapping[str, Sequence[str]]) -> None:
        candidates_alone = check_new(names["POOL"], names["--candidates"], pool, candidates)
        check_options(arm, {*names["POOL"], *candidates_alone}, [])
        if explained is not None:
            check_known(explained, {place: names[role] for role, place in places.items()})

    loaded = load_task_vectors(places, settings, cache_root, executor.encode_texts, display, check_names)
    with display.stage("choose tasks") as on_progress:
        found = recommend(loaded["POOL"], loaded["--candidates"], loaded.get("--target"), size, arm, on_progress)
    if explained is None:
        return found, None
    labels = {"POOL": "pool", "--candidates": "candidates", "--target": "target"}
    parts = {labels[role]: part for role, part in loaded.items()}
    parts["candidates"] = parts["candidates"].without(parts["pool"].names)
    return found, explain(explained, parts, found)
