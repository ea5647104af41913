"""The report from small runs: its numbers against brute force, its bytes, and what it must never do."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from simtune.errors import RunError
from simtune.report import render
from simtune.report.answer import answer
from simtune.report.build import build_report
from simtune.report.figures import figure_scores_by_size
from simtune.report.plot_style import arm_styles, spread_out
from simtune.report.pool_tasks import reason_counts
from simtune.report.results_csv import results_csv
from simtune.report.results_view import COLUMNS, grid_points, one_line
from simtune.report.table_metadata import ArmInfo, LineStyle, MetricInfo, ResultsMetadata
from simtune.report.tables import pivot, results_markdown, results_table
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import file_sha256, json_text, write_bytes, write_text
from simtune.storage.parquet_files import write_table

METRICS = tuple(
    MetricInfo(name=name, column=name.replace("-", "_"), title=title, unit="points", digits=2)
    for name, title in (("rouge-l", "ROUGE-L"), ("exact-match", "exact match"))
)
SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("trial", "score", "suite", "arm", "status", "error", "note")]
    + [(n, pa.int64()) for n in COLUMNS if n.startswith("num_") or n in ("size", "seed")]
    + [(n, pa.float64()) for n in COLUMNS if n.startswith(("final", "mean", "max", "cov"))]
    + [(metric.column, pa.float64()) for metric in METRICS]
)
# An order that is neither that of names nor that of rows.
ORDER = ("different", "similar", "random", "full", "untuned")
EVIL = "<script>alert(1)</script>"
HOSTILE = f"""</style></script><img src=x onerror=alert(1)> " onload='1' {EVIL} =cmd()|`x`\r\n| a | b |"""


def row(arm: str, size: int | None, seed: int | None, rouge_l: float | None, **more: Any) -> dict[str, Any]:
    """One trial; without a score it has failed."""
    num_tasks = size or 0
    base = {
        **dict.fromkeys(SCHEMA.names, None),
        **{name: num_tasks for name in COLUMNS if name.startswith("num_")},
        "trial": f"{arm}-{size}-{seed}-{sorted(more.items())}",
        "suite": "test",
        "mean_similarity": 0.2 + 0.001 * num_tasks if size else None,
        "exact_match": rouge_l,
    }
    status = {"status": "failed" if rouge_l is None else "done", "error": "", "note": ""}
    return {
        **base,
        **status,
        "arm": arm,
        "size": size,
        "seed": seed,
        "rouge_l": rouge_l,
        "score": base["trial"],
        **more,
    }


def table(rows: list[dict[str, Any]]) -> pa.Table:
    grid = [(name, pa.string()) for name in sorted({k for r in rows for k in r if "." in k})]
    sizes: dict[str, int | None] = {}
    for made in rows:
        sizes.setdefault(made["arm"], made["size"])
    names = sorted(sizes, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    arms = tuple(ArmInfo(name=name, type=type_of(name, sizes[name])) for name in names)
    metadata = ResultsMetadata(arms=arms, metrics=METRICS).schema_metadata()
    return pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *grid], metadata=metadata))


def type_of(name: str, size: int | None) -> Any:
    return "full" if name == "full" else "baseline" if size is None else "strategy"


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


def write_manifest(run: Path, fields: dict[str, Any]) -> None:
    write_bytes(run / "manifest.json", checksummed_json(json_text(fields)))


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
                {"task": "t1", "role": "pool", "category": "qa", "num_instances": 5, "reason": ""},
                {"task": EVIL, "role": "dropped", "category": EVIL, "num_instances": 1, "reason": EVIL},
            ]),
        )  # fmt: skip
        write_table(
            run / "scores.parquet",
            pa.Table.from_pylist([
                {"trial": r["trial"], "score": r["score"], "level": "category", "name": EVIL, "metric": "rouge-l",
                 "value": r["rouge_l"], "is_headline": True}
                for r in made if r["status"] == "done"
            ]),
        )  # fmt: skip
        return run

    return make


class Tags(HTMLParser):
    """Collects start tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_rebuild_is_byte_identical_whatever_the_order_of_rows(rows, make_run) -> None:
    run = make_run(rows)
    build_report(run)
    first = {path: file_sha256(path) for path in sorted(run.rglob("*")) if path.is_file()}
    del first[run / "results.parquet"]
    names = {str(path.relative_to(run)) for path in first}
    figures = {f"report/figures/{n}.{e}" for n in ("scores_by_size", "similarity_by_size") for e in ("svg", "png")}
    assert names >= {"results.csv", "results.md", "report/results.csv", "report/index.html"} | figures
    write_table(run / "results.parquet", table(rows[::-1]))
    build_report(run)
    assert {path: file_sha256(path) for path in first} == first


def test_numbers_equal_a_brute_force_computation(rows) -> None:
    (point,) = grid_points(table(rows))
    shape = pivot(point, point.headline)
    headings = [(heading.size, heading.label) for heading in shape.columns]
    assert headings == [(0, "0"), (10, "10"), (100, "100"), (674, "674")]
    assert [arm for arm, _ in shape.lines] == ["different", "similar", "random", "full", "untuned"]
    for arm, entries in shape.lines:
        for heading, shown in zip(shape.columns, entries, strict=True):
            own = [r for r in rows if r["arm"] == arm and (r["size"] or 0) == heading.size]
            values = [r["rouge_l"] for r in own if r["status"] == "done"]
            if not own:
                assert shown is None
                continue
            assert shown is not None
            assert shown.mean == f"{fmean(values):.2f}"
            assert shown.spread == (f"{min(values):.2f}–{max(values):.2f}" if len(values) > 1 else "")
            assert shown.seeds == (f"{len(values)}/{len(own)} seeds" if len(values) < len(own) else "")
            assert shown.is_best == (arm == "different" and heading.size in (10, 100))


def test_the_same_trial_under_two_seeds_is_one_measurement() -> None:
    twice = [row("different", 10, seed, 20.0, trial="same") for seed in (0, 1)]
    (point,) = grid_points(table(twice))
    assert pivot(point, point.headline).lines[0][1][0].spread == ""


def test_the_answer_names_winner_distances_and_uncertainty(rows) -> None:
    (point,) = grid_points(table(rows))
    said = answer(point)
    assert said.lead == "“different” scored best at 2 of 2 sizes."
    ten, hundred = (text for _, text in said.by_size)
    # different: 26.2 + 0.9 * seed; random: 23.2 + 0.6 * seed.
    assert "with 27.10 (26.20–28.00 over 3 seeds), 3.30 ahead of “random”" in ten
    assert "their seeds do not overlap" in ten
    assert "2.90 below the full pool, 18.10 above “untuned”" in ten
    made = [row("different", 10, 0, 20.0), row("full", 50, 0, 20.001), row("Base", None, None, 5.0)]
    (same,) = grid_points(table(made))
    assert "Equal to the full pool, 15.00 above “Base”." in answer(same).by_size[0][1]
    assert "1 of 20 trials did not finish" in said.details[-1]
    assert "6.7 times fewer tasks" in said.details[0]
    assert "28.90" in hundred


def test_one_seed_is_reported_as_no_uncertainty_and_overlap_as_uncertain(rows) -> None:
    (single,) = grid_points(table([r for r in rows if r["seed"] in (0, None)]))
    assert any("no estimate of uncertainty" in text for text in answer(single).details)
    close = [row(arm, 10, s, 20.0 + s + lead) for arm, lead in (("different", 0.1), ("random", 0.0)) for s in (0, 1)]
    (point,) = grid_points(table(close))
    assert "the order is uncertain" in answer(point).by_size[0][1]


def test_trials_that_did_not_finish_are_visible_everywhere(rows, make_run) -> None:
    rows[3] = row("similar", 100, 0, None, status="missing")
    rows[5] = row("similar", 100, 2, None)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(results_table(table(rows)))
    terminal = console.export_text()
    # The caption wraps at the table's width.
    assert "similar, size 100, seed 1: failed (CUDA out of memory)" in " ".join(terminal.split())
    run = make_run(rows)
    html = build_report(run).read_text()
    assert "similar, size 100, seed 1: failed (CUDA out of memory)" in html
    assert "Left out: 3 trials (2 failed, 1 missing)." in html
    assert '<td class="unfinished">failed + missing</td>' in html
    assert "CUDA out of memory" in (run / "results.md").read_text()


def test_the_best_of_a_size_is_marked_by_a_character_where_no_bold_can_be_seen(rows) -> None:
    plain, styled = (Console(width=120, file=io.StringIO(), record=True) for _ in range(2))
    plain.print(results_table(table(rows), is_styled=False))
    styled.print(results_table(table(rows)))
    marked, bold = plain.export_text(), styled.export_text()
    assert "*: best mean of a size." in marked
    assert "Bold: best mean of a size." in bold
    assert marked.count("*") > 1
    assert "*" not in bold


def test_grid_points_never_mix_and_each_has_the_shared_baselines() -> None:
    made = [
        row(arm, 10, 0, score + lead, **{"model.name": model, "encoding.positive": "2"})
        for model, score in (("small", 20.0), ("base", 40.0))
        for arm, lead in (("different", 1.0), ("random", 0.0))
    ]
    made.append(row("copy-input", None, None, 14.2, **{"encoding.positive": "2"}))
    points = grid_points(table(made))
    # A setting that does not differ is not in the titles.
    assert [p.title for p in points] == ["model.name = base", "model.name = small"]
    assert [[c.mean("rouge_l") for c in p.cells] for p in points] == [[41.0, 40.0, 14.2], [21.0, 20.0, 14.2]]


def test_text_of_a_run_cannot_become_markup(rows, make_run) -> None:
    rows[0] |= {"arm": EVIL, "note": EVIL, "size": 50}
    rows[4] |= {"error": f"{EVIL} \x1b[31m $\\frac$"}
    page = build_report(make_run(rows)).read_text()
    tags = Tags()
    tags.feed(page)
    names = {name for name, _ in tags.found}
    assert names.isdisjoint({"script", "link", "iframe", "object", "svg", "form"})
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    policy = next(a["content"] for n, a in tags.found if a.get("http-equiv") == "Content-Security-Policy")
    (sheet,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    rules = ("default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'", "base-uri 'none'")
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
    reason = {"task": HOSTILE, "role": "dropped", "category": HOSTILE, "num_instances": 1, "reason": HOSTILE}
    write_table(run / "tasks.parquet", pa.Table.from_pylist([reason]))
    write_text(run / "sweep.yaml", HOSTILE)
    write_manifest(run, {HOSTILE: {"x": HOSTILE}, "command": [HOSTILE], "trials": {"t": HOSTILE}})
    run = run.rename(run.parent / "<i onload=x>")
    page = build_report(run).read_text()
    tags = Tags()
    tags.feed(page)
    # A page without scripts, with its own images only and one style sheet cannot have run anything.
    names = [name for name, _ in tags.found]
    assert (names.count("img"), names.count("style"), names.count("script"), names.count("i")) == (2, 1, 0, 0)
    assert {key for _, attributes in tags.found for key in attributes}.isdisjoint({"onerror", "onload", "style"})
    lines = (run / "results.md").read_text().splitlines()
    assert len(lines) == len(rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    read = list(csv.DictReader(io.StringIO((run / "results.csv").read_text(), newline="")))
    assert len(read) == len(rows)
    assert all(None not in line for line in read)


def test_no_template_switches_escaping_off() -> None:
    templates = sorted((Path(render.__file__).parent / "templates").rglob("*.*"))
    assert len(templates) > 8
    for path in templates:
        assert not re.search(r"\bsafe\b|autoescape|forceescape", path.read_text()), path.name


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n=", " =", "＝", "\u200b="])
def test_csv_guards_formulas_but_not_numbers(start: str) -> None:
    made = row("different", 10, 0, -1.5, note=f"{start}cmd()", **{"training.shift": "-0.5"})
    text = results_csv(table([made]))
    (read,) = csv.DictReader(io.StringIO(text, newline=""))
    assert read["note"] == f"'{start}cmd()"
    assert (read["rouge_l"], read["training.shift"]) == ("-1.5", "-0.5")


def test_markdown_keeps_one_line_a_row(rows) -> None:
    rows[0]["note"] = "a | b\n<b>*c*</b>"
    lines = results_markdown(table(rows)).splitlines()
    assert len(lines) == len(rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "a \\| b &lt;b&gt;\\*c\\*&lt;/b&gt;" in "".join(lines)


@pytest.mark.parametrize(
    "keep",
    [
        lambda _: False,
        lambda r: r["size"] is None,
        lambda r: r["status"] == "failed",
        lambda r: r["size"] == 10 and r["seed"] == 0,
    ],
    ids=["no rows", "baseline only", "nothing finished", "one size, one seed"],
)
def test_small_runs_build(rows, make_run, keep) -> None:
    run = make_run(rows)
    write_table(run / "results.parquet", table([r for r in rows if keep(r)]))
    assert build_report(run).exists()


def test_a_run_without_results_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"results\.parquet.*`simtune run`"):
        build_report(tmp_path)


def test_a_table_of_another_version_names_the_column(make_run, rows) -> None:
    run = make_run(rows)
    write_table(run / "results.parquet", table(rows).drop_columns(["coverage"]))
    with pytest.raises(RunError, match="no column coverage"):
        build_report(run)


def test_tables_of_a_later_release_are_refused(make_run, rows) -> None:
    run = make_run(rows)
    write_table(run / "results.parquet", table(rows).replace_schema_metadata({b"simtune.schema": b"99"}))
    with pytest.raises(RunError, match="schema '99', this simtune reads 1"):
        build_report(run)


@pytest.mark.parametrize("described", [b"", b"{}", b'{"arms": [], "metrics": []}', b"[1]"])
def test_a_table_that_does_not_describe_its_arms_and_metrics_is_refused(make_run, rows, described) -> None:
    run = make_run(rows)
    metadata = {b"simtune.schema": b"1", b"simtune.results": described}
    write_table(run / "results.parquet", table(rows).replace_schema_metadata(metadata))
    with pytest.raises(RunError, match=r"results\.parquet: schema metadata 'simtune\.results'"):
        build_report(run)


def test_where_lower_is_better_the_lowest_arm_is_best() -> None:
    made = table([row("a", 10, 0, 3.0), row("b", 10, 0, 5.0), row("b", 10, 1, 4.0), row("a", 10, 1, 2.0)])
    loss = MetricInfo(name="loss", column="rouge_l", title="loss", unit="nats", digits=1, higher_is_better=False)
    arms = tuple(ArmInfo(name=name, type="strategy") for name in ("b", "a"))
    metadata = ResultsMetadata(arms=arms, metrics=(loss,)).schema_metadata()
    (point,) = grid_points(made.replace_schema_metadata(metadata))
    said = answer(point)
    assert said.lead == "“a” scored best at 10 tasks."
    assert (
        "“a” is best with 2.5 (2.0–3.0 over 2 seeds), 2.0 ahead of “b”; their seeds do not overlap"
        in (said.by_size[0][1])
    )
    assert [arm for arm, _ in pivot(point, loss).lines] == ["b", "a"]


def test_each_grid_point_is_about_the_first_metric_that_was_scored_there() -> None:
    made = [
        row(arm, size, 0, score + size / 10, exact_match=score / 2, **{"training.x": "generate"})
        for arm, score in (("a", 20.0), ("b", 30.0)) for size in (10, 20)
    ]  # fmt: skip
    made += [made[i] | {"rouge_l": None, "exact_match": 70.0 + i, "training.x": "rank"} for i in range(4)]
    points = grid_points(table(made))
    assert [point.headline.title for point in points] == ["ROUGE-L", "exact match"]
    assert [metric.column for metric in points[1].metrics] == ["exact_match"]
    assert answer(points[1]).lead == "“b” scored best at 2 of 2 sizes."
    plot = figure_scores_by_size(table(made))
    assert [axes.get_ylabel() for axes in plot.figure.axes] == ["ROUGE-L", "exact match"]
    low, high = plot.figure.axes[1].get_ylim()
    assert 60 < low < 70.0
    assert 73.0 < high < 80
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(results_table(table(made)))
    text = console.export_text()
    assert "Scores by number of training tasks" in text
    assert "73.00" in text


def test_labels_keep_their_order_and_distance() -> None:
    placed = spread_out([50.0, 51.0, 10.0, 99.0], 10.0, 0.0, 100.0)
    assert placed == [45.5, 55.5, 10.0, 99.0]
    assert spread_out([100.0, 100.0], 10.0, 0.0, 100.0) == [90.0, 100.0]


def test_an_arm_keeps_its_colour_when_others_join() -> None:
    own = {"different": LineStyle(colour="#0072b2", marker="o"), "similar": LineStyle(colour="#d55e00", marker="s")}
    alone = arm_styles(["max-min", "different"], own)
    assert alone["different"] == ("#0072b2", "o")
    assert alone.items() <= arm_styles(["different", "similar", "max-min", "random"], own).items()


def test_two_arms_of_one_strategy_have_different_lines() -> None:
    style = LineStyle(colour="#0072b2", marker="o")
    styles = arm_styles(["a", "b"], {"a": style, "b": style})
    assert styles["a"] == ("#0072b2", "o") != styles["b"]


def test_reasons_that_differ_in_a_number_are_counted_together() -> None:
    reasons = ["29 instances, fewer than 100", "3 instances, fewer than 100", "no instances"]
    assert reason_counts(reasons) == [("… instances, fewer than 100", 2), ("no instances", 1)]


def test_numbers_that_are_not_finite_are_not_printed() -> None:
    assert [METRICS[0].text(x) for x in (None, float("nan"), 1.005)] == ["–", "–", "1.00"]


def test_importing_the_report_does_not_load_matplotlib() -> None:
    code = "import sys, simtune.report.build; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("limit", [12, 20, 28, 60])
def test_shortened_labels_keep_the_mark_of_an_oracle(limit: int) -> None:
    name = "near-target(by=coverage, per_category_cap=3) (oracle)"
    cut = one_line(name, limit)
    assert len(cut) <= limit
    assert cut.endswith(" (oracle)")
    assert one_line("x" * 80, limit) == "x" * (limit - 1) + "…"
