"""The tokenizer of ROUGE-L that a suite names: found before anything runs, and known by what is in it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import ByteLevelBPETokenizer

from simtune.config import Sweep, load_sweep
from simtune.corpus.demo import demo_tasks
from simtune.errors import ModelError
from simtune.grid.grid_points import open_tasks
from simtune.grid.prepared_points import prepare_points
from simtune.inspection.doctor import diagnose
from simtune.planning.plan import plan_sweep
from simtune.progress import Quiet
from simtune.sweep.jobs import prepare
from simtune.sweep.trials import make_scores, make_trial
from sweeps import run


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Files of the kind of GPT-2's first release; more pieces are longer ones, which match less often."""
    tokenizer = ByteLevelBPETokenizer()
    texts = [task["Instances"][0]["input"] for task in demo_tasks().values()]
    tokenizer.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=1, show_progress=False)
    folder.mkdir(exist_ok=True)
    tokenizer.save_model(str(folder))


@pytest.fixture
def copying(tiny_sweep: dict[str, Any]) -> dict[str, Any]:
    """A sweep that trains nothing."""
    tiny_sweep["selection"] = {"strategies": [], "sizes": [2], "seeds": [0]}
    tiny_sweep["baselines"] = ["copy-input"]
    return tiny_sweep


def of_tokens(fields: dict[str, Any], *overrides: str) -> tuple[str, float, int]:
    """The score's id and value on the suite with a tokenizer, and how many trials were run for it."""
    outcome = run(fields, *overrides)
    (row,) = (row for row in outcome.results.to_pylist() if row["suite"] == "tokens" and row["arm"] == "copy-input")
    return row["score"], row["rouge_l"], outcome.num_run


def test_a_changed_tokenizer_gives_another_score_and_a_moved_one_the_same(
    copying: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    write_tokenizer(folder, 257)
    copying["evaluation"]["suites"] = [{"name": "tokens", "rouge_tokenizer": str(folder)}]
    score, value, _ = of_tokens(copying)
    assert of_tokens(copying) == (score, value, 0)
    write_tokenizer(folder, 1500)
    changed, other, num_run = of_tokens(copying)
    assert (changed != score, other != value, num_run) == (True, True, 1)
    folder = folder.rename(tmp_path / "elsewhere")
    copying["evaluation"]["suites"][0]["rouge_tokenizer"] = str(folder)
    assert of_tokens(copying) == (changed, other, 0)


def test_doctor_computes_scores_again_from_any_folder_and_blames_no_result_for_an_absent_tokenizer(
    copying: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokenizer(tmp_path / "tokenizer", 257)
    monkeypatch.chdir(tmp_path)
    copying["grid"] = {
        "evaluation.suites": [
            [{"name": "test"}],
            [{"name": "test"}, {"name": "tokens", "rouge_tokenizer": "tokenizer"}],
        ]
    }
    run_directory = run(copying).run_directory
    monkeypatch.chdir("/")
    diagnosis = diagnose(run_directory, Quiet())
    assert (diagnosis.findings, diagnosis.notes) == ((), ())
    shutil.rmtree(tmp_path / "tokenizer")
    diagnosis = diagnose(run_directory, Quiet())
    assert diagnosis.findings == ()
    (note,) = diagnosis.notes
    assert note.startswith(
        "1 score was not computed again: the rouge_tokenizer that made it is not at hand "
        f"(evaluation.suites.1.rouge_tokenizer: {tmp_path}/tokenizer: no such folder"
    )
    write_tokenizer(tmp_path / "tokenizer", 300)
    diagnosis = diagnose(run_directory, Quiet())
    assert (diagnosis.findings, "its files have changed" in diagnosis.notes[0]) == ((), True)


def test_a_tokenizer_that_cannot_be_loaded_is_refused_by_plan_and_run_before_anything_is_written(
    copying: dict[str, Any], tmp_path: Path
) -> None:
    copying["evaluation"]["suites"] = [{"name": "a"}, {"name": "tokens", "rouge_tokenizer": "/nowhere/gpt2"}]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tokenizer.json").write_text("{}")
    for name, problem in (
        ("/nowhere/gpt2", "/nowhere/gpt2: no such folder"),
        (str(damaged), f"cannot load '{damaged}', a tokenizer for ROUGE-L"),
    ):
        copying["evaluation"]["suites"][1]["rouge_tokenizer"] = name
        with pytest.raises(ModelError) as of_run:
            run(copying)
        with pytest.raises(ModelError) as of_plan:
            plan_sweep(load_sweep(Path(copying["storage"]) / "sweep-file.yaml"))
        for caught in (of_run, of_plan):
            assert str(caught.value).startswith(f"evaluation.suites.1.rouge_tokenizer: {problem}")
            # Options of another command.
            assert "--" not in str(caught.value)
    assert not (Path(copying["storage"]) / "tiny").exists()


def test_workers_get_the_tokenizer_and_not_its_path(tiny_sweep: dict[str, Any], tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer", 300)
    suites = [{"name": "tokens", "rouge_tokenizer": str(tmp_path / "tokenizer")}]
    tiny_sweep["evaluation"] |= {"suites": suites}
    (prepared,) = prepare_points(open_tasks(Sweep(**tiny_sweep)))
    (score,) = make_scores(make_trial(prepared, "untuned", (), 0))
    shared = prepare(prepared, [(prepared, score)], [], tmp_path / "cache", lambda done, total: None)
    shutil.rmtree(tmp_path / "tokenizer")
    arrived = pickle.loads(pickle.dumps(shared)).rouge_tokenizers
    assert "".join(arrived[score.identity["rouge_tokenizer"]]("a cat")) == "acat"
