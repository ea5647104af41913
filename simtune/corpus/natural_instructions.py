"""Reads task files in the Super-NaturalInstructions schema.

The files come from hundreds of contributors and two generations of the schema (`Definition` as a list or a text,
instances without `id`, demonstrations without `explanation`), so everything is checked, and every complaint names
file, position and field. The first element of `Definition` and of `Categories` counts, as in the data's own scripts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from simtune.corpus.task import Demonstration, Instance, Task, name_flaw
from simtune.errors import cut, shown
from simtune.outside_files import GIB, read_outside

_LARGEST_FILE = GIB


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a task file.

    Attributes:
        where: file and position, such as `tasks/task001_x.json, line 3, column 7` or `..., Instances[4].output`.
        severity: an `error` makes the task unusable; a `warning` does not.
    """

    where: str
    message: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """What reading one file gave: a task, or the problems that prevent it."""

    name: str
    task: Task | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _NotJson:
    """Stands for a NaN or Infinity token; no field accepts it."""

    token: str


_FIELDS_READ = frozenset(
    (
        *("Definition", "Categories", "Positive Examples", "Negative Examples", "Instances"),
        *("Input_language", "Output_language", "Source"),
    )
)
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


class _BadTaskError(Exception):
    """Leaves the parser at the first problem that makes the rest meaningless."""


def read_task_file(
    path: Path, label: str | None = None, definition_only: bool = False, root: Path | None = None
) -> TaskFile:
    """Reads one task file; never raises for what the file holds.

    Args:
        path: the JSON file; its name without `.json` is the task's name.
        label: what problems call the file; its path by default.
        definition_only: as for `parse_task`.
        root: the corpus that the file belongs to; no link may lead out of it.
    """
    label = label or str(path)
    name = path.name.removesuffix(".json")
    try:
        data = read_outside(path, _LARGEST_FILE, root)
    except OSError as error:
        return TaskFile(name, None, (Problem(label, f"cannot be read ({error.strerror})", "error"),))
    return parse_task_bytes(name, data, label, definition_only)


def parse_task_bytes(name: str, data: bytes, label: str, definition_only: bool = False) -> TaskFile:
    """Parses the bytes of one task file."""
    problems: list[Problem] = []
    try:
        fields = _parse_json(data, label, problems)
        return parse_task(name, fields, label, problems, definition_only)
    except _BadTaskError:
        return TaskFile(name, None, tuple(problems))


def parse_task(
    name: str,
    fields: dict[str, Any],
    label: str,
    problems: list[Problem] | None = None,
    definition_only: bool = False,
) -> TaskFile:
    """Turns the fields of one task file into a `Task`.

    Args:
        name: the task's.
        fields: of the file.
        label: what problems call the file.
        problems: found before.
        definition_only: for tasks still to be written: instances are not read, and a missing category is empty.
    """
    problems = [] if problems is None else problems

    def complain(field: str, message: str, severity: Literal["error", "warning"] = "error") -> None:
        problems.append(Problem(f"{label}, {field}", message, severity))

    if flaw := name_flaw(name):
        complain("the file's name", f"{shown(name)} {flaw}; rename it")
    definition = _first_text(fields, "Definition", complain)
    categories = _texts(fields, "Categories", complain, required=not definition_only) or ("",)
    positive = _demonstrations(fields, "Positive Examples", complain)
    negative = _demonstrations(fields, "Negative Examples", complain)
    instances = () if definition_only else _instances(name, fields, complain)
    input_languages = _texts(fields, "Input_language", complain)
    output_languages = _texts(fields, "Output_language", complain)
    sources = _texts(fields, "Source", complain)
    if any(problem.severity == "error" for problem in problems):
        return TaskFile(name, None, tuple(problems))
    task = Task(
        name=name,
        definition=definition,
        categories=categories,
        positive=positive,
        negative=negative,
        instances=instances,
        input_languages=input_languages,
        output_languages=output_languages,
        sources=sources,
    )
    return TaskFile(name, task, tuple(problems))


Complain = Callable[..., None]


def _parse_json(data: bytes, label: str, problems: list[Problem]) -> dict[str, Any]:
    def fail(where: str, message: str) -> _BadTaskError:
        problems.append(Problem(where, message, "error"))
        return _BadTaskError()

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            ((repeated, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise fail(
                f"{label}, {_printable(repeated)}",
                "this key is given twice in one object; which value counts is unclear",
            )
        return fields

    tokens: list[str] = []

    def constant(token: str) -> _NotJson:
        tokens.append(token)
        return _NotJson(token)

    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise fail(f"{label}, byte 0", "UTF-16 text; save the file as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail(f"{label}, byte {error.start}", f"not UTF-8 text ({error.reason})") from None
    if text.startswith("\ufeff"):
        problems.append(Problem(f"{label}, byte 0", "begins with a byte order mark, which was left out", "warning"))
        text = text[1:]
    try:
        fields = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise fail(f"{label}, line {error.lineno}, column {error.colno}", f"broken JSON ({error.msg})") from None
    except RecursionError:
        raise fail(label, "nested too deeply for a task file") from None
    except ValueError as error:
        raise fail(label, f"broken JSON ({error})") from None
    if not isinstance(fields, dict):
        raise fail(label, f"a task file is a JSON object, found {_kind(fields)}")
    # About a hundred published files hold NaN in URL; only in a field that is read does it do harm.
    if tokens:
        for key in [key for key in fields if key not in _FIELDS_READ and _holds_not_json(fields[key])]:
            problems.append(
                Problem(f"{label}, {_printable(key)}", "holds NaN or an infinity, which is not JSON", "warning")
            )
    # JSON can say half a UTF-16 pair, UTF-8 cannot: neither a tokenizer nor a fingerprint could read such a text.
    if _HALF_CHARACTER.search(text):
        for key in sorted(_FIELDS_READ.intersection(fields)):
            for where, value in _leaves(fields[key], key):
                if isinstance(value, str) and not _is_unicode(value):
                    raise fail(f"{label}, {where}", "holds half a character (a lone surrogate, \\ud800 to \\udfff)")
    return fields


def _first_text(fields: dict[str, Any], key: str, complain: Complain) -> str:
    value = fields.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str) and value.strip():
        return value
    complain(key, "missing" if key not in fields else f"expected a text or a list of texts, found {_kind(value)}")
    return ""


def _texts(fields: dict[str, Any], key: str, complain: Complain, required: bool = False) -> tuple[str, ...]:
    value = fields.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        complain(key, f"expected a list of texts, found {_kind(value)}")
        return ()
    texts = tuple(text.strip() for text in values if text.strip())
    if required and not texts:
        complain(key, "missing" if key not in fields else "names nothing")
    return texts


def _demonstrations(fields: dict[str, Any], key: str, complain: Complain) -> tuple[Demonstration, ...]:
    value = fields.get(key, [])
    if not isinstance(value, list):
        complain(key, f"expected a list, found {_kind(value)}")
        return ()
    demonstrations = []
    for index, entry in enumerate(value):
        where = f"{key}[{index}]"
        if not isinstance(entry, dict):
            complain(where, f"expected an object, found {_kind(entry)}")
            continue
        source, output, explanation = entry.get("input"), entry.get("output"), entry.get("explanation")
        if isinstance(output, list) and output:
            output = output[0]
        if not isinstance(source, str):
            complain(f"{where}.input", _expected_text(entry, "input"))
        elif not isinstance(output, str):
            complain(f"{where}.output", _expected_text(entry, "output"))
        elif explanation is not None and not isinstance(explanation, str):
            complain(f"{where}.explanation", _expected_text(entry, "explanation"))
        else:
            demonstrations.append(Demonstration(source, output, explanation))
    return tuple(demonstrations)


def _instances(name: str, fields: dict[str, Any], complain: Complain) -> tuple[Instance, ...]:
    value = fields.get("Instances")
    if not isinstance(value, list):
        complain("Instances", "missing" if "Instances" not in fields else f"expected a list, found {_kind(value)}")
        return ()
    if not value:
        complain("Instances", "has no instances", "warning")
    instances = []
    seen: set[str] = set()
    for index, entry in enumerate(value):
        where = f"Instances[{index}]"
        if not isinstance(entry, dict):
            complain(where, f"expected an object, found {_kind(entry)}")
            continue
        identifier, source, outputs = entry.get("id"), entry.get("input"), entry.get("output")
        if isinstance(outputs, str):
            outputs = [outputs]
        if not isinstance(source, str):
            complain(f"{where}.input", _expected_text(entry, "input"))
            continue
        if not isinstance(outputs, list) or not outputs or not all(isinstance(text, str) for text in outputs):
            found = "an empty list" if outputs == [] else _kind(outputs)
            complain(f"{where}.output", f"expected at least one text, found {found}")
            continue
        if not any(text.strip() for text in outputs):
            complain(f"{where}.output", "every reference is empty", "warning")
        if not isinstance(identifier, str) or not identifier:
            identifier = f"{name}-{index}"
        if identifier in seen:
            complain(f"{where}.id", f"{shown(identifier)} was used before; its position was added", "warning")
        while identifier in seen:
            identifier = f"{identifier}-{index}"
        seen.add(identifier)
        instances.append(Instance(identifier, source, tuple(outputs)))
    return tuple(instances)


def _expected_text(entry: dict[str, Any], key: str) -> str:
    return "missing" if key not in entry else f"expected a text, found {_kind(entry[key])}"


def _holds_not_json(value: Any) -> bool:
    return any(isinstance(leaf, _NotJson) for _, leaf in _leaves(value, ""))


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Texts, numbers and the like inside a value, each with its position; without recursion, as values may be deep."""
    waiting = [(where, value)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend((f"{where}.{_printable(key)}", entry) for key, entry in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{where}[{index}]", entry) for index, entry in enumerate(value))
        else:
            yield where, value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(key: str) -> str:
    return cut(repr(key)[1:-1])


def _kind(value: Any) -> str:
    if isinstance(value, _NotJson):
        return f"the token {value.token}"
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a text"}
    if isinstance(value, str) and not value.strip():
        return "an empty text"
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
