"""Data of a page as JSON that can stand in a `<script>` element, whatever texts are in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from simtune.report.results_view import clean

_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def page_json(value: object) -> Markup:
    """A value as JSON without a character that ends a script or begins markup.

    Control characters in texts become visible, and numbers that JSON lacks become null.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Every character that HTML could read as markup is escaped.
    return Markup(text.translate(_ESCAPES))  # noqa: S704


def _plain(value: object) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
