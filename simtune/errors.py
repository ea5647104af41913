"""Errors that a user can act on.

Every message says what is wrong, with which value, where (file, line, field), and what to do. The command line prints
only the message and exits with `exit_code`; it shows a traceback only with `--debug`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from simtune.redaction import redact


def shown(value: object, limit: int = 200) -> str:
    """A value as messages show it: its `repr`, cut to `limit` characters."""
    try:
        # Only the part of a text that remains after the cut.
        text = repr(value[: limit + 1] if isinstance(value, str) else value)
    # An integer with thousands of digits, or a structure that is nested too deeply.
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to show"
    return cut(text, limit)


def cut(text: str, limit: int = 200) -> str:
    """The text, shortened to `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def first_line(error: object) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or "no message").splitlines()[0]


class SimtuneError(Exception):
    """Base of all errors raised on purpose. Messages contain no secrets: terminals, logs and reports show them."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class UserError(SimtuneError):
    """The input is wrong, and nothing was started: exit code 2.

    Args:
        message: what is wrong.
        field: dotted name of the field of the sweep file that is wrong, such as `encoding.format`; the message begins
            with it. Empty if no field is.
        others: other wrong fields, each with what is wrong with it; each is a further line of the message.
    """

    exit_code = 2

    def __init__(self, message: str = "", field: str = "", others: Sequence[tuple[str, str]] = ()) -> None:
        self._problems = ((field, redact(message)), *((name, redact(text)) for name, text in others))
        super().__init__(_lines(self._problems))
        self.file, self.position, self.problem = "", "", ""

    @classmethod
    def in_file(cls, file: str, problem: str, position: str = "") -> Self:
        """What is wrong with a file; the error keeps these three.

        Args:
            file: its path, as messages name it.
            problem: what is wrong.
            position: in the file, such as `line 3` or `byte 17`; empty if all of it is wrong.
        """
        error = cls(f"{file}, {position}: {problem}" if position else f"{file}: {problem}")
        error.file, error.position, error.problem = redact(file), position, redact(problem)
        return error

    def with_origins(self, origin_of: Callable[[str], str]) -> UserError:
        """The same error; each field has its origin in front.

        Args:
            origin_of: from a field's dotted name to its origin, such as `sweep.yaml, line 3`; empty if it has none.
        """
        found = [(f"{origin}: {name}" if (origin := origin_of(name)) else name, text) for name, text in self._problems]
        return type(self)(_lines(found))


def _lines(problems: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{field}: {text}" if field else text for field, text in problems)


class ConfigError(UserError):
    """A sweep file or an override is wrong."""


class CorpusError(UserError):
    """A task file, split list or corpus folder is wrong."""


class ModelError(UserError):
    """A model, tokenizer or encoder cannot be loaded or does not fit the settings."""


class ModelFilesError(ModelError):
    """The files of a model are not on this host, or are others than the driver's."""


class RunError(UserError):
    """A run directory is missing, damaged, or held by another driver."""


class ExtensionError(SimtuneError):
    """Code that was added to simtune failed: a strategy, a prompt format, a corpus format or a metric."""


class DiskFullError(SimtuneError):
    """There is no space left to write something."""


class ServiceError(SimtuneError):
    """Something outside this process does not answer, or refuses (exit code 2).

    Args:
        message: what went wrong.
        wrong_input: whether the user has to change something: exit code 2.
        reason: what the object store or the network said; empty for other storages.
    """

    def __init__(self, message: str, wrong_input: bool = False, reason: str = "") -> None:
        super().__init__(message)
        self.reason = redact(reason)
        if wrong_input:
            self.exit_code = UserError.exit_code


class StoreError(ServiceError):
    """A storage: an object store that cannot be reached, a lock that cannot be acquired."""


class ClusterError(ServiceError):
    """A cluster: its head cannot be reached, Ray does not run there, its token is another one."""


class DownloadError(UserError):
    """A download was cut short, tampered with, or unsafe to unpack."""


class TrialTimeoutError(SimtuneError):
    """A trial took longer than `resources.trial_minutes`."""


class LeaseLostError(RunError):
    """Another driver has taken over; nothing may be written."""


class NonFiniteLossError(SimtuneError):
    """The training loss became NaN or infinite. Raised before the optimizer step."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            f"the loss is {loss} at step {step}; the weights are still those before this step. "
            "Lower training.learning_rate; training.precision=fp32 helps if it is not fp32 already"
        )
        self.step = step
        self.loss = loss

    def __reduce__(self) -> tuple[type[NonFiniteLossError], tuple[int, float]]:
        return type(self), (self.step, self.loss)
