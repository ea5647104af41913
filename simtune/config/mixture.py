"""The `mixture` section: how many examples of each training task an epoch has."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from simtune.config.fields import Count, RuleError, Section

Examples = Annotated[int, Field(strict=True, ge=1, le=10**12)]

_RULES = ("oversample", "proportional", "per_template_cap")


class ProportionalSettings(Section):
    """Examples-proportional mixing (Raffel et al. 2020, section 3.5.2), as T5 and FLAN mix."""

    cap: Count | None = None
    """Most instances of a task that are used at all; null uses all that are drawn."""
    max_rate: Count | None = None
    """A task with more instances than this gets no more examples for them; null sets no limit."""
    temperature: Annotated[float, Field(strict=True, gt=0)] = 1.0
    """Rates are raised to 1 / temperature: 1 keeps them proportional, larger values bring them closer to equal."""


class MixtureSettings(Section):
    """One of the rules, or none of them: `equal`, with every drawn instance of a task once an epoch."""

    short_forms: ClassVar[tuple[str, ...]] = ("equal",)

    oversample: Examples | None = None
    """So many examples of each task an epoch; a smaller task repeats."""
    proportional: ProportionalSettings | None = None
    """Larger tasks have more examples."""
    per_template_cap: Count | None = None
    """T0's rule: a task with more instances than this counts as this number divided by its number of templates, for
    each of them. Also written `per-template-cap`."""
    examples_per_epoch: Examples | None = None
    """Examples of all tasks together, shared out by the rule; null follows from the tasks' sizes."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if value in cls.short_forms:
            return {}
        if isinstance(value, dict) and "per-template-cap" in value and "per_template_cap" not in value:
            return {key.replace("per-template-cap", "per_template_cap"): given for key, given in value.items()}
        return value

    @model_validator(mode="after")
    def _one_rule(self) -> MixtureSettings:
        given = [name for name in _RULES if getattr(self, name) is not None]
        if len(given) > 1:
            text = f"has {len(given)} rules ({', '.join(given)}): keep one of them, or write mixture: equal"
            raise RuleError(text, *given)
        if self.oversample is not None and self.examples_per_epoch is not None:
            raise RuleError(
                "has oversample and examples_per_epoch, which both set the number of examples of an epoch: keep one",
                *("oversample", "examples_per_epoch"),
            )
        return self

    @property
    def rule(self) -> str:
        """The rule's name, `equal` where none is given."""
        return next((name for name in _RULES if getattr(self, name) is not None), "equal")
