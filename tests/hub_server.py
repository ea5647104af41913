"""A model hub on this machine: folders served as repositories, as far as huggingface_hub 2.4 asks.

Large files are answered as on the real hub: by a redirect to another host that carries their SHA-256 as ETag.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".model")


class HubServer:
    """Serves inside the `with` block, always on the same port; `requests` collects `METHOD path` of each request."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self.repositories = dict(repositories)
        self.requests: list[str] = []
        self.coming: dict[str, Path] = {}  # what `GET /push/NAME` makes the newest commit of a repository
        self._older: dict[str, Path] = {}  # by commit: the hub keeps them
        self.cut_at: int | None = None  # bytes of a large file after which the connection breaks
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HubServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, name: str) -> str:
        """The one commit of a repository: 40 hex digits that follow from its content."""
        folder = self.repositories[name]
        files = {str(path.relative_to(folder)): _sha256(path) for path in _files(folder)}
        return hashlib.sha1(json.dumps(files, sort_keys=True).encode(), usedforsecurity=False).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes | Path]:
        """Status, headers and body."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[0] == "push":
            name = "/".join(parts[1:3])
            self._older[self.commit(name)] = self.repositories[name]
            self.repositories[name] = self.coming[name]
            return 200, {}, b""
        if parts[0] == "cdn":
            name, commit, file = "/".join(parts[1:3]), parts[3], "/".join(parts[4:])
            return 200, {"ETag": '"of-the-cdn"'}, self._folder(name, commit) / file
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        name, verb, rest = "/".join(parts[:2]), (parts[2:3] or [""])[0], parts[3:]
        if name not in self.repositories:
            # What the real hub answers without a token, for missing and private repositories alike.
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
        commit = self.commit(name)
        if rest and rest[0] in self._older:
            commit = rest[0]
        if rest and rest[0] not in {"main", commit}:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b"{}"
        if api and verb in {"", "revision"}:
            return 200, {}, json.dumps({"_id": "0", "id": name, "sha": commit, "siblings": []}).encode()
        if api and verb == "tree":
            folder = self._folder(name, commit)
            entries = [_entry(folder, file) for file in _files(folder)]
            return 200, {}, json.dumps(entries).encode()
        file = self._folder(name, commit) / "/".join(rest[1:])
        headers = {"X-Repo-Commit": commit}
        if not file.is_file():
            return 404, headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b""
        if file.suffix not in LARGE:
            return 200, headers | {"ETag": f'"{_git_blob(file)}"'}, file
        headers |= {"X-Linked-Etag": f'"{_sha256(file)}"', "X-Linked-Size": str(file.stat().st_size)}
        other_host = self.endpoint.replace("127.0.0.1", "localhost")
        return 302, headers | {"Location": f"{other_host}/cdn/{name}/{commit}/{'/'.join(rest[1:])}"}, b""

    def _folder(self, name: str, commit: str) -> Path:
        return self._older.get(commit, self.repositories[name])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                status, headers, body = hub.answer(self.path)
                data = body.read_bytes() if isinstance(body, Path) else body
                self.send_response(status)
                for key, value in (headers | {"Content-Length": str(len(data))}).items():
                    self.send_header(key, value)
                self.end_headers()
                cut_at = hub.cut_at if "/cdn/" in self.path else None
                if self.command == "GET":
                    self.wfile.write(data[:cut_at])
                self.close_connection = self.close_connection or cut_at is not None

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(root: Path, file: Path) -> dict[str, object]:
    size = file.stat().st_size
    entry = {"type": "file", "oid": _git_blob(file), "size": size, "path": str(file.relative_to(root))}
    if file.suffix in LARGE:
        entry["lfs"] = {"oid": _sha256(file), "size": size, "pointerSize": 134}
    return entry


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git_blob(file: Path) -> str:
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
