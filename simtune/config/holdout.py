"""The `corpus.holdout` section: which tasks are test tasks, as a rule.

One of its fields says how: by a split that the corpus lists, by category, cluster, data set or task, at random, or by
lists of names. `simtune.corpus.holdout` turns a rule and a corpus into splits.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from simtune.config.fields import Count, Flag, RuleError, Section, Seed, Text

Each = Literal["each"]
Names = Annotated[tuple[Text, ...], Field(min_length=1)]


class ClusterSettings(Section):
    """A cluster of tasks that are held out together."""

    tasks: tuple[Text, ...] = ()
    categories: tuple[Text, ...] = ()
    """All tasks of these categories."""
    related: tuple[Text, ...] = ()
    """Clusters whose tasks are not trained on while this one is held out; the relation holds both ways."""
    held_out: Flag = True
    """False for a cluster that is only there because others are related to it."""

    @model_validator(mode="after")
    def _has_tasks(self) -> ClusterSettings:
        if not self.tasks and not self.categories:
            raise ValueError("has neither tasks nor categories: give at least one of them")
        return self


class RandomHoldoutSettings(Section):
    """Test tasks drawn at random within each category."""

    num: Count = 2
    """Test tasks per category; at least one task of each category stays in the pool."""
    seed: Seed = 0


class TaskListsSettings(Section):
    """The tasks of both sides by name; tasks of neither list are left out."""

    train: Names
    test: Names


class HoldoutSettings(Section):
    """Which tasks are held out: exactly one of these fields.

    `each` and `clusters` give several splits, each with a pool and models of its own: they are an axis of the grid.
    """

    split: Text | None = None
    """A folder under the corpus's `splits/` with `train_tasks.txt` and `test_tasks.txt`."""
    categories: Names | Each | None = None
    """Categories held out together, or `each`: leave one category out, one split a category."""
    clusters: Annotated[dict[Text, ClusterSettings], Field(min_length=1)] | None = None
    """Clusters by name, one split a cluster, as FLAN holds out task clusters."""
    source: Names | Each | None = None
    """Source data sets held out together, or `each`: leave one data set out."""
    task: Names | Each | None = None
    """Tasks held out together, or `each`: leave one task out."""
    random_per_category: RandomHoldoutSettings | None = None
    """A number of tasks of each category, drawn with a seed."""
    tasks: TaskListsSettings | None = None
    """Lists of task names."""

    @field_validator("categories", "source", "task", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) and value != "each" else value

    @model_validator(mode="after")
    def _one_rule(self) -> HoldoutSettings:
        given = [name for name in HoldoutSettings.model_fields if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"names no hold-out: give one of {', '.join(HoldoutSettings.model_fields)}")
        if len(given) > 1:
            raise RuleError(f"names {len(given)} hold-outs ({', '.join(given)}): keep one of them", *given)
        return self

    @model_validator(mode="after")
    def _clusters_are_known(self) -> HoldoutSettings:
        clusters = self.clusters or {}
        for name, cluster in clusters.items():
            unknown = [other for other in cluster.related if other not in clusters or other == name]
            if unknown:
                raise ValueError(
                    f"has cluster {name!r} related to {unknown[0]!r}, which is not another cluster here; clusters "
                    f"here: {', '.join(clusters)}"
                )
        if clusters and not any(cluster.held_out for cluster in clusters.values()):
            raise ValueError("holds out none of its clusters: set held_out: true for at least one")
        return self

    @property
    def rule(self) -> str:
        """The name of the one field that is given."""
        return next(name for name in HoldoutSettings.model_fields if getattr(self, name) is not None)

    @property
    def gives_several(self) -> bool:
        """Whether the rule asks for one split after another, and so is an axis of a grid."""
        if self.clusters is not None:
            return sum(cluster.held_out for cluster in self.clusters.values()) > 1
        return bool(getattr(self, self.rule) == "each")

    @model_serializer(mode="wrap")
    def _the_rule_alone(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}
