"""What a user sees while a sweep runs: one line per stage, and a live line for each running trial.

Everything goes to standard error, because standard output is for results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from simtune.progress import OnProgress, Quiet
from simtune.redaction import redact
from simtune.tables import TextTable
from simtune.terminal import say
from simtune.wording import counted


class OnlyWarnings(Quiet):
    """Shows warnings alone, beside results for a program."""

    def warn(self, text: str) -> None:
        say(f"warning: {redact(text)}", err=True)


@dataclass
class _Running:
    """A trial that runs, since when, and what it has reported."""

    label: str
    started: float = field(default_factory=time.monotonic)
    progress: dict[str, Any] = field(default_factory=lambda: {"phase": "starting"})

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class _Count(MofNCompleteColumn):
    """`3/10`, or nothing if the total is unknown."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total else Text("")


class ConsoleDisplay:
    """Shows progress on a rich console: live in a terminal; in a log, one line per finished stage and trial."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: dict[str, _Running] = {}
        self._num_missing = self._num_ended = 0
        self._seconds: list[float] = []
        self._stages = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            _Count(),
            TimeElapsedColumn(),
            console=console,
        )
        self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._render)

    def __enter__(self) -> ConsoleDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(escape(redact(text)), highlight=False)

    def warn(self, text: str) -> None:
        self._console.print(f"[yellow]warning:[/] {escape(redact(text))}", highlight=False, soft_wrap=True)

    def table(self, table: TextTable) -> None:
        self._console.print(table)

    @contextmanager
    def stage(self, name: str) -> Iterator[OnProgress]:
        started = time.monotonic()
        task = self._stages.add_task(name, total=None)
        totals = [0]

        def on_progress(done: int, total: int) -> None:
            totals[0] = total
            self._stages.update(task, completed=done, total=total or None)

        try:
            yield on_progress
        finally:
            self._stages.remove_task(task)
        count = f" {totals[0]}" if totals[0] else ""
        self._console.print(f"[green]✓[/] {name}{count} [dim]({time.monotonic() - started:.1f} s)", highlight=False)

    def trials_start(self, num_missing: int, num_done: int) -> None:
        self._num_missing = num_missing
        done = f", {num_done} already done" if num_done else ""
        self._console.print(f"[bold]{counted(num_missing, 'trial')} to run{done}", highlight=False)

    def trial_started(self, trial: str, label: str) -> None:
        self._running[trial] = _Running(label)

    def trial_progress(self, trial: str, progress: dict[str, Any]) -> None:
        if trial in self._running:
            self._running[trial].progress.update(progress)

    def trial_ended(self, trial: str, outcome: str) -> None:
        running = self._running.pop(trial, None)
        self._num_ended += 1
        if running is None:
            return
        seconds = running.seconds
        self._seconds.append(seconds)
        mark = "[red]✗[/]" if outcome.startswith(("failed", "left out")) else "[green]✓[/]"
        what = f"{escape(running.label)}: {escape(outcome)}"
        self._console.print(
            f"{mark} {self._num_ended}/{self._num_missing} {what} [dim]({seconds:.0f} s)", highlight=False
        )

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for running in list(self._running.values()):
            progress = running.progress
            where = progress["phase"]
            if progress.get("total"):
                where += f" {progress['completed']}/{progress['total']}"
            loss = f"loss {progress['loss']:.3f}" if progress["phase"] == "train" and "loss" in progress else ""
            table.add_row("[cyan]…", escape(running.label), where, loss, f"{running.seconds:.0f} s")
        parts: list[RenderableType] = [self._stages, table]
        if self._running:
            parts.append(self._remaining())
        return Group(*parts)

    def _remaining(self) -> str:
        left = self._num_missing - self._num_ended
        if not self._seconds:
            return f"[dim]{counted(left, 'trial')} to go"
        # Assumes that as many trials run at once as are running now.
        seconds = left * sum(self._seconds) / len(self._seconds) / max(1, len(self._running))
        return f"[dim]{counted(left, 'trial')} to go" + (f", about {seconds / 60:.0f} min" if seconds > 90 else "")
