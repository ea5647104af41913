"""Tokens in another format are neither read nor mistaken for the same trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simtune.config import Sweep
from simtune.grid.grid_points import open_tasks
from simtune.grid.prepared_points import prepare_points
from simtune.sweep import jobs, trials
from simtune.sweep.jobs import prepare
from simtune.sweep.trials import make_scores, make_trial


def test_tokens_of_another_format_are_not_used(
    tmp_path: Path, tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (prepared,) = prepare_points(open_tasks(Sweep(**tiny_sweep)))
    trial = make_trial(prepared, "untuned", (), 0)
    (score,) = make_scores(trial)
    fine_tuned = make_trial(prepared, "fine-tune", (prepared.tasks.pool[0].name,), 0)
    tokenised: list[int] = []

    def kept() -> None:
        prepare(prepared, [(prepared, score)], [], tmp_path / "tokens", lambda done, total: tokenised.append(done))

    kept()
    (first,) = (tmp_path / "tokens").glob("[!.]*")
    num_first = len(tokenised)
    kept()
    assert list((tmp_path / "tokens").glob("[!.]*")) == [first]
    again = len(tokenised) - num_first
    for module in (jobs, trials):
        monkeypatch.setattr(module, "TOKENS_FORMAT", jobs.TOKENS_FORMAT + 1)
    kept()
    assert len(tokenised) - num_first - again == num_first > again
    assert len(list((tmp_path / "tokens").glob("[!.]*"))) == 2
    assert make_trial(prepared, "fine-tune", fine_tuned.tasks, 0).id != fine_tuned.id
    assert make_scores(trial)[0].id != score.id
