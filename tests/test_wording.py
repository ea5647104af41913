"""Counted nouns and suggestions, and that messages of the whole package count by the one helper."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from simtune.wording import counted, duration, nearest, some

PACKAGE = Path(__file__).resolve().parents[1] / "simtune"
# Plurals after a number in a message. What is always more than one (`60 seconds`) is not among them.
NOUNS = (
    "answer choices|arms|arrays|attempts|bytes|candidates|categories|CPUs|demonstrations|dimensions|embeddings|"
    "entries|examples|files|GPUs|instances|micro-batches|pairs|pieces|points|predictions|problems|processes|prompts|"
    "remarks|restarts|rows|seeds|sizes|steps|subsets|tasks|texts|times|tokens|trials|vectors|workers"
)
BETWEEN = r"(?!and |has |no |of |the |times )[a-z-]+ "
AFTER_A_NUMBER = re.compile(rf"^ (?:{BETWEEN}){{0,2}}({NOUNS})\b")
# A number with decimals takes the plural, and so does `fewer` than something.
NEVER_ONE = {
    *("{signed} points", "{fewer} times", "{MOST_TRIALS} trials"),
    *("{', '.join(titles)} on unseen tasks", "{point.headline.title} on unseen tasks"),
}


@pytest.mark.parametrize(
    ("number", "words", "written"),
    [
        (0, ("trial",), "0 trials"),
        (1, ("trial",), "1 trial"),
        (2, ("trial",), "2 trials"),
        (1, ("task is", "tasks are"), "1 task is"),
        (3, ("task is", "tasks are"), "3 tasks are"),
        (1024, ("entry", "entries"), "1,024 entries"),
        (np.int64(1), ("row",), "1 row"),
        (np.int64(12_345_678), ("row",), "12,345,678 rows"),
        (0.25, ("GPU",), "0.25 GPUs"),
        (1.0, ("GPU",), "1 GPU"),
    ],
)
def test_a_number_and_its_noun_agree(number: float, words: tuple[str, ...], written: str) -> None:
    assert counted(number, *words) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *((0.4, "0 s"), (45, "45 s"), (119.4, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")),
        *((172_799, "48 h"), (172_800, "2 days"), (86_400 * 1234.5, "1,234.5 days")),
    ],
)
def test_a_duration_is_in_the_largest_unit_of_which_there_are_two(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_a_list_is_cut_where_it_is_longer() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d"]) == "a, b, c, ..."
    assert some(["a"], 1) == "a"


def test_the_nearest_name_is_suggested_and_nothing_where_none_is_near() -> None:
    assert nearest("differnt", ["similar", "different"]) == "; did you mean 'different'?"
    assert nearest("zzz", ["similar", "different"]) == ""


def uncounted(source: str) -> list[str]:
    """Parts of f-strings that write a number and a plural noun after it themselves."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                continue
            noun = AFTER_A_NUMBER.match(str(after.value))
            decimals = isinstance(value.format_spec, ast.JoinedStr) and "f" in ast.unparse(value.format_spec)[2:]
            is_call = isinstance(value.value, ast.Call) and ast.unparse(value.value.func) in {"counted", "shown"}
            if noun and not decimals and not is_call and value.conversion == -1:
                found.append(f"line {node.lineno}: {{{ast.unparse(value.value)}}}{noun.group()}")
    return [line for line in found if line.partition(": ")[2] not in NEVER_ONE]


def test_no_message_of_the_package_writes_a_plural_after_a_number_itself() -> None:
    assert uncounted("f'{n} trials have no result'") == ["line 1: {n} trials"]
    assert uncounted("f'{n:,} left out tasks'") == ["line 1: {n} left out tasks"]
    assert uncounted("f\"{counted(n, 'trial')} tasks\"") == []
    wrong = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[:2] != ("corpus", "demo") and (lines := uncounted(path.read_text()))
    }
    assert wrong == {}
