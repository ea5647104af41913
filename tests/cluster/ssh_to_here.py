#!/usr/bin/env python3
"""A program with the interface of `ssh` that leads to this machine: it forwards a socket, and runs shell commands here.

$SSH_HOME is the home of the "other" machine. A file `refuse` in it has what the program says before it fails.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def forward(listener: socket.socket, port: int) -> None:
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:
            client.close()
            continue
        for pair in ((client, server), (server, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def main() -> int:
    words = sys.argv[1:]
    home = Path(os.environ["SSH_HOME"])
    if (home / "refuse").exists():
        sys.stderr.write((home / "refuse").read_text())
        return 255
    if "-L" in words:
        local, _, remote = words[words.index("-L") + 1].partition(":127.0.0.1:")
        Path(local).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(local)
        listener.listen()
        threading.Thread(target=forward, args=(listener, int(remote)), daemon=True).start()
        (home / "tunnel").write_text(str(os.getpid()))
    # The last word, for a login shell there.
    done = subprocess.run(["/bin/bash", "-c", words[-1]], env=os.environ | {"HOME": str(home)}, cwd=home, check=False)
    return done.returncode


sys.exit(main())
