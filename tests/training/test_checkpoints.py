"""An interrupted training continues as if nothing had happened, and never from an incomplete checkpoint."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_loop import CONFIG, PAD, made, settings

from simtune.errors import DiskFullError, RunError
from simtune.planning.disk_estimate import checkpoint_bytes
from simtune.storage.complete_folder import read_marker, write_marker
from simtune.storage.files import file_sha256
from simtune.training.checkpoints import CheckpointMarker, Checkpoints
from simtune.training.engine import single_process_world
from simtune.training.families.t5 import T5
from simtune.training.loop import TrainingHooks, TrainingJob, TrainingLog, fine_tune
from simtune.training.model import ResolvedModel, build_model

# With dropout: the random state is part of what must come back.
BUILD = partial(build_model, ResolvedModel("t5", {**CONFIG, "dropout_rate": 0.3}, "", None, "test"), 0, None)


class CutError(Exception):
    pass


def train(training: Any, checkpoints: Checkpoints | None = None, cut_at: int | None = None) -> tuple[Any, TrainingLog]:
    def on_step(done: int, total: int, loss: float) -> None:
        if done == cut_at:
            raise CutError

    job = TrainingJob(made(), np.arange(22), training, 2, 5, PAD)
    return fine_tune(BUILD, job, single_process_world(), TrainingHooks(on_step, checkpoints=checkpoints))


def at(folder: Path, **about: Any) -> Checkpoints:
    return Checkpoints(folder, 0.0, about)


@pytest.mark.parametrize(
    ("zero_stage", "precision"), [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (0, "bf16"), (2, "bf16")]
)
def test_an_interrupted_training_ends_like_an_uninterrupted_one(
    tmp_path: Path, zero_stage: int, precision: str
) -> None:
    training = settings(zero_stage=zero_stage, precision=precision)
    model, undisturbed = train(training)
    with pytest.raises(CutError):
        train(training, at(tmp_path), cut_at=4)
    # The callback comes before the checkpoint of its step.
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-3"]
    checkpoints = at(tmp_path)
    assert not checkpoints.resumed
    again, log = train(training, checkpoints)
    assert checkpoints.resumed
    assert log.losses.tobytes() == undisturbed.losses.tobytes()
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert one.detach().float().cpu().numpy().tobytes() == two.detach().float().cpu().numpy().tobytes()


@pytest.mark.parametrize(("zero_stage", "precision"), [(0, "fp32"), (2, "fp32"), (0, "bf16"), (3, "bf16")])
def test_a_checkpoint_takes_the_disk_that_a_plan_counts(tmp_path: Path, zero_stage: int, precision: str) -> None:
    training = settings(zero_stage=zero_stage, precision=precision, epochs=1)
    sizes = {**CONFIG, "d_model": 64, "d_ff": 256, "num_layers": 2, "num_decoder_layers": 2}
    parameters = T5.num_parameters(sizes, sizes["vocab_size"], False)
    wide = partial(build_model, ResolvedModel("t5", sizes, "", None, "test"), 0, None)
    job = TrainingJob(made(), np.arange(22), training, 2, 5, PAD)
    fine_tune(wide, job, single_process_world(), TrainingHooks(checkpoints=at(tmp_path)))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size == pytest.approx(checkpoint_bytes(training, parameters), rel=0.06)


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A training cut after its checkpoint of step 3."""
    with pytest.raises(CutError):
        train(settings(), at(tmp_path), cut_at=4)
    return tmp_path / "step-3"


def test_the_machines_that_took_part_are_known(tmp_path: Path) -> None:
    one, two = {"threads": 1}, {"threads": 2}
    with pytest.raises(CutError):
        train(settings(), Checkpoints(tmp_path, 0.0, {}, one), cut_at=2)
    with pytest.raises(CutError):
        train(settings(), Checkpoints(tmp_path, 0.0, {}, two), cut_at=4)
    last = Checkpoints(tmp_path, 0.0, {}, two)
    train(settings(), last)
    assert last.environments == [two, one]


def test_what_is_incomplete_damaged_or_of_another_training_does_not_count(cut: Path) -> None:
    folder = cut.parent
    found = at(folder).newest()
    assert found is not None
    assert (found.marker.step, len(found.history.losses), found.history.epoch_scores) == (3, 3, [None])
    assert at(folder, workers=2).newest() is None
    states = next(cut.glob("*model_states.pt"))
    whole = states.read_bytes()
    states.write_bytes(whole[:-1])
    assert at(folder).newest() is None
    states.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert at(folder).newest() is None
    states.write_bytes(whole)
    assert at(folder).newest() == found
    marker = (cut / "complete.json").read_bytes()
    # Its losses would become part of the result.
    other_losses = re.sub(rb'("losses": \[\s*)\d', rb"\g<1>9", marker)
    for damage in (b"{", b"[]", b'{"step": 3}', other_losses):
        assert damage != marker
        (cut / "complete.json").write_bytes(damage)
        assert at(folder).newest() is None
    # Without one the training starts over, and ends with the same losses.
    _, log = train(settings(), at(folder))
    assert log.losses.tobytes() == train(settings())[1].losses.tobytes()


def test_the_last_good_one_is_used_where_a_newer_one_is_damaged(cut: Path) -> None:
    newer = cut.with_name("step-5")
    newer.mkdir()
    (newer / "mp_rank_00_model_states.pt").write_bytes(b"half of a checkpoint")
    found = at(cut.parent).newest()
    assert found is not None
    assert found.folder == cut


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_with_code_in_it_is_refused_even_with_the_right_checksum(cut: Path, tmp_path: Path) -> None:
    states = next(cut.glob("*model_states.pt"))
    states.write_bytes(pickle.dumps({"module": Payload(tmp_path / "executed")}, protocol=2))
    marker = read_marker(cut, CheckpointMarker)
    assert marker is not None
    write_marker(cut, marker.model_copy(update={"files": {**marker.files, states.name: file_sha256(states)}}))
    with pytest.raises(RunError, match=r"step-3: cannot be loaded .*remove it and run again"):
        train(settings(), at(cut.parent))
    assert not (tmp_path / "executed").exists()


@pytest.mark.fault
@pytest.mark.parametrize("leave", [0, 40_000])
def test_a_checkpoint_without_space_is_named_and_the_last_good_one_is_used(small_disk: Path, leave: int) -> None:
    filler, steps = small_disk / "filler", small_disk / "steps"

    def fill(done: int, total: int, loss: float) -> None:
        if done == 4:
            filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - leave))

    job = TrainingJob(made(), np.arange(22), settings(), 2, 5, PAD)
    with pytest.raises(DiskFullError, match=rf"{steps}/step-4: no space left \(0 MiB free on its disk"):
        fine_tune(BUILD, job, single_process_world(), TrainingHooks(fill, checkpoints=at(steps)))
    assert [path.name for path in steps.iterdir()] == ["step-3"]
    found = at(steps).newest()
    assert found is not None
    assert len(found.history.losses) == 3
    filler.unlink()
    _, log = train(settings(), at(steps))
    assert log.losses.tobytes() == train(settings())[1].losses.tobytes()


class AfterStepThree(Checkpoints):
    def due(self, step: int, total: int, world: Any) -> bool:
        return step == 3


def test_a_checkpoint_that_does_not_match_its_marker_is_replaced_when_its_step_is_repeated(tmp_path: Path) -> None:
    def newest_after_a_cut() -> Any:
        with pytest.raises(CutError):
            train(settings(), AfterStepThree(tmp_path, 0.0, {}), cut_at=4)
        return at(tmp_path).newest()

    folder = newest_after_a_cut().folder
    marker = read_marker(folder, CheckpointMarker)
    assert marker is not None
    write_marker(folder, marker.model_copy(update={"files": dict.fromkeys(marker.files, "0" * 64)}))
    assert at(tmp_path).newest() is None
    assert newest_after_a_cut().folder == folder
