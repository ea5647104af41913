"""Parsers of numbers on the command line, which are written as in a sweep file.

Python's own `int` would take `1_000`, and `float` would take `nan`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from simtune.config.plain_scalars import INTEGER, NUMBER, refusal_reason
from simtune.errors import shown
from simtune.wording import nearest

N = TypeVar("N", int, float)


def whole_number(value: Any) -> int:
    """A whole number in decimal digits.

    Raises:
        typer.BadParameter: the value is not one.
    """
    if isinstance(value, str) and not INTEGER.fullmatch(value):
        raise typer.BadParameter(f"{shown(value)} is not a whole number in plain digits, such as 12")
    return int(value)


def count(value: Any) -> int:
    """A whole number of at least 1.

    Raises:
        typer.BadParameter: the value is not one.
    """
    number = whole_number(value)
    if number < 1:
        raise typer.BadParameter(f"{number} is not at least 1")
    return number


def seed(value: object) -> int:
    """A seed.

    Raises:
        typer.BadParameter: the value is not a whole number from 0 to 2**32 - 1.
    """
    return _within(value, whole_number(value), 0, 2**32 - 1)


def num_nodes(value: object) -> int:
    """How many nodes a cluster has.

    Raises:
        typer.BadParameter: the value is not a whole number from 1 to 100,000.
    """
    return _within(value, whole_number(value), 1, 100_000)


def cosine(value: object) -> float:
    """A number between -1 and 1.

    Raises:
        typer.BadParameter: the value is not one.
    """
    return _within(value, _number(value), -1, 1)


def amount(value: object) -> float:
    """A number from 0 to a billion.

    Raises:
        typer.BadParameter: the value is not one.
    """
    return _within(value, _number(value), 0, 10**9)


def _within(value: object, number: N, low: int, high: int) -> N:
    """The number that a value is, if it is not out of bounds."""
    if not low <= number <= high:
        raise typer.BadParameter(f"{value} is not between {low} and {high}")
    return number


def _number(value: Any) -> float:
    if isinstance(value, str) and (not NUMBER.fullmatch(value) or refusal_reason(value)):
        raise typer.BadParameter(f"{shown(value)} is not a number in JSON notation, such as 0.5")
    return float(value)


def node_type(value: Any) -> dict[str, Any]:
    """What a node has, such as `cpus=16,gpus=4,vram=24,price=12.24`.

    Raises:
        typer.BadParameter: a name is none of these, or its value is wrong.
    """
    if isinstance(value, dict):
        return value
    parsers: dict[str, Callable[[object], float]] = {
        "cpus": count,
        "gpus": whole_number,
        "vram": amount,
        "price": amount,
    }
    found: dict[str, float] = {}
    for part in str(value).split(","):
        name, _, number = part.strip().partition("=")
        if name not in parsers:
            raise typer.BadParameter(
                f"{shown(name)} is not one of {', '.join(parsers)}{nearest(name, parsers)}; write cpus=16,gpus=4"
            )
        key = "gpu_gib" if name == "vram" else name
        if key in found:
            raise typer.BadParameter(f"{name} is given twice: {shown(str(value))}")
        found[key] = read = parsers[name](number)
        if read < 0:
            raise typer.BadParameter(f"{name}={number} is below 0")
    return found
