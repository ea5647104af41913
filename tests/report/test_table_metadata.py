from __future__ import annotations

import pytest
from made_report import METRICS, table

from simtune.errors import RunError
from simtune.report.build import build_report
from simtune.storage.parquet_files import write_table


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


def test_numbers_that_are_not_finite_are_not_printed() -> None:
    assert [METRICS[0].text(x) for x in (None, float("nan"), 1.005)] == ["–", "–", "1.00"]
