"""Sweep files that come with the package: `simtune run quickstart` finds them by name, `simtune new` copies them."""

from __future__ import annotations

from pathlib import Path

from simtune.errors import ConfigError
from simtune.wording import nearest

_FOLDER = Path(__file__).with_name("examples")


def builtin_sweeps() -> dict[str, Path]:
    """The built-in sweep files by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def find_sweep_file(name: Path) -> Path:
    """The sweep file that a user means: a file of this name, or else the built-in sweep of this name.

    Raises:
        ConfigError: there is neither.
    """
    known = builtin_sweeps()
    if name.exists():
        return known.get(str(name), name) if name.is_dir() else name
    if str(name) not in known:
        raise ConfigError(
            f"{name}: no such sweep file{nearest(name.stem, known) or ';'} built-in sweeps are {', '.join(known)}, and "
            "`simtune new` writes a file to start from"
        )
    return known[str(name)]


def write_sweep_file(name: str, path: Path) -> None:
    """Copies a built-in sweep file to `path`, where nothing may be yet.

    Raises:
        ConfigError: there is no such sweep, or `path` exists or cannot be written.
    """
    known = builtin_sweeps()
    if name not in known:
        remedy = f"; to write another file: `simtune new --output {name}`" if Path(name).suffix else ""
        raise ConfigError(
            f"no built-in sweep {name!r}{nearest(name, known) or ';'} choose one of {', '.join(known)}{remedy}"
        )
    try:
        with path.open("xb") as file:
            file.write(known[name].read_bytes())
    except FileExistsError:
        raise ConfigError(f"{path}: already exists; give --output another name, or remove it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give --output another path") from None
