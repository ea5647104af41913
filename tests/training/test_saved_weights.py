"""Saved weights: which epochs, complete or absent, and the same after an interruption."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checkpoints import BUILD, CutError, at
from test_loop import PAD, VOCABULARY, made, settings
from tokenizers import Tokenizer, models, pre_tokenizers

from simtune.errors import DiskFullError, LeaseLostError
from simtune.prompting.tokenizer import EOS, TextTokenizer
from simtune.storage.complete_folder import files_match, read_marker
from simtune.storage.files import AnyPath, as_path, child_names, files_below
from simtune.training.checkpoints import Checkpoints
from simtune.training.engine import single_process_world
from simtune.training.history import TrainingHistory
from simtune.training.loop import ScoreEpoch, TrainingHooks, TrainingJob, TrainingLog, fine_tune
from simtune.training.saved_weights import SavedWeights, WeightsMarker, epochs_to_keep, missing_epochs

WORDS = {"<pad>": PAD, EOS: 1, **{f"w{number}": number for number in range(2, VOCABULARY)}}


def tokenizer() -> TextTokenizer:
    words = Tokenizer(models.WordLevel(WORDS))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return TextTokenizer(words, PAD, 1, "test")


def train(
    trial: AnyPath,
    keep: Any,
    checkpoints: Checkpoints | None = None,
    cut_at: int | None = None,
    check: Callable[[], None] = lambda: None,
    score_epoch: ScoreEpoch | None = None,
    **changes: Any,
) -> tuple[Any, TrainingLog]:
    def on_step(done: int, total: int, loss: float) -> None:
        if done == cut_at:
            raise CutError

    training = settings(epochs=3, **changes)
    saved = SavedWeights(trial / "weights", keep, "t", tokenizer(), check)
    world = single_process_world()
    job = TrainingJob(made(), np.arange(22), training, 2, 5, PAD)
    return fine_tune(BUILD, job, world, TrainingHooks(on_step, score_epoch, checkpoints, saved))


def test_in_an_object_store_an_interrupted_training_ends_and_saves_as_on_a_disk(
    s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    trial = as_path(s3_storage) / "trials" / "t"
    _, undisturbed = train(tmp_path, "all")
    with pytest.raises(CutError):
        train(trial, "all", at(trial / "checkpoints"), cut_at=5)
    (checkpoint,) = child_names(trial / "checkpoints")
    # An incomplete checkpoint, newer than the complete one.
    (trial / "checkpoints" / "step-9" / "weights").write_bytes(b"half")
    _, log = train(trial, "all", at(trial / "checkpoints"))
    assert log.losses.tobytes() == undisturbed.losses.tobytes()
    kept = files_below(trial, "weights/**/*")
    assert {name: path.read_bytes() for name, path in kept.items()} == files(tmp_path)
    assert checkpoint not in child_names(trial / "checkpoints")
    # What torch compiles stays; nothing of ours does.
    assert [path.name for path in (tmp_path / "scratch").iterdir() if not path.name.startswith("torchinductor")] == []


def names(trial: Path) -> list[str]:
    """The saved epochs, each of them complete."""
    found = sorted((trial / "weights").iterdir())
    for path in found:
        marker = read_marker(path, WeightsMarker)
        assert marker is not None, path
        assert files_match(path, marker.files), path
    return [path.name for path in found]


def files(trial: Path) -> dict[str, bytes]:
    paths = (path for path in (trial / "weights").rglob("*") if path.is_file())
    return {path.relative_to(trial).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("keep", "losses", "kept"),
    [
        ("none", [2.0, 1.0, 3.0], ()),
        ("last", [2.0, 1.0], ()),
        ("last", [2.0, 1.0, 3.0], (3,)),
        ("best", [2.0], (1,)),
        ("best", [2.0, 1.0, 1.0], (2,)),
        ("all", [2.0, 1.0], (1, 2)),
        ("all", [], ()),
    ],
)
def test_which_epochs_are_kept(keep: Any, losses: list[float], kept: tuple[int, ...]) -> None:
    assert epochs_to_keep(keep, losses, 3) == kept


def test_the_best_epoch_has_the_highest_score_or_else_the_lowest_loss() -> None:
    losses = [3.0, 2.0, 1.0]
    assert epochs_to_keep("best", losses, 3, [0.5, 0.7, 0.6]) == (2,)
    assert epochs_to_keep("best", losses, 3, [0.0, 0.0, 0.0]) == (3,)
    assert epochs_to_keep("best", [2.0, 1.0, 1.0], 3, [0.7, 0.7, 0.7]) == (2,)
    assert epochs_to_keep("best", losses, 3, [0.5, None, 0.7]) == (3,)
    assert epochs_to_keep("best", losses[:1], 3, [0.5]) == (1,)
    assert epochs_to_keep("all", losses, 3, [0.5, 0.7, 0.6]) == (1, 2, 3)


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_scores_choose_the_best_epoch_change_no_loss_and_outlive_an_interruption(
    tmp_path: Path, zero_stage: int
) -> None:
    _, undisturbed = train(tmp_path / "none", "none", zero_stage=zero_stage)
    seen: list[dict[str, Any]] = []

    def score_epoch(model: Any) -> float:
        assert not model.training
        torch.rand(7)
        seen.append({name: weights.clone() for name, weights in model.state_dict().items()})
        return [3.0, 1.0, 2.0][len(seen) - 1]

    with pytest.raises(CutError):
        # In the last epoch, after a checkpoint.
        train(tmp_path, "best", at(tmp_path / "steps"), 8, score_epoch=score_epoch, zero_stage=zero_stage)
    assert len(seen) == 2
    _, log = train(tmp_path, "best", at(tmp_path / "steps"), score_epoch=score_epoch, zero_stage=zero_stage)
    assert log.score_by_epoch == (3.0, 1.0, 2.0)
    assert log.losses.tobytes() == undisturbed.losses.tobytes()
    assert names(tmp_path) == ["epoch-1"]
    assert missing_epochs(tmp_path, "t", "best", log.loss_by_epoch, log.score_by_epoch) == []
    assert missing_epochs(tmp_path, "t", "best", log.loss_by_epoch) != []
    from transformers import AutoModelForSeq2SeqLM

    weights = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "weights/epoch-1").state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in seen[0].items())


@pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "fp32"), (3, "bf16")])
def test_saving_weights_changes_no_bit_and_a_saved_folder_is_the_model(
    tmp_path: Path, zero_stage: int, precision: str
) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    plain, undisturbed = train(tmp_path / "none", "none", zero_stage=zero_stage, precision=precision)
    model, log = train(tmp_path, "all", zero_stage=zero_stage, precision=precision)
    assert log.losses.tobytes() == undisturbed.losses.tobytes()
    assert names(tmp_path) == ["epoch-1", "epoch-2", "epoch-3"]
    assert sorted(path.name for path in (tmp_path / "weights/epoch-3").iterdir()) == [
        "complete.json",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    final = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "weights/epoch-3", dtype="auto").state_dict()
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, plain.state_dict()[name])
        assert torch.equal(weights, final[name])
        assert weights.dtype == final[name].dtype
    first = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "weights/epoch-1", dtype="auto").state_dict()
    assert not torch.equal(first["shared.weight"], final["shared.weight"])
    read = AutoTokenizer.from_pretrained(tmp_path / "weights/epoch-3")
    assert read("w5 w9").input_ids == tokenizer().encode_batch(["w5 w9"])[0]
    assert (read.pad_token_id, read.eos_token_id) == (PAD, 1)


@pytest.mark.parametrize("keep", ["last", "best", "all"])
@pytest.mark.parametrize("cut_at", [2, 4, 6, 9])
def test_an_interrupted_training_ends_with_the_same_saved_weights(tmp_path: Path, keep: str, cut_at: int) -> None:
    # Epochs end at steps 3, 6 and 9.
    train(tmp_path / "one", keep)
    with pytest.raises(CutError):
        train(tmp_path / "two", keep, at(tmp_path / "steps"), cut_at)
    train(tmp_path / "two", keep, at(tmp_path / "steps"))
    assert files(tmp_path / "two") == files(tmp_path / "one") != {}


def test_a_training_starts_over_if_a_saved_epoch_is_missing_or_from_another_training(tmp_path: Path) -> None:
    train(tmp_path / "one", "all")
    wanted = files(tmp_path / "one")

    def cut(trial: Path, keep: str) -> Path:
        with pytest.raises(CutError):
            train(trial, keep, at(trial / "steps"), 8)
        return trial

    def resumed_from(trial: Path) -> int:
        steps: list[int] = []

        class Seen(Checkpoints):
            def resume(self, *rest: Any) -> TrainingHistory:
                history = super().resume(*rest)
                steps.append(len(history.losses))
                return history

        train(trial, "all", Seen(trial / "steps", 0.0, {}))
        assert files(trial) == wanted
        return steps[0]

    assert resumed_from(cut(tmp_path / "whole", "all")) == 7
    # What was not saved from the start cannot be saved from a later step.
    assert resumed_from(cut(tmp_path / "none", "none")) == 0
    damaged = cut(tmp_path / "damaged", "all")
    path = damaged / "weights/epoch-1/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert resumed_from(damaged) == 0
    other = cut(tmp_path / "other", "all")
    shutil.rmtree(other / "weights")
    train(other, "all", learning_rate=1e-4)
    assert resumed_from(other) == 0


def test_leftovers_of_an_earlier_attempt_do_not_count(tmp_path: Path) -> None:
    train(tmp_path, "all", learning_rate=1e-4)
    with pytest.raises(CutError):
        train(tmp_path, "all", cut_at=4)
    assert names(tmp_path) == ["epoch-1"]
    (tmp_path / "weights/.epoch-2.left.tmp").mkdir()
    train(tmp_path, "last")
    assert names(tmp_path) == ["epoch-3"]
    assert missing_epochs(tmp_path, "t", "last", [3.0, 2.0, 1.0]) == []
    assert missing_epochs(tmp_path, "t", "all", [3.0, 2.0, 1.0]) == [1, 2]
    assert missing_epochs(tmp_path, "another", "last", [3.0, 2.0, 1.0]) == [3]
    train(tmp_path, "none")
    assert names(tmp_path) == []


def test_nothing_partial_has_a_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    real = PreTrainedTokenizerFast.save_pretrained

    def cut(self: Any, folder: Path, **rest: Any) -> None:
        real(self, folder, **rest)
        raise CutError

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", cut)
    with pytest.raises(CutError):
        train(tmp_path, "all")
    assert names(tmp_path) == []

    def lost() -> None:
        raise LeaseLostError("lost")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", lambda *_, **__: pytest.fail("written without a lease"))
    with pytest.raises(LeaseLostError):
        train(tmp_path, "all", check=lost)
    assert names(tmp_path) == []


@pytest.mark.fault
@pytest.mark.parametrize("leave", [0, 8_000, 40_000])
def test_a_full_disk_is_named_and_leaves_the_epochs_before(small_disk: Path, leave: int) -> None:
    train(small_disk / "other", "all")
    wanted = files(small_disk / "other")

    filler = small_disk / "filler"

    def fill() -> None:
        if (small_disk / "weights/epoch-1").exists() and not filler.exists():
            filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - leave))

    with pytest.raises(DiskFullError, match=r"weights/epoch-2: no space left \(0 MiB free"):
        train(small_disk, "all", check=fill)
    assert names(small_disk) == ["epoch-1"]
    filler.unlink()
    train(small_disk, "all")
    assert files(small_disk) == wanted
