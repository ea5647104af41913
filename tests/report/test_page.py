"""Whatever a run is called and says, its page shows it as text, and runs the package's own scripts alone."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
from made_report import EVIL, write_manifest

from simtune.report.build import build_report
from simtune.report.charts.vega import library
from simtune.report.page import render
from simtune.report.page.render import SCRIPTS
from simtune.report.results_view import clean
from simtune.storage.files import write_text
from simtune.storage.parquet_files import write_table

HOSTILE = f"""</style></script><img src=x onerror=alert(1)> " onload='1' {EVIL} =cmd()|`x`\r\n| a | b |"""


class Tags(HTMLParser):
    """Collects start tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(name: str) -> str:
    return (Path(render.__file__).parent / "assets" / name).read_text()


def test_text_of_a_run_cannot_become_markup(rows, make_run) -> None:
    rows[0] |= {"arm": EVIL, "note": EVIL, "size": 50}
    rows[4] |= {"error": f"{EVIL} \x1b[31m $\\frac$"}
    page = build_report(make_run(rows)).read_text()
    tags = Tags()
    tags.feed(page)
    names = {name for name, _ in tags.found}
    assert names.isdisjoint({"link", "iframe", "object", "embed", "form", "base"})
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    policy = next(a["content"] for n, a in tags.found if a.get("http-equiv") == "Content-Security-Policy")
    (sheet,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert scripts == [library(), *(asset(name) for name in SCRIPTS)]
    allowed = " ".join(["script-src", *map(digest, scripts)])
    rules = ("default-src 'none'", "img-src data:", f"style-src {digest(sheet)}", allowed, "base-uri 'none'")
    assert policy == "; ".join((*rules, "form-action 'none'"))
    for name, attributes in tags.found:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        assert (attributes.get("src") or "data:").startswith("data:image/svg+xml;base64,"[:5])
        assert (attributes.get("href") or "#").startswith("#")
        assert name != "img" or attributes["alt"]


def test_hostile_text_in_every_field_stays_text(rows, make_run) -> None:
    for place in rows:
        place |= {"arm": HOSTILE, "note": HOSTILE, 'training."><i>': HOSTILE}
    rows[4] |= {"error": HOSTILE, "status": "failed"}
    run = make_run(rows)
    dropped = dict.fromkeys(("task", "category", "reason", "reason_group"), HOSTILE)
    write_table(run / "tasks.parquet", pa.Table.from_pylist([dropped | {"role": "dropped", "num_instances": 1}]))
    write_text(run / "sweep.yaml", HOSTILE)
    write_manifest(run, {HOSTILE: {"x": HOSTILE}, "command": [HOSTILE], "trials": {"t": HOSTILE}})
    run = run.rename(run.parent / "<i onload=x>")
    page = build_report(run).read_text()
    tags = Tags()
    tags.feed(page)
    names = [name for name, _ in tags.found]
    # The page's own: the library, its scripts, and its data, which are not run.
    assert names.count("script") == 2 + len(SCRIPTS)
    assert (names.count("style"), names.count("i")) == (1, 0)
    data = re.search('<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert json.loads(data[1])["arms"][0]["name"] == clean(HOSTILE)
    assert {key for _, attributes in tags.found for key in attributes}.isdisjoint({"onerror", "onload", "style"})
    lines = (run / "results.md").read_text().splitlines()
    assert len(lines) == len(rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    read = list(csv.DictReader(io.StringIO((run / "results.csv").read_text(), newline="")))
    assert len(read) == len(rows)
    assert all(None not in line for line in read)
