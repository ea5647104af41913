"""Tables on a terminal of any width: sentences above and below them, texts as they are."""

from __future__ import annotations

import ast
import textwrap
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from simtune.tables import TextTable

PACKAGE = Path(__file__).resolve().parents[1] / "simtune"
SENTENCE = "Cosine of pairs: mean, smallest, largest, 90th percentile; coverage: mean largest cosine to the set. " * 2


def rendered(table: TextTable, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [30, 40, 80, 160, 300])
def test_title_and_caption_are_as_wide_as_the_terminal_whatever_the_table_is(width: int) -> None:
    table = TextTable(title=SENTENCE, caption=SENTENCE.strip() + "\nAnother line.")
    table.add_column("arm")
    table.add_row("a")
    lines = rendered(table, width)
    wrapped = textwrap.wrap(SENTENCE.strip(), width)
    assert lines[: len(wrapped)] == wrapped
    assert lines[-len(wrapped) - 1 :] == [*wrapped, "Another line."]


def test_no_text_of_a_table_is_markup() -> None:
    table = TextTable(title="runs/[red]a[/red]", caption="[bold]note")
    table.add_columns("arm [b]x[/b]")
    table.add_number_columns("[red]10[/red]")
    table.add_row("random(include=[a, b])[/x]", "1")
    text = "\n".join(rendered(table, 80))
    for part in ("runs/[red]a[/red]", "[bold]note", "random(include=[a, b])[/x]", "arm [b]x[/b]", "[red]10[/red]"):
        assert part in text


def test_a_table_without_rows_has_no_box() -> None:
    table = TextTable(title="runs/a: 3 trials, nothing wrong", caption="1 trial has no result yet")
    table.add_column("where")
    assert rendered(table, 80) == ["runs/a: 3 trials, nothing wrong", "1 trial has no result yet"]


def test_every_table_of_the_package_is_one_of_these() -> None:
    """Grids have neither title nor caption nor a box, and may be rich's own."""
    others = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Table", "rich.table.Table"}:
                others.append(f"{path.relative_to(PACKAGE)}, line {node.lineno}")
    assert others == []
