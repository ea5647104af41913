"""Files that contain a checksum of their own content, so that any damage is detected.

A JSON object ends in a key `sha256`, computed over everything before it. A parquet file has its checksum between the
pages and the footer, where no reader of the format looks: parquet's own page checksums do not cover the footer, and a
flipped bit there reads back as other values.
"""

from __future__ import annotations

import hashlib

from simtune.errors import RunError

MOVE_ASIDE = "move it aside and run again"
_JSON_END = b"\n}\n"
_MARK = b"simtune sha256: "
_DIGEST_BYTES = hashlib.sha256().digest_size


def checksummed_json(text: bytes) -> bytes:
    """A JSON object as `storage.json_text` writes it, not empty, with its checksum as its last key."""
    return text.removesuffix(_JSON_END) + _checksum_line(text)


def verified_json(data: bytes, where: str, remedy: str = MOVE_ASIDE) -> bytes:
    """The JSON object as it was before `checksummed_json`, its checksum verified.

    Args:
        where: what an error calls the file.
        remedy: what an error says to do.

    Raises:
        RunError: any bit of it has changed, or it has no checksum.
    """
    end = len(data) - len(_checksum_line(b""))
    text = data[: max(0, end)] + _JSON_END
    if end < 0 or data[end:] != _checksum_line(text):
        raise RunError(f"{where}: damaged: its content does not match the checksum at its end; {remedy}")
    return text


def checksummed_parquet(data: bytes) -> bytes:
    """A parquet file with its checksum."""
    footer = len(data) - _footer_bytes(data)
    return data[:footer] + _MARK + hashlib.sha256(data).digest() + data[footer:]


def check_parquet(data: bytes, where: str, remedy: str = MOVE_ASIDE) -> None:
    """
    Raises:
        RunError: any bit of the parquet file has changed, or it has no checksum.
    """
    footer = len(data) - _footer_bytes(data)
    head = footer - _DIGEST_BYTES - len(_MARK)
    if head >= 0 and data[head : head + len(_MARK)] == _MARK:
        digest = hashlib.sha256(memoryview(data)[:head])
        digest.update(memoryview(data)[footer:])
        if digest.digest() == data[footer - _DIGEST_BYTES : footer]:
            return
    raise RunError(f"{where}: damaged parquet file: its content does not match its checksum; {remedy}")


def _checksum_line(text: bytes) -> bytes:
    return f',\n  "sha256": "{hashlib.sha256(text).hexdigest()}"'.encode() + _JSON_END


def _footer_bytes(data: bytes) -> int:
    """Bytes of a parquet file from the footer on; its length stands in front of the last four."""
    return int.from_bytes(data[-8:-4], "little") + 8
