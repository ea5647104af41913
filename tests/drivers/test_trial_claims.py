"""Which driver runs a trial that several want, and who waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from simtune.drivers.holder import lease_file
from simtune.drivers.run_lease import LeaseToken, acquire_lease
from simtune.drivers.trial_claims import Claim, claim_trial, read_claim, release_claim, wait_for_other_drivers
from simtune.progress import Quiet
from simtune.storage.checksummed import checksummed_json


def has_result(trial: Path) -> bool:
    return (trial / "metrics.json").exists()


def test_a_claim_holds_as_long_as_its_driver(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "0123"
    one, two = (acquire_lease(lease_file(tmp_path / name), name) for name in ("one", "two"))
    first, second = (
        LeaseToken(lease_file(tmp_path / name), lease.token) for name, lease in (("one", one), ("two", two))
    )
    assert claim_trial(trial, first)
    assert claim_trial(trial, first)
    assert not claim_trial(trial, second)
    assert claim_trial(trial, second, dead_drivers=frozenset({one.token}))
    assert not claim_trial(trial, first)
    two.release()
    assert claim_trial(trial, first)
    claim = read_claim(trial)
    assert claim is not None
    assert claim.token == one.token
    release_claim(trial)
    assert read_claim(trial) is None
    one.release()


def test_a_claim_holds_where_another_machine_has_the_storage_under_another_path(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "runs").mkdir(parents=True)
    one = acquire_lease(lease_file(here / "runs" / "one"), "one")
    assert claim_trial(here / "runs" / "trials" / "0123", LeaseToken(lease_file(here / "runs" / "one"), one.token))
    one._stop.set()
    here.rename(there)
    claim = read_claim(there / "runs" / "trials" / "0123")
    assert claim is not None
    assert claim.is_alive()
    other = LeaseToken(lease_file(there / "runs" / "two"), "two")
    assert not claim_trial(there / "runs" / "trials" / "0123", other)


def with_checksum(content: bytes) -> bytes:
    """A JSON object as a file whose checksum is right."""
    return checksummed_json(content.removesuffix(b"}") + b"\n}\n")


def test_a_claim_is_read_as_it_was_written(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "0123"
    trial.mkdir(parents=True)
    (trial / ".claim").write_bytes(with_checksum(b'{"version": 1, "run": "one", "token": "a"}'))
    assert read_claim(trial) == Claim(tmp_path / "one", "a")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[" * 100_000, b"[]", b"5", b"\xff", b'{"version": 1, "run": "one", "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "one"}'),
        with_checksum(b'{"version": 2, "run": "one", "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "one", "token": "a", "more": 1}'),
        with_checksum(b'{"version": 1, "run": 5, "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "one", "token": ["a"]}'),
        with_checksum(b'{"version": 1, "run": "x\\u0000y", "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "\\ud800", "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "..", "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "/dev", "token": "a"}'),
        with_checksum(b'{"version": 1, "run": "s3://bucket/run", "token": "a"}'),
    ],
)
def test_a_damaged_claim_belongs_to_nobody(tmp_path: Path, content: bytes) -> None:
    trial = tmp_path / "trials" / "0123"
    trial.mkdir(parents=True)
    (trial / ".claim").write_bytes(content)
    assert read_claim(trial) is None
    assert claim_trial(trial, LeaseToken(lease_file(tmp_path / "run"), "me"))


def test_waiting_ends_with_a_result_and_leaves_what_no_living_driver_runs(tmp_path: Path) -> None:
    trials = [tmp_path / "trials" / name for name in ("finished", "dropped", "mine", "orphaned")]
    other = acquire_lease(lease_file(tmp_path / "other"), "other")
    lease = LeaseToken(lease_file(tmp_path / "other"), other.token)
    mine = LeaseToken(lease_file(tmp_path / "mine"), "me")
    for trial in trials:
        assert claim_trial(trial, mine if trial.name == "mine" else lease)
    steps = iter(
        [
            lambda: (trials[0] / "metrics.json").touch(),
            lambda: release_claim(trials[1]),
            other.release,
        ]
    )
    left, dead_drivers = wait_for_other_drivers(
        trials, "me", frozenset(), has_result, Quiet(), sleep=lambda _: next(steps)()
    )
    assert [path.name for path in left] == ["dropped", "orphaned"]
    assert dead_drivers == {lease.token}
