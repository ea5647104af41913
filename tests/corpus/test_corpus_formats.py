"""A corpus format is one function and one line: everything that reads a corpus reads its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from plugins import installed_entry

from simtune import corpus
from simtune.config import CorpusSettings, EvaluationSettings
from simtune.config.holdout import HoldoutSettings
from simtune.corpus import registry
from simtune.corpus.check import check_corpus
from simtune.corpus.pool import build_task_sets
from simtune.corpus.registry import open_corpus
from simtune.corpus.source import Problem, TaskFile
from simtune.corpus.task import Instance, Task
from simtune.entry_points import load_lines
from simtune.errors import CorpusError, ExtensionError


@dataclass
class LinesSource:
    """One task per file, its instances as lines `input<TAB>output`."""

    folder: Path

    @property
    def label(self) -> str:
        return str(self.folder)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self.folder.glob("*.tsv")))

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        title, *lines = (self.folder / f"{name}.tsv").read_text().splitlines()
        if "\t" in title:
            return TaskFile(name, None, (Problem(self.file_of(name), "line 1", "has no title", "error"),))
        rows = [] if definition_only else [line.split("\t") for line in lines]
        instances = tuple(Instance(f"{name}-{number}", row[0], (row[1],)) for number, row in enumerate(rows))
        return TaskFile(name, Task(name, title, ("Lines",), (), (), instances), ())

    def file_of(self, name: str) -> str:
        return f"{name}.tsv"

    def splits(self) -> tuple[str, ...]:
        return ()

    def split(self, split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        raise KeyError(split)


def open_lines(path: str) -> LinesSource | None:
    return LinesSource(Path(path)) if any(Path(path).glob("*.tsv")) else None


@pytest.fixture
def installed() -> Iterator[None]:
    with installed_entry(registry, "lines", f"{__name__}:open_lines"):
        yield


def test_a_built_in_format_is_one_file_and_one_line_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "lines_folder.py").write_text(
        f"from {__name__} import LinesSource\nfrom pathlib import Path\n\n"
        "def open_folder(path):\n    return LinesSource(Path(path)) if any(Path(path).glob('*.tsv')) else None\n"
    )
    (tmp_path / "a.tsv").write_text("Say it.\nx\ty\n")
    monkeypatch.setattr(corpus, "__path__", [*corpus.__path__, str(tmp_path / "code")])
    lines = {**registry.BUILT_IN, "lines": "lines_folder:open_folder"}
    monkeypatch.setattr(registry, "FORMATS", load_lines("simtune.corpus", lines))
    assert open_corpus(str(tmp_path)).names() == ("a",)


@pytest.mark.usefixtures("installed")
def test_tasks_of_an_installed_format_are_a_corpus(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.tsv").write_text(f"Say {name}\n" + "".join(f"{n}\t{n + 1}\n" for n in range(5)))
    corpus = CorpusSettings(path=str(tmp_path), min_instances=2, holdout=HoldoutSettings(task=("b",)))
    sets = build_task_sets(corpus, EvaluationSettings(instances_per_task=2))
    assert [(task.name, task.definition, len(task.instances)) for task in sets.pool] == [
        ("a", "Say a", 5),
        ("c", "Say c", 5),
    ]
    assert [instance.outputs for instance in sets.test[0].instances] == [("1",), ("2",)]
    (tmp_path / "bad.tsv").write_text("x\ty\n")
    found = check_corpus(str(tmp_path), lambda done, total: None)
    assert (found.num_tasks, found.num_unreadable, found.splits) == (3, 1, ())
    assert [(problem.file, problem.position) for problem in found.problems] == [("bad.tsv", "line 1")]
    with pytest.raises(CorpusError, match=r"bad\.tsv, line 1: has no title"):
        build_task_sets(corpus, EvaluationSettings())
    assert open_corpus("demo").label == "demo"


@dataclass
class FaultySource(LinesSource):
    """Every folder below `faulty` is such a corpus, and its name says which mistake is made."""

    def names(self) -> tuple[str, ...]:
        return ("b", "a") if self.folder.name == "unsorted" else ("a",)

    def read(self, name: str, definition_only: bool = False) -> TaskFile:
        task = Task("other", "", (), (), (), ())
        return {"another": TaskFile(name, task, ()), "nothing": TaskFile(name, None, ())}[self.folder.name]


def open_faulty(path: str) -> FaultySource | None:
    return FaultySource(Path(path)) if Path(path).parent.name == "faulty" else None


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ("unsorted", ": the task names are not sorted strings without duplicates"),
        ("raises", ", task a failed: KeyError: 'raises'"),
        ("another", ", task a: returned the task 'other'"),
        ("nothing", ", task a: returned neither a task nor an error that says why"),
    ],
)
def test_a_mistake_of_an_installed_format_names_the_format_and_the_task(mistake: str, complaint: str) -> None:
    installed = installed_entry(registry, "faulty", f"{__name__}:open_faulty")
    with installed, pytest.raises(ExtensionError, match=f"corpus format faulty{complaint}"):
        check_corpus(f"faulty/{mistake}", lambda done, total: None)
