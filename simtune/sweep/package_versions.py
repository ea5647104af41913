"""The versions of simtune and of the packages that can change a result, for the manifest."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from simtune import __version__

_PACKAGES = (
    "ray",
    "torch",
    "transformers",
    "deepspeed",
    "sentence-transformers",
    "tokenizers",
    "numpy",
    "pyarrow",
)


def package_versions() -> dict[str, str]:
    """Version by package; `not installed` where there is none."""
    versions = {"simtune": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
