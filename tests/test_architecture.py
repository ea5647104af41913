"""The house's walls: rooms import only leftwards in the flow, and Ray stays in its few modules."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "simtune"
# What is in no room.
GROUND = {"config", *(path.stem for path in PACKAGE.glob("[a-z]*.py"))}
FLOW = ["corpus", "prompting", "embedding", "graph", "selection", "training", "evaluation", "sweep"]
# The report draws rows; it needs no other room, and the sweep ends by calling it.
MAY_IMPORT = {room: {*GROUND, *FLOW[: index + 1]} for index, room in enumerate(FLOW)}
MAY_IMPORT |= {"report": {*GROUND, "report"}, **dict.fromkeys(GROUND, GROUND)}
MAY_IMPORT["sweep"].add("report")


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, `simtune.x` as `simtune.x`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_rooms_import_only_leftwards() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in {"cli", "__init__"}:
            continue
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "simtune" and len(parts) > 1 and parts[1] not in MAY_IMPORT[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_ray_is_imported_in_five_modules() -> None:
    users = {
        str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if any(n.split(".")[0] == "ray" for n in imported(p))
    }
    assert users == {
        "embedding/ray_data.py",
        "graph/ray_blocks.py",
        "training/ray_train.py",
        "sweep/ray_start.py",
        "sweep/tune.py",
    }
