"""Archives that are unsafe, damaged or larger than they say."""

import gzip
import tarfile
import zipfile

import pytest
from mirror import FILES, GOOD, beside, fetch, tar_gz_of, tar_of, tree, zip_of

from simtune.corpus.archive.unpack import Limits
from simtune.errors import DownloadError


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
