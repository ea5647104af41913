"""Writes the tables and the figure of `docs/performance.md` from `benchmarks/results/*.json`.

python benchmarks/page.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "figures" / "scaling.svg"
# Less than this from end to end reads better on an axis from zero than on a logarithmic one.
_WIDE = 5
_TABLE = re.compile(r"(<!-- table: ([a-z_]+)(?:\.([a-z_]+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with each marked table replaced by the newest results."""
    return _TABLE.sub(lambda found: found[1] + table_of(found[2], found[3] or "rows") + found[4], page)


def table_of(name: str, part: str = "rows") -> str:
    """A part of a result file as a Markdown table, with the machine below it."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "Not measured yet.\n"
    result = json.loads(path.read_text())
    rows = result[part]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(column.replace("_", " ") for column in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    machine = result["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    gpu = f"{machine['gpu']}, " if machine.get("gpu", "none") != "none" else ""
    where = f"{gpu}{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {versions}"
    return "\n".join(lines) + f"\n\n{where}.\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def draw(figure: Path) -> None:
    """Seconds of each stage against its size, with the machine's limit where one is known."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simtune"
    from matplotlib import pyplot, ticker

    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    scaled = {name: result["scaling"] for name, result in found.items() if result.get("scaling")}
    columns = min(3, len(scaled))
    lines = -(-len(scaled) // columns)
    picture, axes = pyplot.subplots(lines, columns, figsize=(4.2 * columns, 3.4 * lines), squeeze=False)
    for place, (name, scaling) in zip(axes.flat, scaled.items(), strict=False):
        for series in scaling["series"]:
            style = {"linestyle": "--", "color": "0.5"} if series.get("limit") else {"marker": "o", "markersize": 3}
            place.plot(series["x"], series["y"], label=series["name"], **style)
        place.set(title=name, xlabel=scaling["x"], ylabel=scaling["y"])
        for direction in ("x", "y"):
            values = [value for series in scaling["series"] for value in series[direction]]
            if max(values) > _WIDE * min(values):
                place.set(**{f"{direction}scale": "log"})
                getattr(place, f"{direction}axis").set_minor_formatter(ticker.NullFormatter())
            else:
                place.set(**{f"{direction}lim": (0, 1.1 * max(values))})
        place.legend(fontsize=7, frameon=False)
        place.grid(alpha=0.3)
    for place in axes.flat[len(scaled) :]:
        place.axis("off")
    picture.tight_layout()
    picture.savefig(figure, metadata={"Date": None})


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    draw(FIGURE)
    print(f"{PAGE.relative_to(ROOT)}, {FIGURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
