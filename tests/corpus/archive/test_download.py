"""A download that is cut, resumed, redirected or refused."""

import hashlib

import pytest
from mirror import FILES, GOOD, RESUMABLE, WHOLE, beside, fetch, tar_gz_of, tree

from simtune.corpus.archive.fetch import ArchiveSource, fetch_archive
from simtune.errors import DownloadError
from simtune.storage.checksummed import checksummed_json, verified_json


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


def test_no_server_is_a_clear_error(destination, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = ArchiveSource("http://127.0.0.1:9/x.tar.gz")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/x\.tar\.gz: no connection .*2 attempts"):
        fetch_archive(source, destination, retries=1, retry_wait_s=0.0)


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
