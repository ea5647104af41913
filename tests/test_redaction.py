"""Secrets planted wherever text is written; none is in a file, in an error or on the terminal."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from json_files import read_json

from simtune.config import load_sweep
from simtune.corpus.archive.fetch import ArchiveSource, fetch_archive, read_fetch_record
from simtune.errors import DownloadError, ModelError
from simtune.executors.inline import InlineExecutor
from simtune.progress import Quiet
from simtune.redaction import redact, redact_command, redact_values
from simtune.report.build import build_report
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import json_text, write_bytes
from simtune.sweep.run import run_sweep
from simtune.trial import attempts as guarded

PLANTED = "Pl4nted-5ecret"
HF, AWS = "hf_" + "Zq9" * 11, "AKIA" + "ABCD1234" * 2
SIGNED = f"https://bucket.example/x.zip?X-Amz-Credential={AWS}%2Feu&X-Amz-Signature={PLANTED}&part=1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://user:{PLANTED}@host/x.zip is gone", "https://***@host/x.zip is gone"),
        (f"https://{PLANTED}@host:80/x?a=1", "https://***@host:80/x?a=1"),
        (f"http://u:p@{PLANTED}@host/", "http://***@host/"),
        (SIGNED, "https://bucket.example/x.zip?X-Amz-Credential=***&X-Amz-Signature=***&part=1"),
        (f"x?key={PLANTED}&token={PLANTED}", "x?key=***&token=***"),
        (f"/here/https:/me:{PLANTED}@host/x: no such folder", "/here/https:/***@host/x: no such folder"),
        (f"login {HF}, {AWS}.", "login ***, ***."),
        (f"--set corpus.password={PLANTED} --api-key={PLANTED}", "--set corpus.password=*** --api-key=***"),
        (f"simtune run --token {PLANTED} x.yaml", "simtune run --token *** x.yaml"),
        (f"password='two words {PLANTED}' rest", "password=*** rest"),
        (f'{{"api_key": "{PLANTED}", "n": 1}}', '{"api_key": "***", "n": 1}'),
        (f"Authorization: Bearer {PLANTED}", "Authorization: Bearer ***"),
        ("github_pat_" + "a1B2" * 6, "***"),
        (f"AccountName=me;AccountKey={PLANTED}==;EndpointSuffix=x", "AccountName=me;AccountKey=***;EndpointSuffix=x"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "model.tokenizer=pool training.max_target_tokens=128 training.tokens_per_batch=4096",
        "the tokenizer of 'x' has no end-of-sequence token: give another",
        "https://huggingface.co/google-t5/t5-small/resolve/main/config.json?download=true",
        "random, size 40, seed 0: failed (the loss is nan at step 3)",
        "task1_key=value.json, monkey=1, mail me at someone@example.org",
        "sha256 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_values_of_secret_environment_variables_are_hidden_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_SERVICE_TOKEN", "pa ss/w0rd+")
    monkeypatch.setenv("SHORT_KEY", "short")
    monkeypatch.setenv("HARMLESS", "a harmless value")
    assert redact("got pa ss/w0rd+ and pa%20ss%2Fw0rd%2B") == "got *** and ***"
    assert redact("short, a harmless value") == "short, a harmless value"


def test_a_command_line_and_nested_values() -> None:
    command = ["run", "--token", PLANTED, "--set", f"model.name=https://me:{PLANTED}@hub/x", "--api-key=" + PLANTED]
    assert redact_command(command) == [
        "run",
        "--token",
        "***",
        "--set",
        "model.name=https://***@hub/x",
        "--api-key=***",
    ]
    assert redact_values({"a": [HF, 1, None], HF: {"b": True}}) == {"a": ["***", 1, None], "***": {"b": True}}


def test_no_error_message_contains_a_secret() -> None:
    error = ModelError(f"model.name: {SIGNED} is not a folder")
    assert PLANTED not in str(error) + repr(error)
    assert str(error).endswith("&part=1 is not a folder")


def holding(folder: Path) -> list[str]:
    """Files below a folder that contain a planted secret, in their content or their name."""
    secrets = [PLANTED.encode(), HF.encode(), AWS.encode()]
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(secret in path.read_bytes() + str(path).encode() for secret in secrets)
    ]


def test_no_file_of_a_run_holds_a_secret(tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_API_KEY", PLANTED)
    monkeypatch.setenv("HF_TOKEN", HF)
    real = guarded.run_trial

    def broken(spec: Any, *rest: Any) -> Any:
        if len(spec.tasks) == 4:
            cause = ValueError(f"refused: {SIGNED} with {HF}")
            raise RuntimeError(f"cannot reach https://me:{PLANTED}@tracker.example/api") from cause
        return real(spec, *rest)

    monkeypatch.setattr(guarded, "run_trial", broken)
    storage = Path(tiny_sweep["storage"])
    path = storage / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep, sort_keys=False))
    command = ["run", "x.yaml", "--set", f"model.name={SIGNED}", "--token", PLANTED, f"--key={HF}"]
    outcome = run_sweep(load_sweep(path), InlineExecutor(), Quiet(), command)
    failures = list(storage.glob("trials/*/failure.json"))
    assert outcome.num_failed == len(failures) == 2
    assert read_json(failures[0])["message"] == "cannot reach https://***@tracker.example/api"
    log = failures[0].parent / read_json(failures[0])["log"]
    assert "ValueError: refused: https://bucket.example/x.zip" in log.read_text()
    assert read_json(outcome.run_directory / "manifest.json")["command"][-2:] == ["***", "--key=***"]
    assert holding(storage) == []


def test_a_report_of_an_older_run_hides_what_that_run_wrote(
    tiny_sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Path(tiny_sweep["storage"])
    path = storage / "sweep-file.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep | {"baselines": ["copy-input"]}, sort_keys=False))
    monkeypatch.setattr(guarded, "run_trial", lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
    run_directory = run_sweep(load_sweep(path), InlineExecutor(), Quiet()).run_directory
    manifest = read_json(run_directory / "manifest.json")
    changed = {key: value for key, value in manifest.items() if key != "sha256"}
    changed |= {"command": ["run", f"--password={PLANTED}", HF]}
    write_bytes(run_directory / "manifest.json", checksummed_json(json_text(changed)))
    with (run_directory / "sweep.yaml").open("a") as file:
        file.write(f"# from {SIGNED}\n")
    build_report(run_directory)
    assert holding(run_directory / "report") == []


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An archive that needs a password; yields its address and the headers of the requests."""
    import io
    import zipfile

    buffer, asked = io.BytesIO(), []
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tasks/task1.json", "{}")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(200 if self.path.startswith("/x.zip") else 404)
            self.send_header("Content-Length", str(len(buffer.getvalue())))
            self.end_headers()
            self.wfile.write(buffer.getvalue())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{running.server_port}", asked
        running.shutdown()


def test_a_download_neither_records_nor_prints_a_secret(server: tuple[str, list[str]], tmp_path: Path) -> None:
    host, asked = server
    source = ArchiveSource(f"http://me:{PLANTED}@{host}/x.zip?X-Amz-Signature={PLANTED}")
    folder = fetch_archive(source, tmp_path / "corpus")
    assert asked == ["Basic bWU6UGw0bnRlZC01ZWNyZXQ="]
    record = read_fetch_record(folder)
    assert record is not None
    assert record.url == f"http://***@{host}/x.zip?X-Amz-Signature=***"
    # A link that was signed again is the same file, so nothing is requested.
    again = ArchiveSource(f"http://me:other@{host}/x.zip?X-Amz-Signature=other")
    assert fetch_archive(again, tmp_path / "corpus") == folder
    assert len(asked) == 1
    with pytest.raises(DownloadError, match=r"http://\*\*\*@.*404") as refusal:
        fetch_archive(ArchiveSource(f"http://me:{PLANTED}@{host}/gone?token={HF}"), tmp_path / "other")
    assert PLANTED not in str(refusal.value)
    assert HF not in str(refusal.value)
    assert holding(tmp_path) == []


def test_the_terminal_shows_no_secret(tmp_path: Path) -> None:
    # `status` stands for a library that raises something of its own.
    script = "from simtune.cli import main; main()"
    broken = (
        "import simtune.inspection.status as status\n"
        "def run_status(run):\n    raise OSError(f'cannot read {run}')\n"
        f"status.run_status = run_status\n{script}"
    )
    (tmp_path / "sweep.yaml").write_text(json.dumps({"model": {"name": "x"}}))
    for arguments in (
        ["plan", f"{SIGNED}.yaml"],
        ["status", SIGNED],
        ["run", "sweep.yaml", "--set", f"corpus.password={PLANTED}"],
        ["run", "sweep.yaml", "--executor", "inline", "--set", f"corpus.path=https://me:{PLANTED}@host/x"],
        ["data", "fetch", "natural-instructions", "--url", f"ftp://me:{PLANTED}@host/x?token={HF}", "--to", "there"],
        [
            "--debug",
            "data",
            "fetch",
            "natural-instructions",
            "--url",
            f"ftp://me:{PLANTED}@host/x?token={HF}",
            "--to",
            "there",
        ],
    ):
        done = subprocess.run(
            [sys.executable, "-c", broken if arguments[0] == "status" else script, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=dict(os.environ),
            timeout=120,
            check=False,
        )
        assert done.returncode, arguments
        assert "***" in done.stderr, (arguments, done.stderr)
        assert PLANTED not in done.stdout + done.stderr, done.stderr
        assert HF not in done.stdout + done.stderr
    assert holding(tmp_path) == []
