"""A real HTTP server on this machine, which misbehaves on request, and archives for it."""

import gzip
import http.server
import io
import tarfile
import zipfile
from dataclasses import dataclass, field

from simtune.corpus.archive.fetch import ArchiveSource, fetch_archive

FILES = {
    "tasks/task1_a.json": b'{"Definition": ["Do."]}',
    "tasks/task2_b.json": bytes(range(256)) * 800,
    "splits/default/train_tasks.txt": b"task1_a\n",
    "empty.txt": b"",
}


def tar_of(files, change=lambda member: member, top="natural-instructions-2.8/"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "commit id"}) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(change(member), io.BytesIO(content))
    return buffer.getvalue()


def tar_gz_of(files, *arguments, **options):
    # Stored without compression, so that tests which cut the body know its size.
    return gzip.compress(tar_of(files, *arguments, **options), compresslevel=0, mtime=0)


def zip_of(files, top="natural-instructions-2.8/"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(top + name if isinstance(name, str) else name, content)
    return buffer.getvalue()


GOOD = tar_gz_of(FILES)


@dataclass
class Mirror:
    """What the server does, and the requests that it got."""

    content: bytes = GOOD
    etag: str | None = '"v1"'
    ranges: bool = True
    chunked: bool = False
    cut_after: list[int] = field(default_factory=list)  # of each coming body, bytes before the line breaks
    statuses: list[int] = field(default_factory=list)  # of the coming answers, instead of the file
    redirect: str | None = None
    url: str = ""
    requests: list[tuple[str | None, int]] = field(default_factory=list)  # (Range header, bytes of body sent)

    def source(self, **pins):
        return ArchiveSource(self.url, **pins)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        mirror, asked = self.mirror, self.headers.get("Range")
        self.close_connection = True
        if mirror.statuses:
            mirror.requests.append((asked, 0))
            self.send_error(mirror.statuses.pop(0))
            return
        if mirror.redirect is not None:
            self.send_response(302)
            self.send_header("Location", mirror.redirect)
            self.end_headers()
            return
        start = 0
        if asked and mirror.ranges and self.headers.get("If-Range") == mirror.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(mirror.content):
            mirror.requests.append((asked, 0))
            self.send_error(416)
            return
        body = mirror.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(mirror.content) - 1}/{len(mirror.content)}")
        if mirror.etag is not None:
            self.send_header("ETag", mirror.etag)
        if mirror.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: mirror.cut_after.pop(0)] if mirror.cut_after else body
        mirror.requests.append((asked, len(sent)))
        if mirror.chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            if sent == body:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(sent)


def fetch(mirror, destination, *, retries=0, **options):
    pins = {name: options.pop(name) for name in ("sha256", "size") if name in options}
    return fetch_archive(mirror.source(**pins), destination, retries=retries, retry_wait_s=0.0, **options)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(destination):
    return sorted(path.name for path in destination.parent.iterdir())


WHOLE = ["sup-natinst", "sup-natinst.fetch.json"]


RESUMABLE = ["sup-natinst.part", "sup-natinst.part.json"]
