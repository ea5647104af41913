"""The archive that a job works with: simtune's code, the sent files, and nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import simtune
from simtune.cluster.package import make_package
from simtune.code_commit import code_commit
from simtune.errors import UserError

PACKAGE = Path(simtune.__file__).parent


def names(data: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(data)).namelist())


def test_it_has_the_code_and_what_the_code_reads_and_no_caches(tmp_path: Path) -> None:
    made = make_package({"sweep.yaml": b"name: a\n"})
    found = names(made.data)
    code = {f"simtune/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*.py")}
    assert code | {"sweep.yaml"} <= found
    assert any(name.startswith("simtune/corpus/demo/") and name.endswith(".yaml") for name in found)
    assert not [name for name in found if "__pycache__" in name or "/." in name]
    # Nothing else at its top, which is searched for modules before any library.
    assert {name.partition("/")[0] for name in found} == {"simtune", "sweep.yaml"}
    assert len(made.data) < 2**20
    zipfile.ZipFile(io.BytesIO(made.data)).extractall(tmp_path)
    command = [sys.executable, "-c", "import simtune, simtune.cli.main; print(simtune.__file__)"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path)}, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "simtune" / "__init__.py")


def test_the_same_files_make_the_same_bytes_and_other_code_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = make_package({"sweep.yaml": b"x"}, tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").touch()
    for left_over in (".a.py.swp", "a.py~", "a.py.orig", ".git"):
        (tmp_path / left_over).touch()
    (tmp_path / "a.py").touch()
    assert make_package({"sweep.yaml": b"x"}, tmp_path) == first
    other_sweep = make_package({"sweep.yaml": b"y"}, tmp_path)
    assert (other_sweep.code, other_sweep.name != first.name) == (first.code, True)
    (tmp_path / "a.py").write_text("2")
    assert make_package({"sweep.yaml": b"x"}, tmp_path).code != first.code


def test_it_says_from_which_commit_it_is_and_whether_that_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        told = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path))
        done = subprocess.run(["git", *told, *words], capture_output=True, text=True, check=True)  # noqa: S607
        return done.stdout.strip()

    code, sent = tmp_path / "simtune", tmp_path / "sent"
    code.mkdir()
    (code / "a.py").write_text("1")
    assert code_commit(code) == ""
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    (tmp_path / "notes.txt").write_text("not code")
    clean = make_package({}, code)
    (code / "a.py").write_text("2")
    changed = make_package({}, code)
    for made, expected in ((clean, git("rev-parse", "HEAD")), (changed, f"{git('rev-parse', 'HEAD')} with changes")):
        zipfile.ZipFile(io.BytesIO(made.data)).extractall(sent)
        assert code_commit(sent / "simtune") == expected
    (code / "a.py").write_text("1")
    git("commit", "--quiet", "--allow-empty", "--message", "two")
    # The commit is told, and is not a part of what is compared.
    assert (make_package({}, code).code, make_package({}, code).name != clean.name) == (clean.code, True)


def test_data_among_the_code_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights.bin").write_bytes(bytes(17 * 2**20))
    with pytest.raises(UserError, match=r"17 MiB of files.*simtune/data/weights.bin"):
        make_package({}, tmp_path)
