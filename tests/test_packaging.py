"""What a wheel needs: every file of the package declared as its data, every imported library as a dependency."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "simtune"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def imported() -> set[str]:
    """Top-level modules that the package imports, anywhere, its own and Python's left out."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"simtune"}


def distribution(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement)[0].lower().replace("_", "-")


def test_every_library_that_is_imported_is_a_dependency() -> None:
    optional = PROJECT["optional-dependencies"]
    declared = set(map(distribution, [*PROJECT["dependencies"], *optional["cloud"], *optional["offline"]]))
    providers = packages_distributions()
    undeclared = {
        module: providers.get(module)
        for module in imported()
        if not declared & {distribution(name) for name in providers.get(module, [])}
    }
    assert undeclared == {}


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["simtune"]
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()]
    data = [str(path) for path in files if path.suffix != ".py" and "__pycache__" not in path.parts]
    assert "config/examples/quickstart.yaml" in data
    assert [path for path in data if not any(fnmatch(path, pattern) for pattern in patterns)] == []


def test_the_licence_is_apache_2_and_goes_into_the_wheel() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_the_torch_that_ci_tests_is_in_the_range() -> None:
    (pinned,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    (declared,) = [line for line in PROJECT["dependencies"] if distribution(line) == "torch"]
    low, high = re.fullmatch(r"torch>=([\d.]+),<([\d.]+)", declared).groups()

    def number(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")))

    assert number(low) <= number(pinned) < number(high)


def test_the_version_is_one() -> None:
    from simtune import __version__

    citation = (ROOT / "CITATION.cff").read_text()
    assert PROJECT["version"] == __version__
    assert f"\nversion: {__version__}\n" in citation
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
