"""What a figure of the page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
"""A specification of Vega-Lite. Names of fields in it are this package's own: Vega reads dots and brackets in them."""
Rows = list[dict[str, Any]]

ONLY_CHOSEN_ARMS = {"filter": "indexof(arms, datum.arm) >= 0"}


@dataclass(frozen=True)
class Panel:
    """One drawing of a figure."""

    spec: Spec
    title: str = ""


@dataclass(frozen=True)
class View:
    """One of the ways to look at a figure, among which a reader chooses."""

    name: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Chart:
    """A figure and the words that belong to it.

    Attributes:
        anchor: its id in the page.
        alt: a description for readers who cannot see it.
        datasets: rows by the names that the specifications use.
        pictures: for paper, and for browsers that run no scripts; drawn from the first view if there is none.
        computed: datasets that the page's scripts make of its other data, because they would be megabytes.
        is_wide: whether panels stand one below the other, each as wide as the page.
    """

    anchor: str
    title: str
    caption: str
    alt: str
    views: tuple[View, ...]
    datasets: Mapping[str, Rows]
    pictures: tuple[bytes, ...] = ()
    is_wide: bool = True
    computed: tuple[str, ...] = ()
    uses: tuple[str, ...] = field(default=("arms",))
    """The choices of the reader that change it."""


def arms_parameter(arms: Sequence[str]) -> Spec:
    """The arms that are switched on; all at first."""
    return {"name": "arms", "value": list(arms)}


def colour(arms: Sequence[str]) -> Spec:
    """Colours by arm. The legend is the page's own: its switches."""
    return {"field": "arm", "type": "nominal", "scale": {"domain": list(arms)}, "legend": None}


def shape(arms: Sequence[str]) -> Spec:
    """Shapes by arm."""
    return colour(arms)


def tip(field: str, title: str, digits: int | None = None) -> Spec:
    """A line of what appears beside the pointer."""
    if digits is None:
        return {"field": field, "type": "nominal", "title": title}
    return {"field": field, "type": "quantitative", "title": title, "format": f",.{digits}f"}
