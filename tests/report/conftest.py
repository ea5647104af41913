from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_report import EVIL, row, table, write_manifest

from simtune.storage.files import write_text
from simtune.storage.parquet_files import write_table


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Three arms, two sizes, three seeds, one trial failed, a full pool and a baseline."""
    made = [
        row(arm, size, seed, 20.0 + 3 * i + 0.02 * size + 0.3 * seed * (i + 1))
        for i, arm in enumerate(["similar", "random", "different"])
        for size in (10, 100)
        for seed in (0, 1, 2)
    ]
    made[4] = row("similar", 100, 1, None, error="CUDA out of memory")
    return [*made, row("full", 674, 0, 30.0), row("untuned", None, None, 9.0)]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    def make(made: list[dict[str, Any]]) -> Path:
        run = tmp_path / "run"
        write_table(run / "results.parquet", table(made))
        write_text(run / "sweep.yaml", f"name: {EVIL}\n")
        write_manifest(run, {"versions": {"simtune": EVIL}, "fingerprints": {"corpus": "ab12"}})
        write_table(
            run / "tasks.parquet",
            pa.Table.from_pylist([
                {"task": "t1", "role": "pool", "category": "qa", "num_instances": 5, "reason": "",
                 "reason_group": ""},
                {"task": EVIL, "role": "dropped", "category": EVIL, "num_instances": 1, "reason": EVIL,
                 "reason_group": EVIL},
            ]),
        )  # fmt: skip
        write_table(
            run / "scores.parquet",
            pa.Table.from_pylist([
                {"trial": r["trial"], "score": r["score"], "level": "category", "name": EVIL, "metric": "rouge-l",
                 "value": r["rouge_l"], "is_headline": True, "num_instances": 10}
                for r in made if r["status"] == "done"
            ]),
        )  # fmt: skip
        return run

    return make


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium; tests skip without one."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed (Debian: `apt-get install chromium`)")
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-sync", *quiet]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file in a new context, whose options follow; every message of the browser's console is an error."""
    contexts, messages = [], []

    def open_file(path: Path, **options: Any) -> Any:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(path.resolve().as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert messages == []
