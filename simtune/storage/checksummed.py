"""Files that contain a checksum of their own content, so that any damage is detected.

A JSON object ends with a key `sha256`, computed over everything before it. A parquet file has its checksum between the
pages and the footer, where readers of the format do not look: parquet's own page checksums do not cover the footer, and
a flipped bit there changes the values that are read.
"""

from __future__ import annotations

import hashlib

from simtune.errors import RunError

MOVE_ASIDE = "move it aside and run again"
_JSON_END = b"\n}\n"
_MARK = b"simtune sha256: "
_DIGEST_BYTES = hashlib.sha256().digest_size


def checksummed_json(text: bytes) -> bytes:
    """Appends its checksum to a JSON object as the last key.

    Args:
        text: a non-empty object, as `storage.files.json_text` writes it.
    """
    return text.removesuffix(_JSON_END) + _checksum_line(text)


def verified_json(data: bytes, where: str, remedy: str = MOVE_ASIDE) -> bytes:
    """Verifies the checksum of a JSON object and removes it: the reverse of `checksummed_json`.

    Args:
        data: the bytes of the file.
        where: what an error calls the file.
        remedy: what an error tells the user to do.

    Raises:
        RunError: the data have changed, or have no checksum.
    """
    end = len(data) - len(_checksum_line(b""))
    text = data[: max(0, end)] + _JSON_END
    if end < 0 or data[end:] != _checksum_line(text):
        raise RunError(f"{where}: damaged: the content does not match the checksum at its end; {remedy}")
    return text


def checksummed_parquet(data: bytes) -> bytes:
    """Inserts its checksum into a parquet file."""
    footer = len(data) - _footer_bytes(data)
    return data[:footer] + _MARK + hashlib.sha256(data).digest() + data[footer:]


def check_parquet(data: bytes, where: str) -> None:
    """Verifies the checksum of a parquet file; arguments and errors are those of `verified_json`."""
    footer = len(data) - _footer_bytes(data)
    head = footer - _DIGEST_BYTES - len(_MARK)
    if head >= 0 and data[head : head + len(_MARK)] == _MARK:
        digest = hashlib.sha256(memoryview(data)[:head])
        digest.update(memoryview(data)[footer:])
        if digest.digest() == data[footer - _DIGEST_BYTES : footer]:
            return
    raise RunError(f"{where}: damaged parquet file: the content does not match its checksum; {MOVE_ASIDE}")


def _checksum_line(text: bytes) -> bytes:
    return f',\n  "sha256": "{hashlib.sha256(text).hexdigest()}"'.encode() + _JSON_END


def _footer_bytes(data: bytes) -> int:
    """Number of bytes from the start of the footer to the end; the footer's length precedes the last four."""
    return int.from_bytes(data[-8:-4], "little") + 8
