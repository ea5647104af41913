"""What is known of the trial of a slot: how far it is, on which hosts its workers are, and which were lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WorkerHost:
    """A host of workers.

    Attributes:
        id: Ray's, which a host that is started again does not keep.
        name: what users call it.
        address: `host:port` of its raylet.
    """

    id: str
    name: str
    address: str


@dataclass(frozen=True)
class Worker:
    """A worker of a slot.

    Attributes:
        rank: 0 is the first one, whose calls count as attempts.
        start: names the workers that were started together.
        host: on which it runs.
    """

    rank: int
    start: str
    host: WorkerHost


@dataclass(frozen=True)
class Loss:
    """Workers that were lost in the middle of a trial.

    Attributes:
        host: the name of the host that was lost with them, else of the hosts on which they ran.
        with_host: whether a host was lost.
        values: the last values that the first worker reported.
    """

    host: str
    with_host: bool
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far an assigned trial is.

    Attributes:
        update: number of updates so far.
        ended: the workers are done with the trial, or were lost too often.
        attempts: how often workers have started the trial.
        losses: of its workers.
        lost: its workers were lost more often than allowed.
        closed: with the trial the slot was closed, because there are more slots than the sweep may have now.
        failed_on: the host on which it failed, if it is to be tried on another one; else empty.
        values: the last values that its first worker reported.
        waited_s: how long the trial has been waiting for its workers to start; 0 while there are workers.
    """

    update: int = 0
    ended: bool = False
    attempts: int = 0
    losses: tuple[Loss, ...] = ()
    lost: bool = False
    closed: bool = False
    failed_on: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    waited_s: float = 0.0

    @property
    def num_failures(self) -> int:
        """How often its workers were lost on a host that was not."""
        return sum(not loss.with_host for loss in self.losses)
