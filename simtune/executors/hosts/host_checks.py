"""Whether a run could work on a host: its storage, its encoders and its models, tried there in seconds.

Weights are neither read nor downloaded. The tokenizers of a run need no check: the driver loads them and sends them
along with the tasks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from simtune.embedding.encoder import outline_of_encoder
from simtune.errors import SimtuneError, StoreError, UserError, cut
from simtune.redaction import redact
from simtune.storage.files import as_path
from simtune.storage.preflight import check_from_host
from simtune.training.model import outline_of_model

STORAGE, ENCODER, MODEL = "storage", "encoder", "model"

Check = tuple[str, str]
"""What is checked and its name, such as `(MODEL, "t5-small at v1")`; the storage has no name."""

# Less than the driver waits for a host, so that what does not answer is named.
_LIMIT_S = 40.0


def check_host(
    probes: Sequence[str],
    encoders: Sequence[tuple[str, str | None]],
    models: Sequence[tuple[str, str | None]],
    host: str,
) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Tries on this host what a run does there.

    Args:
        probes: folders that the driver has made in the storage; none if the host needs no storage.
        encoders: names and revisions of the encoders that the host must have.
        models: names and revisions of the pretrained models that the host must have.
        host: a name for this host that no other has.

    Returns:
        What tells the files of each encoder and model from others, and the problems, both by what is checked
        and its name.
    """
    checks: dict[Check, Callable[[], str]] = {(STORAGE, ""): partial(_check_storage, probes, host)} if probes else {}
    checks |= {(ENCODER, _at_revision(*encoder)): partial(outline_of_encoder, *encoder) for encoder in encoders}
    checks |= {(MODEL, _at_revision(*model)): partial(outline_of_model, *model) for model in models}
    found, problems = run_checks(checks, _LIMIT_S)
    return _by_subject(found), _by_subject(problems)


def _at_revision(name: str, revision: str | None) -> str:
    """How a check is named. A grid over revisions has several of one model."""
    return name + (f" at {revision}" if revision else "")


def _by_subject(values: Mapping[Check, str]) -> dict[str, dict[str, str]]:
    """The values of checks as JSON can hold them."""
    by_subject: dict[str, dict[str, str]] = {}
    for (subject, name), value in values.items():
        by_subject.setdefault(subject, {})[name] = value
    return by_subject


def run_checks(checks: Mapping[Check, Callable[[], str]], limit_s: float) -> tuple[dict[Check, str], dict[Check, str]]:
    """Runs checks at the same time, none longer than the limit.

    A check may never return, such as one on a network file system whose server does not answer.

    Returns:
        What the checks returned, and for those that failed or did not return the reason.
    """
    found: dict[Check, str] = {}
    problems: dict[Check, str] = {}

    def run(check: Check, call: Callable[[], str]) -> None:
        try:
            found[check] = call()
        except SimtuneError as error:
            problems[check] = str(error)
        except Exception as error:
            problems[check] = f"{type(error).__name__}: {cut(_one_line(error))}"

    # Daemons, so that one that never returns does not keep this process from its end.
    threads = [threading.Thread(target=run, args=item, daemon=True) for item in checks.items()]
    ends = time.monotonic() + limit_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    # Copies, since a thread may still end; in the order of the checks, whichever ended first.
    found, problems = dict(found), dict(problems)
    silent = {
        check: f"{' '.join(check).strip()}: no answer within {limit_s:g} s; check the network and the server behind it"
        for check in checks
        if check not in found and check not in problems
    }
    in_order = [{check: ended[check] for check in checks if check in ended} for ended in (found, problems | silent)]
    return in_order[0], in_order[1]


def _check_storage(probes: Sequence[str], host: str) -> str:
    paths = [as_path(probe) for probe in probes]
    try:
        check_from_host(paths, host)
    except StoreError as error:
        if not error.reason:
            raise
        said = "refused" if error.exit_code == UserError.exit_code else "the store does not answer"
        raise StoreError(
            f"{paths[0].parent}: {said} ({cut(error.reason, 300)}). Workers use the credentials of their own "
            "host, never the driver's: give the host a role (an instance profile, a service account, a managed "
            "identity) with access to this bucket, or the provider's files"
        ) from error
    return ""


def _one_line(error: BaseException) -> str:
    return redact(" ".join(str(error).split())) or "no message"
