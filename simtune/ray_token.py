"""Ray's authentication token, which lies in a file of this user: whoever has it may run code on the cluster."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from simtune.errors import UserError

_VALUE, _FILE, _MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"
DEFAULT_FILE = "~/.ray/auth_token"
# A token that is in the environment, as a file.
_FILE_OF_VALUE = "~/.simtune/auth_token"


def token_file() -> Path:
    """Where Ray looks for this user's token, unless it is in the environment."""
    return Path(os.environ.get(_FILE) or DEFAULT_FILE).expanduser()


def token_file_to_send() -> Path:
    """The file that the machines of a cluster get a copy of; `ensure_token` writes it."""
    return Path(_FILE_OF_VALUE).expanduser() if os.environ.get(_VALUE) else token_file()


def token_place() -> str:
    """What messages call the place that this user's token comes from."""
    return f"the environment variable {_VALUE}" if os.environ.get(_VALUE) else str(token_file())


def refusal() -> str:
    """Why Ray refuses a process of this user, and what to do; for when it has refused one."""
    mode = os.environ.get(_MODE, "token")
    if mode.lower() != "token":
        return f"it asks for its token, which is not sent because of {_MODE}={mode} here; set {_MODE}=token"
    problem = "missing, and the cluster has one" if read_token() is None else "different from the cluster's"
    return (
        f"the token of {token_place()} is {problem}. Copy the token of the user that ran `ray start` on the head "
        f"({DEFAULT_FILE} there) to {token_file()} on this machine, mode 0600"
    )


def read_token() -> str | None:
    """This user's token, from where Ray takes it; None if there is none.

    Raises:
        UserError: its file cannot be read.
    """
    if given := os.environ.get(_VALUE):
        return given.strip()
    path = token_file()
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII text"
        raise UserError(
            f"{path}: Ray's token cannot be read ({reason}); make the file readable by this user alone"
        ) from None


def ensure_token() -> str | None:
    """Creates a token if this user has none, and sees that there is a file with it that this user alone can read.

    Returns:
        What was changed, for the user; None if nothing was.

    Raises:
        UserError: the file cannot be written.
    """
    path = token_file_to_send()
    try:
        if value := os.environ.get(_VALUE):
            _write(path, value.strip())
            return None
        if read_token() is None:
            _write(path, secrets.token_hex(32))
            return f"{path}: created; whoever has this token can run code on your clusters"
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
            return f"{path}: was readable by others; now only by you"
    except OSError as error:
        raise UserError(
            f"{path}: Ray's token cannot be written ({error.strerror}); set {_FILE} to the path of a writable file"
        ) from None
    return None


def _write(path: Path, token: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token)
