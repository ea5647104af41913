"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) end a command with 130, 143 and 129, after every clean-up."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal was closed"}
# What a process starts with. Anything else was chosen: a shell's background job ignores Ctrl-C, nohup ignores SIGHUP.
_UNTOUCHED = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
# A signal within this time after the first is the same wish again, and the clean-up goes on.
_PATIENCE_S = 10.0
_LONGEST_CLEAN_UP_S = 90.0
# Messages to the watcher, beside the numbers of signals.
_DROPPED, _TELL = 0, 255


class _Stop:
    """The first signal that arrived, and a thread that sees to it that the command ends.

    The thread is told of signals by the interpreter itself: also of those that come while the main thread is in a long
    call, or that a library answers with a handler of its own.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._raised_at: float | None = None
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        self._told = threading.Event()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # A forked child shares the pipe; its signals are not this process's.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raises at the first signal. One that comes much later ends the process at once: its clean-up hangs."""
        if number == signal.SIGHUP:
            self._leave_the_terminal()
        if self._raised_at is None:
            self.number = self.number or number
            self._raised_at = time.monotonic()
            # Not KeyboardInterrupt: Ray makes an error of its own of that where it comes in the middle of a call.
            raise SystemExit(128 + self.number)
        if time.monotonic() - self._raised_at > _PATIENCE_S:
            _end_now(self.number or number)

    def on_dropped(self, dropped: sys.UnraisableHookArgs) -> None:
        """Raises again what Python drops inside a destructor: the command would go on as if nothing had been asked."""
        if self._raised_at is None or not isinstance(dropped.exc_value, SystemExit):
            sys.__unraisablehook__(dropped)
            return
        self._raised_at = None
        os.write(self._write, bytes([_DROPPED]))

    def arrived(self) -> int | None:
        """The first signal, once the watcher has seen all that came until now."""
        self._told.clear()
        os.write(self._write, bytes([_TELL]))
        self._told.wait(1.0)
        return self.number

    def _watch(self) -> None:
        ends: float | None = None
        while True:
            left_s = None if ends is None else max(0.0, ends - time.monotonic())
            if not select.select([self._read], [], [], left_s)[0]:
                _end_now(self.number or signal.SIGTERM)
            for message in os.read(self._read, 64):
                if message == _TELL:
                    self._told.set()
                elif message == _DROPPED:
                    time.sleep(0.02)
                    signal.pthread_kill(threading.main_thread().ident or 0, self.number or signal.SIGTERM)
                elif message in REASONS:
                    self.number = self.number or message
                    ends = ends or time.monotonic() + _LONGEST_CLEAN_UP_S

    def _leave_the_terminal(self) -> None:
        """Every write to a terminal that is gone is an error: what is still said goes nowhere."""
        for descriptor in self._terminals:
            if not os.isatty(descriptor):
                with contextlib.suppress(OSError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, descriptor)
                    os.close(nowhere)


_stop: _Stop | None = None


def install() -> None:
    """Answers the three signals from now on, where whoever started this process has not decided otherwise."""
    global _stop
    _stop = _Stop()
    sys.unraisablehook = _stop.on_dropped
    for number, untouched in _UNTOUCHED.items():
        if signal.getsignal(number) == untouched:
            signal.signal(number, _stop.on_signal)


def received() -> signal.Signals | None:
    """The signal that is ending this command."""
    number = None if _stop is None else _stop.arrived()
    return None if number is None else signal.Signals(number)


def ignore() -> None:
    """From here on the exit code is known; Python would give signals their default back, death, before it has ended."""
    if _stop is not None:
        for number in REASONS:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_IGN)


def _end_now(number: int) -> None:
    """Ends this process and all that it has started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(128 + number)
