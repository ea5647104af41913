"""Vega-Lite, from the package `vl-convert-python`: its JavaScript for the page, and figures drawn here as SVG.

Of the charting libraries that a Python package carries, it alone draws under the page's policy, which allows neither
`eval` nor inline styles; docs/report.md has the measurements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from simtune.errors import SimtuneError
from simtune.storage.files import user_cache, write_text

VEGA_LITE = "6.4"
LICENCE = (
    "Vega, Vega-Lite and Vega-Embed, copyright University of Washington Interactive Data Lab, BSD 3-Clause licence: "
    "https://github.com/vega/vega/blob/main/LICENSE"
)
_SHA256 = "3425bd951a44d478d0505c6b5d1e8d57656b6e9a4da7bfe88a718ce61d76e572"
"""Of the JavaScript that the pinned version makes, so that a copy of it can be trusted."""


@cache
def library() -> str:
    """The JavaScript of Vega, Vega-Lite and Vega-Embed as one text.

    It takes two seconds to make, so a copy is kept in this user's cache; without one to write to, it is made each time.
    """
    path = user_cache() / f"vega-{_SHA256[:16]}.js"
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() == _SHA256:
        return data.decode()
    import vl_convert

    text = str(vl_convert.javascript_bundle(vl_version=VEGA_LITE))  # type: ignore[call-arg]
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("the JavaScript of Vega contains markup, so it cannot be put into a page")
    if hashlib.sha256(text.encode()).hexdigest() == _SHA256:
        # Only speed depends on the copy.
        with suppress(OSError, SimtuneError):
            write_text(path, text)
    return text


def svg(spec: Mapping[str, Any], datasets: Mapping[str, Any], config: Mapping[str, Any], width: int) -> bytes:
    """A figure as it looks on paper.

    Args:
        spec: of Vega-Lite, in which the width may be "container".
        datasets: by the names under which the spec has them.
        config: colours and fonts.
        width: of the figure, in pixels.
    """
    import vl_convert

    complete = {**spec, "datasets": dict(datasets), **({"width": width} if spec.get("width") == "container" else {})}
    # Data are in the spec; nothing may be loaded.
    text = vl_convert.vegalite_to_svg(complete, vl_version=VEGA_LITE, config=dict(config), allowed_base_urls=[])
    return str(text).encode()
