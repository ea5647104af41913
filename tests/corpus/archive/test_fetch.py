"""An archive is fetched once, pinned by what was fetched, and recorded; against a real HTTP server."""

import fcntl
import hashlib

import pytest
from mirror import FILES, GOOD, WHOLE, beside, fetch, tar_gz_of, tar_of, tree, zip_of

from simtune.corpus.archive.download import DownloadState
from simtune.corpus.archive.fetch import ARCHIVES, ArchiveSource, read_fetch_record
from simtune.errors import DownloadError
from simtune.storage.checksummed import checksummed_json
from simtune.storage.files import json_text
from simtune.storage.records import record_bytes


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


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "data:,x", "/a/path", "https://"])
def test_only_web_addresses_are_sources(url):
    with pytest.raises(DownloadError, match="not an http or https address"):
        ArchiveSource(url)


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


@pytest.mark.parametrize("pins", [{"sha256": "ABC"}, {"sha256": "A" * 64}, {"size": 0}])
def test_a_pin_that_cannot_be_one_is_refused(pins):
    with pytest.raises(DownloadError, match="must be"):
        ArchiveSource("https://example.org/x.zip", **pins)


def test_no_checksum_is_invented_for_an_archive_nobody_has_checked():
    assert {(source.sha256, source.size) for source in ARCHIVES.values()} == {(None, None)}
    assert ARCHIVES["natural-instructions"].url.startswith("https://github.com/allenai/natural-instructions/")
