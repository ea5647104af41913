"""Requests of the driver to an object store, with trials that take no time: a trial, and the same command again.

    python benchmarks/driver_requests.py           20 and 80 trials in moto's S3, behind a proxy that counts

The sweeps are those of `driver_cost.py`; worker columns are what the functions that write a trial's results send.
"""

from __future__ import annotations

import http.client
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from driver_cost import InstantTrials, sweep_of, write_corpus
from harness import in_own_process, machine, save, show

from simtune.progress import Quiet
from simtune.sweep.run import run_sweep

TRIALS = (20, 80)
BUCKET = "simtune-benchmark"
_OF_THE_CONNECTION = {"content-length", "connection", "transfer-encoding", "date", "server"}


class Requests:
    """Counts requests and the bytes of their bodies, by who is at work."""

    def __init__(self) -> None:
        self.who = "driver"
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, method: str, sent: int, received: int) -> None:
        with self._lock:
            self.counts[f"{self.who}_requests"] += 1
            self.counts[f"{self.who}_bytes"] += sent + received
            self.counts[f"{self.who} {method}"] += 1


@contextmanager
def counting(target: str, requests: Requests) -> Iterator[str]:
    """A proxy for the address of a store; yields its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(target)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            requests.add(self.command, len(body), len(content))
            lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
            lines += [
                f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _OF_THE_CONNECTION
            ]
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else len(content)
            self.wfile.write("\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode() + content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def bucket() -> Iterator[str]:
    """An empty bucket of moto's S3; yields host and port."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=BUCKET)
    yield f"{host}:{port}"
    server.stop()


def measured(folder: Path, trials: int) -> dict[str, Any]:
    requests = Requests()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "a-benchmark",
        "AWS_SECRET_ACCESS_KEY": "a-benchmark-only",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with bucket() as target, counting(target, requests) as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        sweep = sweep_of(folder, trials).model_copy(update={"storage": f"s3://{BUCKET}/runs"})
        executor = InstantTrials(requests)
        run_sweep(sweep, executor, Quiet())
        first = Counter(requests.counts)
        outcome = run_sweep(sweep, executor, Quiet())
        assert outcome.num_run == outcome.num_failed == 0
    counts = {name: first[name] for name in ("driver_requests", "driver_bytes", "worker_requests", "worker_bytes")}
    again = requests.counts - first
    return {
        "trials": trials,
        **counts,
        "again_requests": again["driver_requests"],
        "again_bytes": again["driver_bytes"],
    }


def main() -> None:
    about = machine("boto3", "obstore", "moto")
    rows = []
    for trials in TRIALS:
        with tempfile.TemporaryDirectory() as folder:
            write_corpus(Path(folder) / "corpus")
            row, _ = in_own_process(measured, Path(folder), trials)
        rows.append(row)
        show("The driver's requests to an object store", rows, about)
    first, last = rows[0], rows[-1]
    more = last["trials"] - first["trials"]
    per_trial = [{name: (last[name] - first[name]) / more for name in first if name != "trials"}]
    show("A trial", per_trial, about)
    save("driver_requests", rows, about, per_trial=per_trial)


if __name__ == "__main__":
    main()
