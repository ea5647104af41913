"""Each subpackage imports itself, those before it and top-level modules; ray, rich and torch stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "simtune"
TOP_LEVEL = {path.stem for path in PACKAGE.glob("[a-z]*.py")} - {"api"}
SUBPACKAGES = [
    "storage",
    "config",
    "corpus",
    "prompting",
    "embedding",
    "graph",
    "selection",
    "training",
    "evaluation",
    "report",
    "drivers",
    "trial",
    "executors",
    "grid",
    "sweep",
    "inspection",
    "planning",
    "recommend",
    "export",
    "cluster",
    "cli",
]
MAY_IMPORT = {subpackage: {*TOP_LEVEL, *SUBPACKAGES[: number + 1]} for number, subpackage in enumerate(SUBPACKAGES)}
MAY_IMPORT |= {
    "report": {*TOP_LEVEL, "storage", "config", "report"},
    "cluster": {*TOP_LEVEL, "storage", "config", "cluster"},
}
MAY_IMPORT |= dict.fromkeys(TOP_LEVEL, TOP_LEVEL)


def imports() -> Iterator[tuple[str, str, str]]:
    """Every import in the package: file, subpackage, and the module that is imported."""
    for path in PACKAGE.rglob("*.py"):
        file = str(path.relative_to(PACKAGE))
        subpackage = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, subpackage, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "simtune":
                yield from ((file, subpackage, f"simtune.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield file, subpackage, node.module


def test_every_folder_is_listed() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} <= set(SUBPACKAGES)


def test_a_subpackage_imports_itself_those_before_it_and_the_top_level_modules() -> None:
    upward = [
        f"{file} imports {module}"
        for file, subpackage, module in imports()
        if subpackage not in {"__init__", "api"}
        and module.startswith("simtune.")
        and (target := module.split(".")[1]) != "__version__"
        and target not in MAY_IMPORT[subpackage]
    ]
    assert upward == []


def test_ray_is_imported_in_executors_alone() -> None:
    assert {subpackage for _, subpackage, module in imports() if module.split(".")[0] == "ray"} == {"executors"}


def test_rich_is_imported_in_the_command_line_and_in_files_of_tables_alone() -> None:
    users = {(subpackage, Path(file).name) for file, subpackage, module in imports() if module.split(".")[0] == "rich"}
    assert {(subpackage, name) for subpackage, name in users if subpackage != "cli" and name != "tables.py"} == set()


def test_the_package_and_its_help_load_neither_torch_nor_ray() -> None:
    script = (
        "import sys, simtune, simtune.cli\n"
        "sys.argv = ['simtune', '--help']\n"
        "try:\n    simtune.cli.main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str({'torch', 'ray', 'transformers', 'deepspeed'} & set(sys.modules)) "
        "if {'torch', 'ray', 'transformers', 'deepspeed'} & set(sys.modules) else 0)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
