from __future__ import annotations

from made_report import row, table

from simtune.report.answer import answer
from simtune.report.results_view import grid_points
from simtune.report.table_metadata import ArmInfo, MetricInfo, ResultsMetadata
from simtune.report.tables import pivot


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
