"""How a value of the wrong form could be written: a word in the place of a section, a mapping in that of a number."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from simtune.config.field_types import bare_type, choices_of, members_of, section_of
from simtune.config.yaml_text import write_yaml
from simtune.errors import cut
from simtune.wording import spelt_like

_NUMBER, _TEXT, _ANY = "N", "NAME", "VALUE"


def suggested_form(name: str, field: object, value: object) -> str:
    """`; write it as ..., such as ...` where a value's form is not the field's; empty where it is, or none is known.

    Args:
        name: of the field; empty for a value of a list.
        field: its type.
        value: as it was given.
    """
    section = section_of(field)
    if section is not None:
        form = "" if value is None or isinstance(value, dict) else _in_section(section, value)
        return f"; write it as a section, such as {form}" if form else ""
    form = _form(field)
    if form.startswith("{") and value is not None and not isinstance(value, dict):
        return f"; write it as a mapping, such as {form}"
    if form[0] not in "{[" and isinstance(value, dict | list):
        return f"; write a single value, such as {f'{name}: ' if name else ''}{form}"
    return ""


def _in_section(section: type[BaseModel], value: object) -> str:
    """A section with a value where it can stand: as a field's name, as one of its words, or as the first field's."""
    fields = section.model_fields
    if isinstance(value, str) and (name := spelt_like(value, list(fields))):
        return f"{{{name}: {_form(fields[name])}}}"
    for name in [*(name for name, field in fields.items() if value in choices_of(field)), next(iter(fields))]:
        if _takes(section, {name: value}):
            return cut(write_yaml({name: value}, in_one_line=True))
    required = [f"{name}: {_form(field)}" for name, field in fields.items() if field.is_required()]
    return f"{{{', '.join(required)}}}" if required else ""


def _takes(section: type[BaseModel], settings: dict[str, Any]) -> bool:
    try:
        section.model_validate(settings)
    except ValidationError:
        return False
    return True


def _form(field: object) -> str:
    """What a field's values look like: `N`, `[NAME]`, `{train: [NAME], test: [NAME]}`."""
    types = [bare_type(member).base for member in members_of(field)]
    types = [each for each in types if each is not type(None)]
    # A word that stands for something else says less of the form.
    base, *others = [each for each in types if get_origin(each) is not Literal] or types
    if others:
        return _ANY
    if get_origin(base) is Literal:
        return str(get_args(base)[0])
    if get_origin(base) is tuple:
        return f"[{_form(get_args(base)[0])}]"
    if get_origin(base) is dict:
        return f"{{{_TEXT}: {_form(get_args(base)[1])}}}"
    if isinstance(base, type) and issubclass(base, BaseModel):
        return "{}" if _takes(base, {}) else _in_section(base, None) or "{...}"
    return {bool: "true", int: _NUMBER, float: _NUMBER, str: _TEXT}.get(base, _ANY)
