from __future__ import annotations

from made_report import answered, row, table, task_scores

from simtune.report.results_view import grid_points
from simtune.report.table_metadata import ArmInfo, MetricInfo, ResultsMetadata
from simtune.report.tables import pivot


def test_the_answer_names_winner_distances_and_intervals(rows) -> None:
    said = answered(rows, task_scores(rows))
    assert said.lead == (
        "“different” scored best at 2 of 2 sizes. It can be told apart from every other arm of its size."
    )
    ten, hundred = (text for _, text in said.by_size)
    # different: 26.2 + 0.9 * seed; random: 23.2 + 0.6 * seed.
    assert "with 27.10 (26.20–28.00 over 3 seeds), 3.30 ahead of “random”" in ten
    assert "with other test tasks and seeds the lead is +" in ten
    assert "2.90 below the full pool, 18.10 above “untuned”" in ten
    same = answered([row("different", 10, 0, 20.0), row("full", 50, 0, 20.001), row("Base", None, None, 5.0)])
    assert "Equal to the full pool, 15.00 above “Base”." in same.by_size[0][1]
    assert "1 of 20 trials did not finish" in said.details[-1]
    assert "28.90" in hundred


def test_one_seed_says_nothing_about_other_seeds_and_small_leads_are_uncertain(rows) -> None:
    single = [r for r in rows if r["seed"] in (0, None)]
    said = answered(single, task_scores(single))
    assert said.lead.endswith("One seed: another one may give another order.")
    assert any("it says nothing about other seeds" in text for text in said.details)
    close = [row(arm, 10, s, 20.0 + s + lead) for arm, lead in (("different", 0.1), ("random", 0.0)) for s in (0, 1)]
    assert "so the order is uncertain" in answered(close, task_scores(close)).by_size[0][1]


def test_without_scores_of_single_tasks_nothing_is_said_about_chance(rows) -> None:
    said = answered(rows)
    assert said.lead.endswith("Without the scores of single test tasks, nothing is known about chance.")
    assert "95 %" not in " ".join((*said.details, *(text for _, text in said.by_size)))


def test_where_lower_is_better_the_lowest_arm_is_best() -> None:
    rows = [row("a", 10, 0, 3.0), row("b", 10, 0, 5.0), row("b", 10, 1, 4.0), row("a", 10, 1, 2.0)]
    made = table(rows)
    loss = MetricInfo(name="rouge-l", column="rouge_l", title="loss", unit="nats", digits=1, higher_is_better=False)
    arms = tuple(ArmInfo(name=name, type="strategy") for name in ("b", "a"))
    metadata = ResultsMetadata(arms=arms, metrics=(loss,)).schema_metadata()
    made = made.replace_schema_metadata(metadata)
    said = answered(made, task_scores(rows, spread=1.0))
    assert said.lead.startswith("“a” scored best at 10 tasks.")
    assert "“a” is best with 2.5 (2.0–3.0 over 2 seeds), 2.0 ahead of “b”" in said.by_size[0][1]
    assert "the lead is +1." in said.by_size[0][1]
    (point,) = grid_points(made)
    assert [arm for arm, _ in pivot(point, loss).lines] == ["b", "a"]
