"""A connection to the head of a cluster, which is taken up again when it breaks."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from simtune.cluster.cluster_file import ClusterFile
from simtune.cluster.launcher import head_address
from simtune.cluster.ray_jobs import RayJobs, RefusedForNowError, TakenIdError
from simtune.cluster.ssh import NoAnswerError, Ssh
from simtune.cluster.submission import (
    ENDED,
    RECORD,
    RECORDS,
    RECORDS_LOCK,
    STATE,
    SUPERVISOR_LOCK,
    Submission,
)
from simtune.cluster.tunnel import Tunnel
from simtune.errors import ClusterError, RunError, cut
from simtune.ray_token import read_token
from simtune.storage.records import parse_record, record_bytes
from simtune.wording import duration, last_line

T = TypeVar("T")
Say = Callable[[str], None]
"""Shows the user one line."""

# The head's supervisor changes records, too.
_LOCKED = f"umask 077; mkdir -p {STATE} && exec 9>> {STATE}/{RECORDS_LOCK} && flock -w 60 9"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0
_GIVES_UP_AFTER_S, _REFUSES_FOR_S = 900.0, 60.0


class Connection:
    """Ray's job server on a cluster's head, through an SSH tunnel, and shell commands there."""

    def __init__(
        self,
        cluster: ClusterFile,
        say: Say,
        patience_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects to nothing yet.

        Args:
            cluster: its file.
            say: shows a line when the connection breaks, and when it is there again.
            patience_s: how long the first answer may take, in seconds, because Ray was just started.
            sleep: waits for some seconds.
            clock: in seconds.
        """
        self.cluster = cluster
        self._say, self._patience_s = say, patience_s
        self._sleep, self._clock = sleep, clock
        self._ssh: Ssh | None = None
        self._tunnel: Tunnel | None = None
        self._jobs: RayJobs | None = None
        self._was_there = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tunnel is not None:
            self._tunnel.close()

    @property
    def ssh(self) -> Ssh:
        """How the head is reached.

        Raises:
            ClusterError: there is no head.
        """
        if self._ssh is None:
            self._ssh = Ssh(self.cluster, head_address(self.cluster))
        return self._ssh

    def ask(self, request: Callable[[RayJobs], T]) -> T:
        """Makes requests to the job server, again after a break of the connection.

        Args:
            request: makes them; a request whose answer was lost is made again.

        Raises:
            ClusterError: the head cannot be reached; Ray does not run there; the token is another one.
        """
        started, wait_s, is_broken = self._clock(), _FIRST_WAIT_S, False
        while True:
            try:
                answer = request(self._server())
            except NoAnswerError as error:
                # Before the first answer, nothing is there that could come back.
                refuses, waited_s = isinstance(error, RefusedForNowError), self._clock() - started
                if waited_s >= (_GIVES_UP_AFTER_S if self._was_there else self._patience_s) or (
                    refuses and waited_s >= _REFUSES_FOR_S
                ):
                    raise
                if not is_broken and self._was_there:
                    what = "the job server returned an error" if refuses else "the connection to the head was lost"
                    self._say(f"{what} ({cut(str(error), 120)}); trying again")
                is_broken = True
                if not refuses:
                    self._break_off()
                self._sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
                continue
            except ClusterError:
                # A refusal is an answer too.
                self._answered(is_broken, started)
                raise
            self._answered(is_broken, started)
            return answer

    def _answered(self, was_broken: bool, started: float) -> None:
        if was_broken and self._was_there:
            self._say(f"connected to the head again, after {duration(self._clock() - started)}")
        self._was_there = True

    def shell(self, script: str, data: bytes = b"") -> bytes:
        """Runs a shell text on the head.

        Returns:
            What it has printed.

        Raises:
            ClusterError: the head cannot be reached, or the text has failed.
        """
        done = self.ssh.run(script, data)
        if done.returncode:
            said = last_line(done.stderr.decode(errors="replace"))
            raise ClusterError(
                f"{self.ssh.address}: a command on the head failed with exit code {done.returncode}"
                f"{f': {cut(said)}' if said else ' and printed nothing'}"
            )
        return done.stdout

    def start(self, submission: Submission, package: bytes) -> None:
        """Starts the job of a submission, unless it was started already.

        The answer to a first try may have been lost, and the head's supervisor may be faster.
        """
        with contextlib.suppress(TakenIdError):
            self.ask(lambda jobs: submission.start(jobs, package))

    def write_record(self, submission: Submission, package: bytes) -> None:
        """Records a submission on the head, so that the head continues it after it was started again."""
        folder, arrived = f"{RECORDS}/{submission.id}", f"{STATE}/{submission.id}.arrived"
        self.shell(f"umask 077; mkdir -p {STATE} && cat > {arrived}", package)
        # Complete once it has its name.
        record, name = f"{folder}/{RECORD}", shlex.quote(submission.package)
        self.shell(
            f"{_LOCKED} && mkdir -p {folder} && rm -f {ENDED}/{submission.id} && mv {arrived} {folder}/{name} && "
            f"cat > {record}.new && mv {record}.new {record}",
            record_bytes(submission),
        )

    def remove_record(self, submission: str) -> bool:
        """Removes the record of a submission, as one that has ended; returns whether there was one."""
        folder, name = f"{RECORDS}/{shlex.quote(submission)}", shlex.quote(submission)
        script = (
            f"{_LOCKED} && mkdir -p {ENDED} && touch {ENDED}/{name} && "
            f"{{ test ! -e {folder} || {{ rm -rf {folder} && echo removed; }}; }}"
        )
        return self.shell(script).strip() == b"removed"

    def has_ended(self, submission: str) -> bool:
        """Whether a submission has ended on this head, maybe before Ray was started again."""
        return self.shell(f"test ! -e {ENDED}/{shlex.quote(submission)} || echo ended").strip() == b"ended"

    def records(self) -> tuple[Submission, ...]:
        """The records of all unfinished submissions."""
        # Each is a line, since JSON contains no zero byte.
        text = self.shell(
            f"for record in {RECORDS}/*/{RECORD}; do test -e $record && cat $record && printf '\\0'; done; :"
        )
        parts = [part for part in text.split(b"\0") if part.strip()]
        found = []
        for part in parts:
            try:
                found.append(parse_record(part, Submission, f"{RECORDS} on the head"))
            except RunError as error:
                self._say(f"warning: {error}")
        return tuple(found)

    def is_supervised(self) -> bool:
        """Whether the head's supervisor runs, which continues sweeps."""
        lock = f"{STATE}/{SUPERVISOR_LOCK}"
        return self.shell(f"test ! -e {lock} || flock -n {lock} true || echo runs").strip() == b"runs"

    def _server(self) -> RayJobs:
        if self._jobs is None:
            self._tunnel = Tunnel(self.ssh, self.cluster.dashboard_port)
            where = f"{self.cluster.path}: {self.ssh.address}"
            self._jobs = RayJobs(where, self._tunnel.socket, read_token(), self.cluster.command("cluster up"))
        return self._jobs

    def _break_off(self) -> None:
        if self._tunnel is not None:
            self._tunnel.break_off()
