"""The colour and the marker of each arm, the same in every figure of a run."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

from simtune.report.table_metadata import LineStyle

# Dark enough for white paper. Markers differ too, for print in grey; strategies with a style of their own use others. A
# colour gets the next one's marker when it comes again, so neighbours are those that colour-blind readers tell apart.
_CYCLE = (
    *(("#009e73", "P"), ("#7a5195", "p"), ("#c2185b", "d"), ("#5b8c00", "<"), ("#b5568f", "X"), ("#6b7a00", "*")),
    *(("#00818a", ">"), ("#8c5a2b", "h")),
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
    used: Counter[int] = Counter()
    for arm in sorted(set(arms) - set(styles)):
        slot = zlib.crc32(arm.encode()) % len(_CYCLE)
        while used[slot] > used.total() // len(_CYCLE):
            slot = (slot + 1) % len(_CYCLE)
        # Once all colours are used, they come again with other shapes.
        shape = _CYCLE[(slot + used[slot]) % len(_CYCLE)][1]
        used[slot] += 1
        styles[arm] = _CYCLE[slot][0], shape
    return styles
