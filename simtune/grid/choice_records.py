"""What a run records of its choices, by which a later plan knows whether a run would choose the same again.

Which tasks an arm has is known only once they are embedded, and a model's fingerprint only once it is loaded. A plan
does neither: it compares what they follow from.
"""

from __future__ import annotations

from simtune.config import SelectionSettings
from simtune.grid.grid_points import PointTasks
from simtune.selection.subsets import resolve_arms
from simtune.storage.files import fingerprint


def choice_fingerprint(point: PointTasks) -> str:
    """Of what the tasks of a subset follow from at a grid point, beside its arm, size and seed.

    The leak guard's work changes nothing of it: a plan knows fewer leaks than a run.
    """
    embedding = point.sweep.embedding.model_dump(mode="json", exclude={"batch_size"})
    return fingerprint([_read_tasks(point), point.sweep.leakage.model_dump(mode="json"), embedding])[:16]


def model_fingerprint(point: PointTasks) -> str:
    """Of what the initial weights and the tokenizer of a grid point follow from, beside the seed."""
    model = point.sweep.model
    pool = [_read_tasks(point), point.sweep.leakage.model_dump(mode="json")] if model.tokenizer == "pool" else None
    return fingerprint([model.model_dump(mode="json"), pool])[:16]


def arm_fingerprints(selection: SelectionSettings) -> dict[str, str]:
    """Of the strategy of each arm, with everything that it takes, by the arm's name; not of `full`."""
    return {
        arm.label: fingerprint(
            [
                arm.name,
                {
                    name: value
                    for name, value in arm.parameters.items()
                    if not (arm.strategy.names_tasks and name == "file")
                },
                arm.options.model_dump(mode="json"),
            ]
        )[:16]
        for arm in resolve_arms(selection)
    }


def _read_tasks(point: PointTasks) -> tuple[dict[str, str], list[str]]:
    """The tasks of the pool as they were read, and the names of the test tasks."""
    test = {task.name for task in point.tasks.test}
    return {name: found for name, found in sorted(point.task_fingerprints.items()) if name not in test}, sorted(test)
