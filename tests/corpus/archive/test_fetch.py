"""Against a real HTTP server on this machine, which misbehaves on request."""

import fcntl
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field

import pytest

from simtune.corpus.archive.download import DownloadState
from simtune.corpus.archive.fetch import ARCHIVES, ArchiveSource, fetch_archive, read_fetch_record
from simtune.corpus.archive.unpack import Limits
from simtune.errors import DownloadError
from simtune.storage.checksummed import checksummed_json, verified_json
from simtune.storage.files import json_text
from simtune.storage.records import record_bytes

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


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Mirror()
    handler = type("MirrorHandler", (Handler,), {"mirror": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}/v2.8.tar.gz"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "data" / "sup-natinst"


def fetch(mirror, destination, *, retries=0, **options):
    pins = {name: options.pop(name) for name in ("sha256", "size") if name in options}
    return fetch_archive(mirror.source(**pins), destination, retries=retries, retry_wait_s=0.0, **options)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def beside(destination):
    return sorted(path.name for path in destination.parent.iterdir())


WHOLE = ["sup-natinst", "sup-natinst.fetch.json"]
RESUMABLE = ["sup-natinst.part", "sup-natinst.part.json"]


@pytest.mark.parametrize("content", [GOOD, tar_of(FILES), zip_of(FILES)], ids=["tar.gz", "tar", "zip"])
def test_an_archive_is_unpacked_without_its_top_folder_and_recorded(mirror, destination, content):
    mirror.content = content
    seen = []
    assert fetch(mirror, destination, progress=lambda *now: seen.append(now)) == destination
    assert tree(destination) == FILES
    assert beside(destination) == WHOLE
    record = read_fetch_record(destination)
    assert (record.url, record.size) == (mirror.url, len(content))
    assert record.sha256 == hashlib.sha256(content).hexdigest()
    assert (record.num_files, record.num_bytes) == (4, sum(map(len, FILES.values())))
    assert seen[-1] == (len(content), len(content))
    assert (destination.stat().st_mode & 0o777, (destination / "empty.txt").stat().st_mode & 0o111) == (
        0o755,
        0,
    )


def test_a_second_call_requests_nothing(mirror, destination):
    fetch(mirror, destination)
    fetch(mirror, destination, sha256=hashlib.sha256(GOOD).hexdigest(), size=len(GOOD))
    assert len(mirror.requests) == 1


def test_an_archive_without_a_top_folder_stays_as_it_is(mirror, destination):
    mirror.content = tar_gz_of(FILES, top="./")
    fetch(mirror, destination)
    assert tree(destination) == FILES


def test_the_next_call_continues_a_body_that_was_cut_short(mirror, destination):
    mirror.cut_after = [50_000]
    with pytest.raises(DownloadError, match=rf"cut short: received 50,000 of {len(GOOD):,} bytes.*after byte 50,000"):
        fetch(mirror, destination)
    assert beside(destination) == RESUMABLE
    fetch(mirror, destination)
    assert mirror.requests == [(None, 50_000), ("bytes=50000-", len(GOOD) - 50_000)]
    assert tree(destination) == FILES
    assert beside(destination) == WHOLE


def test_retries_continue_within_one_call(mirror, destination):
    mirror.statuses = [503]
    mirror.cut_after = [10_000, 10_000]
    fetch(mirror, destination, retries=3)
    assert [asked for asked, _ in mirror.requests] == [None, None, "bytes=10000-", "bytes=20000-"]
    assert tree(destination) == FILES


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}], ids=str)
def test_a_server_that_cannot_resume_starts_again(mirror, destination, change):
    for name, value in change.items():
        setattr(mirror, name, value)
    mirror.cut_after = [50_000]
    with pytest.raises(DownloadError, match="cut short"):
        fetch(mirror, destination)
    fetch(mirror, destination)
    assert mirror.requests[-1][1] == len(GOOD)
    assert tree(destination) == FILES


def test_another_file_at_the_same_address_is_not_glued_to_the_first_part(mirror, destination):
    mirror.cut_after = [50_000]
    with pytest.raises(DownloadError, match="cut short"):
        fetch(mirror, destination)
    mirror.content, mirror.etag = tar_gz_of({"tasks/task3.json": b"{}" * 50_000}), '"v2"'
    fetch(mirror, destination)
    assert mirror.requests[-1] == ("bytes=50000-", len(mirror.content))
    assert list(tree(destination)) == ["tasks/task3.json"]


def test_a_part_longer_than_the_servers_file_is_dropped(mirror, destination):
    mirror.chunked, mirror.cut_after = True, [50_000]
    with pytest.raises(DownloadError, match="broke after"):
        fetch(mirror, destination)
    (destination.parent / "sup-natinst.part").write_bytes(b"x" * (len(GOOD) + 1))
    fetch(mirror, destination, retries=1)
    assert [asked for asked, _ in mirror.requests] == [None, f"bytes={len(GOOD) + 1}-", None]
    assert tree(destination) == FILES


def test_a_body_without_a_length_is_taken_whole_or_not_at_all(mirror, destination):
    # GitHub's archives come like this: chunked, with a weak ETag.
    mirror.chunked, mirror.etag, mirror.cut_after = True, 'W/"v1"', [50_000]
    seen = []
    with pytest.raises(DownloadError, match="connection broke"):
        fetch(mirror, destination)
    assert beside(destination) == []
    fetch(mirror, destination, progress=lambda *now: seen.append(now))
    assert seen[-1] == (len(GOOD), None)
    assert tree(destination) == FILES


@pytest.mark.parametrize("already", [50_000, len(GOOD)], ids=["unfinished", "finished"])
def test_a_tampered_part_is_found_removed_and_the_next_try_works(mirror, destination, already):
    pin = hashlib.sha256(GOOD).hexdigest()
    mirror.cut_after = [50_000]
    with pytest.raises(DownloadError, match="cut short"):
        fetch(mirror, destination, sha256=pin)
    part = destination.parent / "sup-natinst.part"
    part.write_bytes(b"!" + GOOD[1:already])
    with pytest.raises(DownloadError, match=f"expected SHA-256 {pin}, got [0-9a-f]{{64}}"):
        fetch(mirror, destination, sha256=pin)
    assert beside(destination) == []
    fetch(mirror, destination, sha256=pin)
    assert tree(destination) == FILES


def test_without_a_pin_the_first_download_pins_the_next_one(mirror, destination):
    fetch(mirror, destination)
    destination.rename(destination.with_name("elsewhere"))
    good, mirror.content = mirror.content, mirror.content[:-20] + b"?" + mirror.content[-19:]
    with pytest.raises(DownloadError, match=rf"expected SHA-256 {hashlib.sha256(good).hexdigest()}.*fetch\.json"):
        fetch(mirror, destination)
    assert not destination.exists()
    mirror.content = good
    fetch(mirror, destination)
    with pytest.raises(DownloadError, match="SHA-256 expected " + "0" * 64):
        fetch(mirror, destination, sha256="0" * 64)


def test_a_pinned_size_is_checked_before_the_first_byte(mirror, destination):
    with pytest.raises(DownloadError, match=rf"{mirror.url}: expected 7 bytes, the server has {len(GOOD):,}"):
        fetch(mirror, destination, size=7)
    assert beside(destination) == []


@pytest.mark.parametrize(("status", "num_requests"), [(404, 1), (500, 3), (429, 3)])
def test_an_error_status_is_named_and_only_passing_ones_are_tried_again(mirror, destination, status, num_requests):
    mirror.statuses = [status] * 3
    with pytest.raises(DownloadError, match=f"{mirror.url}: the server answered {status}"):
        fetch(mirror, destination, retries=2)
    assert len(mirror.requests) == num_requests
    assert beside(destination) == []


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_another_kind_of_address_is_refused(mirror, destination, target):
    mirror.redirect = target
    with pytest.raises(DownloadError, match=r"not an http or https address|answered 302"):
        fetch(mirror, destination)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "data:,x", "/a/path", "https://"])
def test_only_web_addresses_are_sources(url):
    with pytest.raises(DownloadError, match="not an http or https address"):
        ArchiveSource(url)


def test_no_server_is_a_clear_error(destination, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = ArchiveSource("http://127.0.0.1:9/x.tar.gz")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/x\.tar\.gz: no connection .*2 attempts"):
        fetch_archive(source, destination, retries=1, retry_wait_s=0.0)


def renamed(name):
    def change(member):
        member.name = name
        return member

    return change


def typed(kind):
    def change(member):
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0
        return member

    return change


def as_long_name(member):
    member.type = tarfile.GNUTYPE_LONGNAME
    return member


def zip_with_link():
    link = zipfile.ZipInfo("top/link")
    link.external_attr = 0o120777 << 16
    return zip_of({link: b"/etc/passwd"})


def tar_that_ends(where):
    whole = tar_of({"a": b"x" * 512, "b": b"y" * 512})
    if where == "between members":
        return gzip.compress(whole[: whole.index(b"x" * 512) + 512])
    damaged = bytearray(whole)
    damaged[whole.index(b"x" * 512) + 512] ^= 1
    return gzip.compress(bytes(damaged))


ONE = {"a.json": b"{}"}

UNSAFE = {
    "tar, dots": (tar_gz_of(ONE, renamed("top/../../evil")), "leads outside"),
    "tar, absolute": (tar_gz_of(ONE, renamed("/tmp/evil")), "unsafe path '/tmp/evil'"),  # noqa: S108 nothing is written
    "tar, backslash": (tar_gz_of(ONE, renamed("top\\..\\evil")), "unsafe path"),
    "tar, drive": (tar_gz_of(ONE, renamed("C:evil")), "unsafe path"),
    "tar, symbolic link": (tar_gz_of(ONE, typed(tarfile.SYMTYPE)), "link or a device"),
    "tar, hard link": (tar_gz_of(ONE, typed(tarfile.LNKTYPE)), "link or a device"),
    "tar, device": (tar_gz_of(ONE, typed(tarfile.CHRTYPE)), "link or a device"),
    "tar, pipe": (tar_gz_of(ONE, typed(tarfile.FIFOTYPE)), "link or a device"),
    "tar, name twice": (tar_gz_of(FILES, renamed("top/same")), "'top/same' twice"),
    "tar, below a file": (tar_gz_of({"a": b"", "a/b": b""}), "is a file in the same archive"),
    "tar, bomb": (gzip.compress(tar_of({"zeros": bytes(3_000_000)})), "more than 1,000,000 bytes"),
    "tar, many": (tar_gz_of({f"{n}/{n}": b"" for n in range(60)}), "more than 100 files"),
    "tar, header bomb": (
        gzip.compress(tar_of({"n": bytes(5_000_000)}, as_long_name)),
        "header of 5,000,192 bytes",
    ),
    "tar, ends between members": (tar_that_ends("between members"), "cut short or damaged"),
    "tar, damaged header": (tar_that_ends("at a damaged header"), "cut short or damaged"),
    "tar, damaged gzip": (GOOD[:-8] + bytes(8), "cut short or damaged"),
    "tar, cut gzip": (GOOD[:-30], "cut short or damaged"),
    "zip, dots": (zip_of({"../../evil": b"x"}), "leads outside"),
    "zip, link": (zip_with_link(), "link or a device"),
    "zip, name twice": (zip_of({"a": b"1", "./a": b"2"}), "twice"),
    "zip, bomb": (zip_of({"zeros": bytes(3_000_000)}), "more than 1,000,000 bytes"),
    "zip, damaged": (zip_of(FILES)[:-40], "cut short or damaged"),
    "zip, flipped": (
        zip_of(ONE).replace(b"PK\x01\x02\x14", b"PK\x01\x02\x15", 1)[:60] + b"x" * 50,
        "damaged",
    ),
    "a web page": (b"<html>Please log in</html>", "cut short or damaged"),
    "nothing": (b"", "cut short or damaged"),
    "zip, empty": (zip_of({}), "the archive is empty"),
}


@pytest.mark.parametrize(("content", "message"), UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_or_damaged_archive_leaves_nothing_and_the_next_try_works(mirror, destination, content, message):
    mirror.content = content
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(mirror, destination, limits=Limits(num_entries=100, unpacked_bytes=1_000_000))
    assert str(caught.value).startswith(mirror.url)
    assert beside(destination) == []
    assert not (destination.parents[2] / "evil").exists()
    mirror.content = GOOD
    fetch(mirror, destination)
    assert tree(destination) == FILES


def test_a_zip_with_false_sizes_is_refused(mirror, destination):
    content = bytearray(zip_of({"zeros": bytes(3_000_000)}))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(mark) + at
        content[start : start + 4] = (10).to_bytes(4, "little")
    mirror.content = bytes(content)
    with pytest.raises(DownloadError, match="cut short or damaged"):
        fetch(mirror, destination)
    assert beside(destination) == []


def test_a_folder_of_another_program_is_not_changed(mirror, destination):
    destination.mkdir(parents=True)
    (destination / "mine.txt").write_text("mine")
    with pytest.raises(DownloadError, match="was not created by simtune"):
        fetch(mirror, destination)
    assert mirror.requests == []
    assert tree(destination) == {"mine.txt": b"mine"}


def test_a_fetched_folder_that_lost_a_file_is_reported(mirror, destination):
    fetch(mirror, destination)
    (destination / "tasks/task1_a.json").unlink()
    with pytest.raises(DownloadError, match="no longer complete: 3 files"):
        fetch(mirror, destination)


def test_what_a_killed_process_left_is_cleaned_up_and_used(mirror, destination):
    """Killed while unpacking: the download was complete, so nothing is requested again."""
    destination.parent.mkdir(parents=True)
    (destination.parent / ".sup-natinst.abc.unpack").mkdir()
    (destination.parent / "sup-natinst.fetch.lock").touch()
    (destination.parent / "sup-natinst.part").write_bytes(GOOD)
    state = DownloadState(url=mirror.url, etag=None, total=len(GOOD))
    (destination.parent / "sup-natinst.part.json").write_bytes(record_bytes(state))
    fetch(mirror, destination)
    assert mirror.requests == []
    assert beside(destination) == WHOLE


def test_a_second_process_is_refused_and_asked_to_wait(mirror, destination):
    destination.parent.mkdir(parents=True)
    with (destination.parent / "sup-natinst.fetch.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process is fetching it"):
            fetch(mirror, destination)
    assert mirror.requests == []


def test_a_folder_that_cannot_be_written_is_a_clear_error(mirror, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"cannot write .*data.*MiB are free"):
        fetch(mirror, tmp_path / "data" / "sup-natinst")


RECORD = {"version": 1, "url": "https://h/x.zip", "sha256": "0" * 64, "size": 5, "num_files": 1, "num_bytes": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "damaged"),
        (json_text(RECORD), "damaged"),
        (checksummed_json(json_text(RECORD)).replace(b"h/x.zip", b"i/x.zip"), "damaged"),
        (checksummed_json(json_text(RECORD | {"version": 2})), "version: Input should be 1, found 2"),
        (checksummed_json(json_text(RECORD | {"etag": None})), "etag: Extra inputs are not permitted"),
        (checksummed_json(json_text(RECORD | {"size": "5"})), "size: Input should be a valid integer, found '5'"),
    ],
    ids=["empty", "no checksum", "changed", "another version", "unknown key", "wrong type"],
)
def test_a_damaged_or_foreign_record_is_a_clear_error(mirror, destination, content, message):
    destination.mkdir(parents=True)
    (destination.parent / "sup-natinst.fetch.json").write_bytes(content)
    with pytest.raises(DownloadError, match=rf"fetch\.json.*{message}.*; remove it and {destination}, and fetch again"):
        fetch(mirror, destination)
    assert mirror.requests == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-30],
        lambda data: data.replace(b'"total": ', b'"total": 1'),
        lambda data: checksummed_json(verified_json(data, "").replace(b'"version": 1', b'"version": 2')),
        lambda _: b"{}",
    ],
    ids=["cut short", "changed", "another version", "empty"],
)
def test_a_download_whose_state_is_damaged_starts_again(mirror, destination, change):
    mirror.cut_after = [50_000]
    with pytest.raises(DownloadError, match="cut short"):
        fetch(mirror, destination)
    state = destination.parent / "sup-natinst.part.json"
    data = state.read_bytes()
    state.write_bytes(change(data))
    assert state.read_bytes() != data
    fetch(mirror, destination)
    assert mirror.requests[1:] == [(None, len(GOOD))]
    assert tree(destination) == FILES


@pytest.mark.parametrize("pins", [{"sha256": "ABC"}, {"sha256": "A" * 64}, {"size": 0}])
def test_a_pin_that_cannot_be_one_is_refused(pins):
    with pytest.raises(DownloadError, match="must be"):
        ArchiveSource("https://example.org/x.zip", **pins)


def test_no_checksum_is_invented_for_an_archive_nobody_has_checked():
    assert {(source.sha256, source.size) for source in ARCHIVES.values()} == {(None, None)}
    assert ARCHIVES["natural-instructions"].url.startswith("https://github.com/allenai/natural-instructions/")
