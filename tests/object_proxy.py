"""A proxy between a client and an object store that forwards requests and spoils some of them.

cut       the connection ends before the request is passed on
lose      the request is passed on, and the connection ends without an answer
truncate  half of the answer comes, then the connection ends
stall     half of the answer comes, then nothing until the client gives up
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

FAULTS = ("cut", "lose", "truncate", "stall")


@dataclass
class Faults:
    """What to do to which request.

    Attributes:
        fault: one of `FAULTS`; None passes everything on.
        spoils: whether the request of this number, from 0 since `start`, is spoiled.
        seen: requests since `start`, as `PUT /bucket/key`.
        num_spoiled: of them.
    """

    fault: str | None = None
    spoils: Callable[[int], bool] = lambda number: False
    seen: list[str] = field(default_factory=list)
    num_spoiled: int = 0

    def start(self, fault: str | None = None, spoils: Callable[[int], bool] = lambda number: False) -> None:
        self.fault, self.spoils, self.num_spoiled = fault, spoils, 0
        self.seen.clear()

    def fault_of(self, request: str) -> str | None:
        number = len(self.seen)
        self.seen.append(request)
        spoiled = self.fault is not None and self.spoils(number)
        self.num_spoiled += spoiled
        return self.fault if spoiled else None


@dataclass
class Proxy(Faults):
    """A proxy that does the same to all requests, except to those of some folders.

    Attributes:
        target: the address of the store.
        url: its own address.
        scheme: of the addresses in the store.
        folders: by the path of a folder, what to do to the requests that name it. They are counted by themselves.
    """

    target: str = ""
    url: str = ""
    scheme: str = ""
    folders: dict[str, Faults] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of_request(self, request: str, body: bytes) -> str | None:
        """What to do to a request.

        Args:
            request: as `PUT /bucket/key`.
            body: names the objects of a request that deletes several.
        """
        named = unquote(request + (body.decode(errors="replace") if request.startswith("POST ") else ""))
        with self.lock:
            faults = next((faults for folder, faults in self.folders.items() if folder in named), self)
            return faults.fault_of(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *_: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault_of_request(f"{self.command} {self.path}", body)
        if fault == "cut":
            self._break_off()
            return
        target = urlsplit(self.proxy.target)
        connection = http.client.HTTPConnection(target.hostname or "", target.port)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "lose":
            self._break_off()
            return
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _OF_THE_CONNECTION]
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else len(content)
        raw = "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode() + content
        if fault is None:
            self.wfile.write(raw)
            return
        # Half of a body where there is one, half of the headers otherwise.
        self.wfile.write(raw[: len(raw) - len(content) // 2 if len(content) > 1 else len(raw) // 2])
        self.wfile.flush()
        if fault == "stall":
            self.proxy.over.wait()
        self._break_off()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _break_off(self) -> None:
        # With a reset, like a router that has lost the connection.
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


_OF_THE_CONNECTION = {"content-length", "connection", "transfer-encoding", "date", "server"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Clients close connections too."""

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        # Closed without the shutdown that would look like the end of the file.
        self.close_request(request)


@contextmanager
def object_proxy(target: str) -> Iterator[Proxy]:
    """A proxy for the address of a store, inside the `with` block."""
    proxy = Proxy(target=target)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with _Server(("127.0.0.1", 0), handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            server.shutdown()
