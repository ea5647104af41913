"""The `selection` block: which arms there are, at which sizes, and what may be in a subset.

An arm is a strategy with its parameters. In a sweep file it is a name (`different`), a name with settings in
brackets (`graph-cut(lambda=0.3)`), or a mapping (`{strategy: graph-cut, lambda: 0.3, per_category_cap: 5}`;
`{list: FILE}` for a fixed list of tasks). Which strategies exist, and what each takes, is `simtune.selection`'s to
say: here is only the form.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_serializer, model_validator

from simtune.config.fields import Count, RuleError, Section, Seed, Text, without_repeats
from simtune.config.problems import error_lines
from simtune.config.yaml_text import YamlTextError, read_yaml
from simtune.errors import cut, shown
from simtune.wording import counted

Cosine = Literal["uncentred", "centred"]
Names = Annotated[tuple[Text, ...], Field(strict=False)]

MOST_TRIALS = 20_000
"""Trials of a run, and subsets of a selection."""

ORACLE_MARK = " (oracle)"
"""Ends the name of an arm that looked at the test tasks; no table or figure may drop it."""

_WITH_SETTINGS = re.compile(r"^(?P<strategy>[^(]+)\((?P<settings>.*)\)$", re.DOTALL)


class OptionSettings(Section):
    """What may be in a subset, whichever strategy chooses."""

    cosine: Cosine = "uncentred"
    """`centred` subtracts the pool's mean vector before strategies compare tasks; statistics always give both."""
    per_category_cap: Count | None = None
    """Most tasks of one category."""
    per_source_cap: Count | None = None
    """Most tasks drawn from one source data set."""
    max_pair_similarity: Annotated[float, Field(strict=True, gt=-1, le=1)] | None = None
    """No two tasks of a subset are more similar than this (no near-duplicates)."""
    start: Text | None = None
    """The first task, after those of `include`; null leaves it to the strategy."""
    include: Names = ()
    """Tasks of every subset, chosen first, in this order; caps count them and do not refuse them."""
    exclude: Names = ()
    """Tasks of no subset."""

    _no_repeats = field_validator("include", "exclude")(without_repeats)

    @model_validator(mode="after")
    def _in_or_out(self) -> OptionSettings:
        both = sorted({*self.include, *([self.start] if self.start else [])} & set(self.exclude))
        if both:
            text = f"has {', '.join(both)} in include or start and also in exclude; keep one"
            raise RuleError(text, "include", "start", "exclude")
        return self


_OPTIONS = tuple(OptionSettings.model_fields)


class ArmSettings(Section):
    """One arm: a strategy, what it takes, and options that hold for it alone."""

    strategy: Text
    label: Text | None = None
    """What tables call the arm; null makes it from strategy and settings."""
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _any_form(cls, value: object) -> object:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = _parse(value)
        if not isinstance(value, dict):
            raise ValueError(
                f"{shown(value)} is not an arm; give a strategy's name, or a mapping such as {{strategy: NAME}}"
            )
        fields = dict(value)
        if "list" in fields:
            if "strategy" in fields:
                raise ValueError(f"{shown(value)} has both strategy and list; keep one")
            fields |= {"strategy": "list", "file": fields.pop("list")}
        if "strategy" not in fields:
            raise ValueError(f"{shown(value)} has no strategy; add strategy: NAME, or list: FILE")
        options = {name: fields.pop(name) for name in _OPTIONS if name in fields}
        # Checked here, so that a complaint names the arm; kept as given, so that what is not given is inherited.
        try:
            checked = OptionSettings.model_validate(options)
        except ValidationError as error:
            where = f"strategy {cut(str(fields['strategy']))}"
            lines = error_lines(error, OptionSettings, options, lambda path: ": ".join([where, *map(str, path)]))
            raise ValueError("; ".join(lines)) from None
        arm = {name: fields.pop(name) for name in ("strategy", "label") if name in fields}
        for name, parameter in fields.items():
            if not isinstance(parameter, bool | int | float | str):
                nested = isinstance(parameter, dict)
                remedy = "; its options stand beside it, such as {list: FILE, missing: skip}" if nested else ""
                raise ValueError(f"{cut(str(name))}: {shown(parameter)} is neither a number nor a string{remedy}")
        return arm | {"parameters": fields, "options": {name: getattr(checked, name) for name in options}}

    @model_serializer
    def _flat(self) -> str | dict[str, Any]:
        settings = self.parameters | {
            name: list(value) if isinstance(value, tuple) else value for name, value in self.options.items()
        }
        if not settings and self.label is None:
            return self.strategy
        return {"strategy": self.strategy} | ({"label": self.label} if self.label else {}) | settings

    @property
    def name(self) -> str:
        """What tables call the arm: its label, a list's file name, or strategy and settings."""
        if self.label is not None:
            return self.label
        strategy, parameters = self.strategy, self.parameters
        if strategy == "list" and "file" in parameters:
            strategy = Path(str(parameters["file"])).stem
            parameters = {name: value for name, value in parameters.items() if name != "file"}
        shown = [
            f"{name}={counted(len(value), 'task') if isinstance(value, tuple | list) else value}"
            for name, value in {**parameters, **self.options}.items()
        ]
        return f"{strategy}({', '.join(shown)})" if shown else strategy


class SelectionSettings(OptionSettings):
    """Which subsets of the pool are trained on."""

    strategies: tuple[ArmSettings, ...] = tuple(
        ArmSettings(strategy=name)
        for name in ("different", "similar", "random", "different-category", "similar-category")
    )
    sizes: Annotated[tuple[Count | Literal["all"], ...], Field(min_length=1)] = (10, 50, 100, 150, 300, "all")
    """Numbers of tasks; `all` is the whole pool, arm `full`, which no option touches."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """One trial a seed: it seeds strategies that draw, the weights of a new model, and the order of the batches."""

    _no_repeats_here = field_validator("sizes", "seeds")(without_repeats)

    @field_validator("strategies")
    @classmethod
    def _different_names(cls, arms: tuple[ArmSettings, ...]) -> tuple[ArmSettings, ...]:
        without_repeats(tuple(arm.name for arm in arms))
        return arms

    @model_validator(mode="after")
    def _countable(self) -> SelectionSettings:
        if (subsets := num_subsets(self)) > MOST_TRIALS:
            raise ValueError(
                f"{counted(len(self.strategies), 'strategy', 'strategies')} x {counted(len(self.sizes), 'size')} x "
                f"{counted(len(self.seeds), 'seed')} are "
                f"{counted(subsets, 'subset')}, more than {MOST_TRIALS:,}; list fewer"
            )
        return self

    def options_of(self, arm: ArmSettings) -> OptionSettings:
        """The options of an arm: its own, and the selection's where it has none.

        Raises:
            ValueError: together they contradict each other.
        """
        shared = {name: getattr(self, name) for name in _OPTIONS}
        return OptionSettings.model_validate(shared | arm.options)


def num_subsets(selection: SelectionSettings) -> int:
    """Subsets that a selection asks for, those that turn out equal included."""
    sizes = len(selection.sizes)
    whole = "all" in selection.sizes
    return (len(selection.strategies) * (sizes - whole) + whole) * len(selection.seeds)


def _parse(text: str) -> dict[str, Any]:
    """`name`, `name(key=value, ...)` with values read as YAML, or `list:FILE`."""
    if text.startswith("list:"):
        return {"list": text.removeprefix("list:").strip()}
    match = _WITH_SETTINGS.match(text.strip())
    if match is None and "(" in text:
        raise ValueError(f"{shown(text)}: its bracket is not closed; write NAME(name=value, ...)")
    if match is None:
        return {"strategy": text.strip()}
    fields: dict[str, Any] = {"strategy": match["strategy"].strip()}
    # A list's commas must not split it.
    for part in filter(None, re.split(r",(?![^\[]*\])", match["settings"])):
        name, separator, value = part.partition("=")
        if not separator:
            raise ValueError(f"{shown(text)}: {shown(part.strip())} is not of the form name=value")
        if name.strip() in fields:
            raise ValueError(f"{shown(text)}: {name.strip()} is given twice")
        if not value.strip():
            raise ValueError(f"{shown(text)}: {name.strip()} has no value")
        try:
            fields[name.strip()] = read_yaml(value)[0]
        except YamlTextError as error:
            raise ValueError(f"{shown(text)}: {shown(value.strip())} is not a value ({error})") from None
    return fields
