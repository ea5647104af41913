from __future__ import annotations

from simtune.config import dump_sweep
from simtune.config.settings import Sweep
from simtune.report.settings_table import settings_part


def test_settings_say_what_was_changed_and_what_the_study_leaves_open() -> None:
    sweep = Sweep.model_validate({"name": "a", "training": {"epochs": 7, "dropout": 0.3}})
    part = settings_part(dump_sweep(sweep))
    assert part.table is not None
    notes = {row[0].text: (row[1].text, row[2].text) for row in part.table.rows}
    assert notes["training.epochs"] == ("7", f"default: {Sweep(name='a').training.epochs}")
    assert notes["training.dropout"][1] == "default: null; not stated by the study"
    assert notes["embedding.encoder"][1] == "not stated by the study"
    assert notes["training.batch_size"][1] == ""
    assert "2 differ from the default" in part.summary


def test_every_field_that_the_study_leaves_open_exists() -> None:
    from simtune.config.study import _FIELDS, _SECTIONS
    from simtune.report.settings_table import _flat

    fields = [name for name, _ in _flat(Sweep(name="a").model_dump(mode="json"), "")]
    assert [name for name in _FIELDS if name not in fields] == []
    assert all(any(name.startswith(section) for name in fields) for section in _SECTIONS)


def test_a_file_that_is_no_settings_is_shown_as_it_is() -> None:
    assert settings_part("a: [").table is None
    assert settings_part("a: [").text == "a: ["
