"""Validation errors of settings in plain words; none of pydantic's own wording reaches a user.

The rule that a value breaks is derived from the field's own type and bounds, so a new field needs no text here.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from simtune.config.field_types import bare_type, child_of, choices_of, field_at, section_of
from simtune.config.fields import FieldPath
from simtune.config.plain_scalars import NUMBER
from simtune.config.suggested_forms import suggested_form
from simtune.errors import ConfigError, cut, shown
from simtune.wording import alternatives, counted, nearest, spelt_like

Locate = Callable[[FieldPath], str]

_TYPE_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    type(None): "null",
    dict: "a mapping",
    Any: "a value",
}
# As a sweep file writes them.
_WRITTEN = {None: "null", True: "true", False: "false"}
_MOST_SUGGESTED = 3


def error_lines(error: ValidationError, model: type[BaseModel], given: object, locate: Locate) -> list[str]:
    """One line for each error.

    Args:
        error: what pydantic found.
        model: what was validated.
        given: the settings as they were given.
        locate: from a field's path to what a message calls it, such as `sweep.yaml, line 3: training.epochs`.
    """
    # Several paths may have the same location.
    return list(
        dict.fromkeys(
            f"{locate(wrong.path)}: {wrong.text}{_places(wrong, locate)}" for wrong in wrong_fields(error, model, given)
        )
    )


def _places(wrong: WrongField, locate: Locate) -> str:
    """Where the fields of a rule were set, in brackets, as far as that is not where the message is."""

    def origin(path: FieldPath) -> str:
        return locate(path).removesuffix(".".join(map(str, path))).removesuffix(": ")

    # A field that was not set has the place of what is around it.
    known = {origin(wrong.path), origin(())}
    places = [locate(path) for path in wrong.contradicting if origin(path) not in known]
    return f" ({'; '.join(places)})" if places else ""


def settings_error(error: ValidationError, model: type[BaseModel], given: object, name_of: Locate) -> ConfigError:
    """The error to raise for settings that are checked after the sweep file was read, by the code that uses them.

    Args:
        error: what pydantic found.
        model: what was validated.
        given: the settings as they were given.
        name_of: from a path in the settings to the dotted name of the field in the sweep file.
    """
    (first, text), *others = [(name_of(wrong.path), wrong.text) for wrong in wrong_fields(error, model, given)]
    return ConfigError(text, field=first, others=others)


@dataclass(frozen=True)
class WrongField:
    """What is wrong with a field.

    Attributes:
        path: of the field, or of the section whose rule is broken.
        text: what is wrong.
        contradicting: the fields that break a rule together.
    """

    path: FieldPath
    text: str
    contradicting: tuple[FieldPath, ...] = ()


def wrong_fields(error: ValidationError, model: type[BaseModel], given: object) -> list[WrongField]:
    """Each wrong field with what is wrong with it.

    Args:
        error: what pydantic found.
        model: what was validated.
        given: the settings as they were given; a single value for a list is named without a position in the list.
    """
    problems = error.errors(include_url=False)
    found: dict[WrongField, None] = {}
    for problem in problems:
        if problem["type"] == "too_short" and any(_is_inside(other, problem) for other in problems):
            # A list all of whose values are wrong counts as empty; the errors of the values say more.
            continue
        found[_wrong_field(problem, model, given)] = None
    return list(found)


def unknown_key(path: FieldPath, model: type[BaseModel], section: type[BaseModel] | None = None) -> str:
    """`; did you mean ...?` with full dotted names for a key that its section does not have, else a full stop.

    A name that is a field elsewhere (`epochs` for `training.epochs`) comes first, then what the section has that is
    spelt like it, then what any section has.

    Args:
        path: of the key.
        model: all settings.
        section: of the key; None finds it by the path, which names no element of a list.
    """
    key = str(path[-1])
    section = section or section_of(field_at(model, path[:-1]))
    names = dotted_names(model)
    same = [name for name in names if name.rpartition(".")[2] == key.rpartition(".")[2]]
    here = [".".join(map(str, (*path[:-1], name))) for name in (section.model_fields if section else ())]
    found = same[:_MOST_SUGGESTED] or _spelt_like(key, here) or _spelt_like(key, names)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else "."


def dotted_names(model: type[BaseModel]) -> list[str]:
    """Every field of a model and of its sections by its full name, sections themselves too."""
    return list(_dotted(model, ""))


def allowed(field: object) -> str:
    """The values that a field or a type takes, in words: `a whole number of at least 1, or null`."""
    found = bare_type(field)
    if found.description:
        return found.description
    origin, arguments = get_origin(found.base), get_args(found.base)
    if origin in (Union, types.UnionType):
        # Null last, whatever the order of the members.
        members = sorted(arguments, key=lambda member: member is type(None))
        return ", or ".join(dict.fromkeys(allowed(member) for member in members))
    if origin is Literal:
        texts = [str(argument) for argument in arguments]
        return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"
    if origin is tuple:
        least = max((getattr(rule, "min_length", 0) for rule in found.rules), default=0)
        each = allowed(arguments[0])
        return f"a list of {'at least ' + counted(least, 'value') if least else 'values'}, each {each}"
    if isinstance(found.base, type) and issubclass(found.base, BaseModel):
        known = [*found.base.model_fields, getattr(found.base, "further_keys", "")]
        short = alternatives(getattr(found.base, "short_forms", ()))
        return f"{f'{short}, or ' if short else ''}a section with {', '.join(filter(None, known))}"
    return _TYPE_NAMES.get(origin or found.base, "another value") + _bounds(found.rules)


def _wrong_field(problem: Any, model: type[BaseModel], given: object) -> WrongField:
    error_type, value = problem["type"], problem["input"]
    path, field, in_list = _walk(problem["loc"], model, given)
    section = section_of(field)
    if error_type in ("extra_forbidden", "invalid_key"):
        path = (*path[: len(problem["loc"]) - 1], problem["loc"][-1])
        known = ", ".join(section.model_fields if section else ())
        if path[-1] in getattr(section, "short_forms", ()):
            return WrongField(
                path, f"unknown key; write {'.'.join(map(str, path[:-1]))}: {path[-1]}. Known here: {known}"
            )
        return WrongField(path, f"unknown key{unknown_key(path, model, section)} Known here: {known}")
    if error_type == "missing":
        return WrongField(path, f"missing; give {allowed(field)}")
    if error_type == "value_error":
        return _broken_rule(path, problem["ctx"]["error"], model)
    rule = allowed(field)
    hint = ""
    if error_type == "finite_number":
        rule += ", neither NaN nor infinite"
    elif isinstance(value, str):
        hint = nearest(value, [*choices_of(field), *getattr(section, "short_forms", ())])
        if in_list and "," in value:
            hint = "; write several values as a list, such as [10, 50]"
        elif not hint and "number" in rule and NUMBER.fullmatch(value):
            hint = "; leave out the quotes"
    elif isinstance(value, bool | int | float) and "a string" in rule:
        hint = "; write it with quotes where it is a string"
    hint = hint or suggested_form(str(path[-1]) if path and isinstance(path[-1], str) else "", field, value)
    written = _WRITTEN[value] if value is None or isinstance(value, bool) else shown(value)
    return WrongField(path, f"{written} is wrong: expected {rule}{hint}")


def _broken_rule(path: FieldPath, broken: ValueError, model: type[BaseModel]) -> WrongField:
    text = cut(str(broken), 2000)
    contradicting = tuple((*path, *name.split(".")) for name in getattr(broken, "fields", ()))
    # A rule about several sections begins with the field that breaks it.
    name, _, rest = text.partition(": ")
    if not path and name in dotted_names(model):
        return WrongField(tuple(name.split(".")), rest, contradicting)
    return WrongField(path, text, contradicting)


def _walk(loc: Sequence[str | int], model: type[BaseModel], given: object) -> tuple[FieldPath, Any, bool]:
    """From pydantic's path to the field's own, its type, and whether it is a single value given for a list.

    Pydantic names members of a union in its path too (`constrained-int`); they are not fields.
    """
    path: list[str | int] = []
    field: Any = model
    single = False
    for part in loc:
        deeper = child_of(field, part)
        if deeper is None:
            continue
        field = deeper
        if isinstance(part, int) and not isinstance(given, list | tuple):
            single = True
            continue
        path.append(part)
        if isinstance(given, dict):
            given = given.get(part)
        elif isinstance(given, list | tuple) and isinstance(part, int) and part < len(given):
            given = given[part]
        else:
            given = None
    return tuple(path), field, single


def _bounds(rules: Sequence[object]) -> str:
    said = []
    for attribute, words in (("ge", "of at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        found = [getattr(rule, attribute) for rule in rules if getattr(rule, attribute, None) is not None]
        said += [f"{words} {value:,}" if isinstance(value, int) else f"{words} {value:g}" for value in found]
    if any(getattr(rule, "min_length", 0) for rule in rules):
        said.append("that is not empty")
    return f" {' and '.join(said)}" if said else ""


def _spelt_like(key: str, names: Sequence[str]) -> list[str]:
    """The dotted name whose last part is spelt like a key, in a list; empty if there is none."""
    leaves = {name.rpartition(".")[2]: name for name in reversed(names)}
    found = spelt_like(key, list(leaves))
    return [leaves[found]] if found else []


def _dotted(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if section := section_of(field):
            yield from _dotted(section, f"{prefix}{name}.")


def _is_inside(problem: Any, outer: Any) -> bool:
    return len(problem["loc"]) > len(outer["loc"]) and problem["loc"][: len(outer["loc"])] == outer["loc"]
