"""Whether Ray lives on this head, judged by its servers themselves: the dashboard may be slow while all goes on."""

from __future__ import annotations

import contextlib
import http.client
import re
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from simtune.ray_head import HELLO

_HERE = "127.0.0.1"
_ANSWERS_WITHIN_S = 10.0
_SERVER_ERROR = 500
_PORT_OF_GCS, _PORT_OF_AGENT = "--port", "--dashboard-agent-listen-port"


@dataclass(frozen=True)
class HeadPorts:
    """Where Ray's head (GCS) listens, and the agent that its raylet ends with."""

    gcs: int = 6379
    agent: int = 52365


def ports_of(ray_start: Sequence[str]) -> HeadPorts:
    """The ports that a command starts Ray's head with."""
    text = shlex.join(ray_start)
    found = {name: re.search(rf"{name}[= ](\d+)", text) for name in (_PORT_OF_GCS, _PORT_OF_AGENT)}
    gcs, agent = (int(port[1]) if port else None for port in found.values())
    return HeadPorts(gcs or HeadPorts.gcs, agent or HeadPorts.agent)


def what_has_ended(ports: HeadPorts) -> str:
    """The part of Ray that does not live on this head; empty if all do."""
    if not _gcs_answers(ports.gcs):
        return "Ray's head process (GCS)"
    if _raylet_has_ended(ports.agent):
        return "the head's raylet"
    return ""


def _gcs_answers(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection((_HERE, port), timeout=_ANSWERS_WITHIN_S) as connection,
    ):
        connection.sendall(HELLO)
        return bool(connection.recv(1))
    return False


def _raylet_has_ended(agent: int) -> bool:
    connection = http.client.HTTPConnection(_HERE, agent, timeout=_ANSWERS_WITHIN_S)
    try:
        connection.request("GET", "/api/local_raylet_healthz")
        return connection.getresponse().status >= _SERVER_ERROR
    except ConnectionRefusedError:
        # The agent ends with its raylet.
        return True
    except (OSError, http.client.HTTPException):
        # It is there, and slow.
        return False
    finally:
        connection.close()
