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
# The handlers that a process starts with. Any other was set on purpose: a shell's background job ignores Ctrl-C, nohup
# ignores SIGHUP.
_DEFAULT_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
# A signal within this time after the first repeats the same request, and the clean-up continues.
_REPEATS_WITHIN_S = 10.0
_LONGEST_CLEAN_UP_S = 90.0
# Bytes in the watcher's pipe beside the numbers of signals: an exception was dropped; confirm that all bytes were read.
_DROPPED, _CONFIRM = 0, 255


class _SignalWatcher:
    """Remembers the first signal and makes sure, in a thread of its own, that the command ends.

    The interpreter writes the number of each signal to the thread's pipe. So the thread also notices signals that
    arrive while the main thread is in a long call, or that a library handles itself.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._raised_at: float | None = None
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        self._confirmed = threading.Event()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # A forked child shares the pipe; its signals are not this process's.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raises at the first signal. One that comes much later ends the process at once: the clean-up hangs."""
        if number == signal.SIGHUP:
            self._detach_terminal()
        if self._raised_at is None:
            self.number = self.number or number
            self._raised_at = time.monotonic()
            # Not KeyboardInterrupt: in the middle of a call, Ray turns that into an error of its own.
            raise SystemExit(128 + self.number)
        if time.monotonic() - self._raised_at > _REPEATS_WITHIN_S:
            _end_now(self.number or number)

    def on_dropped(self, dropped: sys.UnraisableHookArgs) -> None:
        """Raises again an exit that Python dropped inside a destructor; otherwise the command would just continue."""
        if self._raised_at is None or not isinstance(dropped.exc_value, SystemExit):
            sys.__unraisablehook__(dropped)
            return
        self._raised_at = None
        os.write(self._write, bytes([_DROPPED]))

    def first_signal(self) -> int | None:
        """The first signal, once the watcher has seen every signal so far."""
        self._confirmed.clear()
        os.write(self._write, bytes([_CONFIRM]))
        self._confirmed.wait(1.0)
        return self.number

    def _watch(self) -> None:
        ends: float | None = None
        while True:
            left_s = None if ends is None else max(0.0, ends - time.monotonic())
            if not select.select([self._read], [], [], left_s)[0]:
                _end_now(self.number or signal.SIGTERM)
            for message in os.read(self._read, 64):
                if message == _CONFIRM:
                    self._confirmed.set()
                elif message == _DROPPED:
                    time.sleep(0.02)
                    signal.pthread_kill(threading.main_thread().ident or 0, self.number or signal.SIGTERM)
                elif message in REASONS:
                    self.number = self.number or message
                    ends = ends or time.monotonic() + _LONGEST_CLEAN_UP_S

    def _detach_terminal(self) -> None:
        """Redirects output to nowhere if its terminal is gone, because every write to it would be an error."""
        for descriptor in self._terminals:
            if not os.isatty(descriptor):
                with contextlib.suppress(OSError):
                    devnull = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(devnull, descriptor)
                    os.close(devnull)


_watcher: _SignalWatcher | None = None


def install() -> None:
    """Handles the three signals from now on, except those that whoever started this process has it ignore."""
    global _watcher
    _watcher = _SignalWatcher()
    sys.unraisablehook = _watcher.on_dropped
    for number, default in _DEFAULT_HANDLERS.items():
        if signal.getsignal(number) == default:
            signal.signal(number, _watcher.on_signal)


def received() -> signal.Signals | None:
    """The signal that is ending this command, if there is one."""
    number = None if _watcher is None else _watcher.first_signal()
    return None if number is None else signal.Signals(number)


def ignore() -> None:
    """Ignores signals from now on, because the exit code is decided.

    At its exit Python restores the default handlers, and a late signal would kill the process.
    """
    if _watcher is not None:
        for number in REASONS:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_IGN)


def _end_now(number: int) -> None:
    """Ends this process and every process that it has started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(128 + number)
