"""The sweeps that come with the package: found by name, copied by `simtune new`, the same files as in `sweeps/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from simtune.config import load_sweep
from simtune.config.builtin_sweeps import builtin_sweeps, find_sweep_file, write_sweep_file
from simtune.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_each_is_valid_and_is_the_file_in_the_checkout() -> None:
    assert list(builtin_sweeps()) == ["paper", "quickstart"]
    for name, path in builtin_sweeps().items():
        assert load_sweep(path).name == name
        assert (ROOT / "sweeps" / f"{name}.yaml").samefile(path)


def test_a_file_comes_before_a_built_in_sweep_and_a_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("quickstart")
    assert find_sweep_file(name) == builtin_sweeps()["quickstart"]
    name.mkdir()
    assert find_sweep_file(name) == builtin_sweeps()["quickstart"]
    name.rmdir()
    name.write_text("name: mine\n")
    assert find_sweep_file(name) == name
    with pytest.raises(ConfigError, match=r"^other\.yaml: no such sweep file; built-in sweeps are paper, quick"):
        find_sweep_file(Path("other.yaml"))
    # Only the name without a path is built in.
    with pytest.raises(ConfigError, match=r"^quickstrt\.yaml: no such sweep file; did you mean 'quickstart'\?"):
        find_sweep_file(Path("quickstrt.yaml"))


def test_a_copy_is_the_file_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    write_sweep_file("paper", path)
    assert path.read_bytes() == builtin_sweeps()["paper"].read_bytes()
    with pytest.raises(ConfigError, match=r"mine\.yaml: already exists; give --output another name"):
        write_sweep_file("quickstart", path)
    assert path.read_bytes() == builtin_sweeps()["paper"].read_bytes()
    with pytest.raises(ConfigError, match=r"x\.yaml: cannot be written \(No such file or directory\)"):
        write_sweep_file("paper", tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(ConfigError, match=r"no built-in sweep 'papr'; did you mean 'paper'\?"):
        write_sweep_file("papr", tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match=r"to write another file: `simtune new --output mine\.yaml`"):
        write_sweep_file("mine.yaml", tmp_path / "x.yaml")
