"""The colour and the marker of each arm, the same in every figure of a run."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from simtune.report.table_metadata import LineStyle

# Dark enough for white paper. Markers differ too, for print in grey; strategies with a style of their own use others.
_CYCLE = (
    *(("#009e73", "P"), ("#b5568f", "X"), ("#7a5195", "p"), ("#8c5a2b", "h"), ("#5b8c00", "<")),
    *(("#00818a", ">"), ("#c2185b", "d"), ("#6b7a00", "*")),
)


def arm_styles(arms: Sequence[str], own: Mapping[str, LineStyle | None]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every arm: its own, or else one by a hash of its name.

    An arm keeps its colour when another joins, unless the two hash to one slot; then the later name moves on.

    Args:
        arms: their names.
        own: the style of each arm, None if it has none; if several arms have the same style, the first one gets it.
    """
    styles: dict[str, tuple[str, str]] = {}
    for arm, style in own.items():
        if arm in arms and style is not None and (style.colour, style.marker) not in styles.values():
            styles[arm] = style.colour, style.marker
    used: set[int] = set()
    for arm in sorted(set(arms) - set(styles)):
        slot = zlib.crc32(arm.encode()) % len(_CYCLE)
        while slot in used and len(used) < len(_CYCLE):
            slot = (slot + 1) % len(_CYCLE)
        used.add(slot)
        styles[arm] = _CYCLE[slot]
    return styles
