"""Every setting of a run as a table: what was changed, and what the study leaves open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simtune.config.settings import Sweep
from simtune.config.study import is_unstated
from simtune.config.yaml_text import YamlTextError, read_yaml
from simtune.report.page.tables import Column, PageTable, TableCell, page_table
from simtune.wording import counted


@dataclass(frozen=True)
class SettingsPart:
    """Content of `parts/settings.html`.

    Attributes:
        summary: heading of the table.
        table: None where `sweep.yaml` cannot be read as settings.
        text: `sweep.yaml` itself, secrets redacted.
    """

    summary: str
    table: PageTable | None
    text: str


def settings_part(text: str) -> SettingsPart:
    """The settings with those marked that differ from the default or are not stated by the study.

    Args:
        text: `sweep.yaml` with secrets redacted.
    """
    try:
        settings = read_yaml(text)[0]
    except YamlTextError:
        settings = None
    if not isinstance(settings, Mapping):
        return SettingsPart("", None, text)
    defaults = dict(_flat(Sweep(name="run").model_dump(mode="json"), ""))
    rows: list[list[str | TableCell]] = []
    num_unstated = num_changed = 0
    for field, value in _flat(settings, ""):
        notes = []
        if field not in ("name", "storage") and field in defaults and defaults[field] != value:
            notes.append(f"default: {defaults[field]}")
            num_changed += 1
        if is_unstated(field):
            notes.append("not stated by the study")
            num_unstated += 1
        rows.append([TableCell(field), value, TableCell("; ".join(notes), css_class="text noted")])
    heads = [Column("field"), Column("value", is_text=True), Column("note", is_text=True)]
    caption = "The resolved sweep file. A default is named where this run has another value."
    summary = (
        f"{counted(len(rows), 'setting')}: {num_changed:,} differ from the default, {num_unstated:,} are not stated by "
        "the study"
    )
    return SettingsPart(summary, page_table(caption, heads, rows, css_class="list"), text)


def _flat(value: object, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted names and values as JSON; lists are one value."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
