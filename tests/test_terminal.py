"""Nothing that is printed can steer a terminal, wherever its text came from."""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from simtune.cli.screen import Screen
from simtune.drivers.holder import Holder, lease_file
from simtune.storage.records import record_bytes, write_record
from simtune.sweep.run_files import MANIFEST, Manifest, PlannedTrial
from simtune.tables import TextTable
from simtune.terminal import printable, printable_streams, say, say_json
from simtune.trial.files import FAILURE
from simtune.trial.records import Failure

PACKAGE = Path(__file__).resolve().parents[1] / "simtune"
# Clears the screen, sets the title, writes to the clipboard, makes a link; in seven and in eight bits.
ATTACKS = [
    "\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x1b\\", "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\", "\x9b2J",
    "\x9d0;t\x9c", "\x1bc", "\x08\x08", "\rerror", "\x7f", "\x00", "\u202egnp.exe", "\u2066x\u2069", "\u2028", "\ud800",
]  # fmt: skip
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MARKUP = "[link=http://evil][red]text[/red][/link] [/] [bold"
ALL = "".join(ATTACKS) + MARKUP

texts = st.lists(st.sampled_from(ATTACKS) | st.text(max_size=5), max_size=5).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts)
def test_whatever_is_printed_by_whichever_way_holds_nothing_that_steers(text: str, capsys) -> None:
    with printable_streams():
        say(text)
        say(text, err=True)
        say_json({text: [text]})
        print(text)
        print(text, file=sys.stderr)
        sys.stderr.writelines([text])
        for screen in (Screen(), Screen(err=True)):
            table = TextTable(title=text, caption=text)
            table.add_column(Text(text))
            table.add_row(text)
            rich_table = Table(title=Text(text), caption=Text(text))
            rich_table.add_column(Text(text))
            rich_table.add_row(Text(text, style="link http://evil"))
            screen.print(table, rich_table, Text(text))
            screen.print(text, markup=False)
    out, err = capsys.readouterr()
    assert not STEERING.search(re.sub(r"\x1b\[[0-9;]*m", "", out + err))
    assert "\x1b]8" not in out + err


def test_what_is_harmless_is_printed_as_it_is_and_the_rest_as_python_writes_it() -> None:
    assert printable("質問 é\u0301 👩\u200d🔬 a\tb\nc \xa0") == "質問 é\u0301 👩\u200d🔬 a\tb\nc \xa0"
    assert printable("\x1b[2J\x9b\u202e\ud800\x00\r") == r"\x1b[2J\x9b\u202e\ud800\x00\r"


def test_json_reads_back_as_the_same_value(capsys) -> None:
    value = {ALL: [ALL, 1.5, None]}
    say_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert not STEERING.search(out)


def test_a_table_is_as_wide_as_what_it_shows(capsys) -> None:
    table = TextTable()
    table.add_column("name")
    table.add_row("\x1b[2Jx")
    table.add_row("y")
    Screen().print(table)
    assert len({len(line) for line in capsys.readouterr().out.splitlines() if line.strip()}) == 1


@pytest.fixture
def call(tmp_path: Path, monkeypatch, capsys):
    """The command line in this process: what it prints on both streams."""
    main = importlib.import_module("simtune.cli.main")
    monkeypatch.setattr(main.signals, "install", lambda: None)
    monkeypatch.setattr(main.signals, "ignore", lambda: None)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["simtune", *arguments])
        with pytest.raises(SystemExit):
            main.main()
        return "".join(capsys.readouterr())

    return call


def assert_harmless(printed: str) -> None:
    assert not STEERING.search(printed)
    assert r"\x1b" in printed


def hostile_run(root: Path) -> Path:
    trial = "0123456789abcdef"
    run = root / "runs" / "r"
    manifest = Manifest(
        versions={}, machine="", command=(), commits={}, embeddings=(), grid_points={},
        trials={trial: PlannedTrial(label=f"label {MARKUP} \x1b[2J\x9b", scores={trial: f"suite {MARKUP}"})},
    )  # fmt: skip
    write_record(run / MANIFEST, manifest)
    failure = Failure(
        trial=trial, cause="input", error="ValueError", message=f"reason \x1b]0;x\x07 \u202e{MARKUP}",
        step=None, retry=False, attempts=1, host="h\x1b[2J", log="attempts/1.log",
    )  # fmt: skip
    write_record(root / "runs" / "trials" / trial / FAILURE, failure)
    return run


def test_a_crafted_lease_manifest_and_failure_reach_no_terminal(tmp_path: Path, call) -> None:
    run = hostile_run(tmp_path)
    host = f"host\x1b]0;owned\x07\x9b2J\u202e{MARKUP}"
    holder = Holder(token="t", host=host, process=1, process_started_s=1.0)  # noqa: S106 no secret
    assert lease_file(run).swap(record_bytes(holder), None) is not None
    printed = call("status", str(run))
    assert_harmless(printed)
    assert r"host\x1b]0;owned\x07" in printed.replace("\n", "")
    assert "[link=http://evil]" in printed
    assert_harmless(call("doctor", str(run)) + r"\x1b")
    assert not STEERING.search(call("status", str(run), "--json"))


def test_crafted_names_of_a_corpus_its_splits_and_categories_reach_no_terminal(tmp_path: Path, call) -> None:
    for folder in ("c/tasks", "c/splits/a\x1b[2J"):
        (tmp_path / folder).mkdir(parents=True)
    task = {
        "Definition": ["x"], "Categories": [ALL[:-30].replace("\ud800", "")],
        "Instances": [{"id": "i\x1b[2J", "input": "a", "output": [output]} for output in ("b", "")],
    }  # fmt: skip
    (tmp_path / "c/tasks/t.json").write_text(json.dumps(task))
    (tmp_path / "c/tasks/b\x1b]0;x\x07.json").write_text("{")
    for arguments in (("data", "check", "c"), ("data", "check", "c", "--json"), ("plan", "s.yaml")):
        (tmp_path / "s.yaml").write_text("corpus: {path: c, holdout: {categories: ['x\\e']}}\n")
        assert not STEERING.search(call(*arguments))


def test_crafted_names_in_embeddings_arms_and_files_reach_no_terminal(tmp_path: Path, call) -> None:
    names = [f"{number}{attack}{MARKUP}" for number, attack in enumerate(ATTACKS) if attack != "\ud800"]
    vectors = [[1.0, float(number)] for number in range(len(names))]
    pq.write_table(pa.table({"task": names, "embedding": vectors, "category": names}), tmp_path / "e\x1b[2J.parquet")
    strategy = f'random(label="{chr(0x9B)}2J", exclude=["zz\x1b[2J"])'
    assert_harmless(call("select", "--embeddings", "e\x1b[2J.parquet", "--strategy", strategy, "--sizes", "2"))
    assert_harmless(call("select", "--embeddings", "none\x1b[2J.parquet"))
    assert_harmless(call("recommend", "e\x1b[2J.parquet", "--candidates", "none\x1b]0;x\x07.parquet"))
    assert_harmless(call("plan", "s\x1b[2J.yaml"))
    (tmp_path / "s.yaml").write_text('name: "a\\e[2J"\nmodel: {init: "\\e]0;x\\a\\x9b"}\n')
    assert_harmless(call("plan", "s.yaml"))
    assert_harmless(call("plan", "s.yaml", "--set", "a\x1b[2J=1"))
    assert_harmless(call("status", "runs/\x1b[2J"))


def test_crafted_ids_and_categories_in_files_of_score_reach_no_terminal(tmp_path: Path, call) -> None:
    reference = {"id": "i", "references": ["a"], "task_id": "t\x1b[2J", "task_category": f"c \x1b]0;x\x07 {MARKUP}"}
    (tmp_path / "r.jsonl").write_text(json.dumps(reference))
    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "i", "prediction": "a"}))
    printed = call("score", "--references", "r.jsonl", "--predictions", "p.jsonl", "--track", "default")
    assert not STEERING.search(printed)
    (tmp_path / "p.jsonl").write_text('{"id": "\\u001b[2J"}')
    assert_harmless(call("score", "--references", "r\x1b[2J.jsonl", "--predictions", "p.jsonl"))


def test_nothing_prints_but_through_the_gate() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in {"print", "Console", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"}:
                    found.append(f"{path.relative_to(PACKAGE)}: {ast.unparse(node)[:60]}")
    # Texts of simtune's own: the version, the help, and the last message of a driver that lost its Ray.
    own = ("cli/main.py: typer.echo(__version__)", "cli/main.py: typer.echo(context.get_help())")
    assert [
        line for line in found if line not in own and not line.startswith("executors/ray_head_watch.py: sys.stderr")
    ] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_path_is_a_link_on_a_terminal_and_text_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a b\x1b.html"
    monkeypatch.setenv("TERM", "xterm")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        Screen().print_path("report", path)
        printed = stream.getvalue()
        assert ("]8;id=" in printed and "a%20b%1B.html" in printed) == stream.isatty()
        assert "a b\x1b.html" not in printed
