"""Paths in an object store (`s3://bucket/key`), with the part of the interface of `pathlib.Path` that runs need.

Writing an object is atomic, so it needs no temporary file. `create` and `swap`, which must succeed for one writer only,
are conditional writes (`If-None-Match`, `If-Match`): S3 and compatible stores decide them for all clients. Each write
carries a unique name, which identifies a write whose answer was lost.

Credentials, region and endpoint come from where the AWS tools look for them: the environment (`AWS_ENDPOINT_URL` names
another store), a profile, or the machine's role. None of them is ever part of a path.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, total_ordering
from pathlib import Path, PurePosixPath
from typing import IO, Any

from simtune.errors import ConfigError, StoreError
from simtune.storage.s3_client import body_of, error_code, repeated, s3_client, store_errors

SCHEME = "s3://"
_ANY_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# So that a browser opens a report instead of downloading it.
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}
_CONDITION_FAILED = {"PreconditionFailed", "NoSuchKey", "412", "404"}
_CONFLICT = {"ConditionalRequestConflict", "409"}
_MAX_CONFLICTS = 20
_BLOCK_BYTES = 2**23
_REMOVED_AT_ONCE = 1000
_WRITER = "writer"


def is_object_url(text: str) -> bool:
    """Whether a text is a URL, of an object store or of anything else, and not a path."""
    return _ANY_SCHEME.match(text) is not None


@total_ordering
@dataclass(frozen=True)
class ObjectPath:
    """A path in a bucket: an object, or the folder of the objects whose keys begin with it and a slash.

    Attributes:
        bucket: name of the bucket.
        key: without a slash at its begin or end; empty for the bucket itself.
    """

    bucket: str
    key: str

    @staticmethod
    def from_url(text: str) -> ObjectPath:
        """Parses a URL.

        Raises:
            ConfigError: it does not have the form `s3://bucket/key`.
        """
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        parts = [part for part in key.split("/") if part]
        if not text.startswith(SCHEME):
            raise ConfigError(f"{text}: unknown kind of storage; give a folder, or s3://BUCKET/KEY")
        if re.fullmatch(r"[\w.-]+", bucket) and _BUCKET.fullmatch(bucket) is None:
            raise ConfigError(
                f"{text}: {bucket!r} cannot be the name of a bucket; expected s3://BUCKET/KEY, where BUCKET has 3 to "
                "63 lower-case letters, digits, dots or hyphens"
            )
        if _BUCKET.fullmatch(bucket) is None or {".", ".."} & set(parts) or re.search(r"[?#\x00-\x1f\\]", key):
            raise ConfigError(
                f"{text}: expected s3://BUCKET/KEY, without user, password or query; these come from the "
                "environment (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, ...)"
            )
        return ObjectPath(bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"{SCHEME}{self._full}"

    def __lt__(self, other: ObjectPath) -> bool:
        return (self.bucket, self.key) < (other.bucket, other.key)

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.bucket, "/".join(filter(None, [self.key, *name.split("/")])))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    @property
    def parents(self) -> tuple[ObjectPath, ...]:
        """The folders above, from the nearest to the bucket."""
        return (self.parent, *self.parent.parents) if self.key else ()

    def resolve(self) -> ObjectPath:
        return self

    def relative_to(self, other: ObjectPath) -> PurePosixPath:
        return PurePosixPath(self._full).relative_to(other._full)

    def is_file(self) -> bool:
        return bool(self.key) and self._head() is not None

    def exists(self) -> bool:
        if self.is_file():
            return True
        with store_errors(self):
            found = s3_client().list_objects_v2(Bucket=self.bucket, Prefix=self._below, MaxKeys=1)
        return bool(found["KeyCount"])

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """The objects below that match, sorted by key; `*` does not match slashes, `**` does."""
        folder = re.match(r"(?:[^*?\[/]+/)*", pattern)
        base = self / folder[0].rstrip("/") if folder and folder[0] else self
        deep = "/" in pattern[len(folder[0]) if folder else 0 :]
        regex = re.compile(_regex_of(pattern))
        return iter(sorted(path for path in base._list(deep) if regex.fullmatch(path.relative_to(self).as_posix())))

    def child_names(self) -> set[str]:
        """Names of the objects and the folders in this folder, whatever is below them."""

        def names() -> set[str]:
            pages = (
                s3_client()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.bucket, Prefix=self._below, Delimiter="/")
            )
            return {
                found[key].removeprefix(self._below).strip("/")
                for page in pages
                for kind, key in (("Contents", "Key"), ("CommonPrefixes", "Prefix"))
                for found in page.get(kind, ())
            }

        with store_errors(self):
            return repeated(names) - {""}

    def read_bytes(self) -> bytes:
        """The object's bytes.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the store does not answer, or refuses.
        """
        return self._read()[0]

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def sha256(self) -> str:
        """SHA-256 (hex) of the object's bytes, read in blocks."""

        def read() -> str:
            digest = hashlib.sha256()
            body_of(s3_client().get_object(Bucket=self.bucket, Key=self.key), digest.update, _BLOCK_BYTES)
            return digest.hexdigest()

        with store_errors(self):
            return repeated(read)

    def write_bytes(self, data: bytes) -> None:
        """Writes or replaces the object atomically."""
        if len(data) > _BLOCK_BYTES:
            self._upload(lambda: io.BytesIO(data))
            return
        with store_errors(self):
            repeated(
                lambda: s3_client().put_object(
                    Bucket=self.bucket, Key=self.key, Body=data, ContentType=_content_type(self.suffix)
                )
            )

    def upload(self, path: Path) -> None:
        """Writes or replaces the object with the content of a file of any size."""
        self._upload(lambda: str(path))

    def download(self, path: Path) -> None:
        """Writes the object, of any size, to a file of this machine.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the file cannot be written.
        """
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        path.parent.mkdir(parents=True, exist_ok=True)
        with store_errors(self), create_transfer_manager(s3_client(), TransferConfig()) as manager:
            repeated(lambda: manager.download(self.bucket, self.key, str(path)).result())

    def _upload(self, source: Callable[[], IO[bytes] | str]) -> None:
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        options = {"ContentType": _content_type(self.suffix)}
        with store_errors(self), create_transfer_manager(s3_client(), TransferConfig()) as manager:
            repeated(lambda: manager.upload(source(), self.bucket, self.key, options).result())

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(f"{self}: no such object")
        with store_errors(self):
            s3_client().delete_object(Bucket=self.bucket, Key=self.key)

    def remove_tree(self) -> None:
        """Removes all objects in this folder."""
        keys = [{"Key": path.key} for path in self._list(deep=True)]
        for start in range(0, len(keys), _REMOVED_AT_ONCE):
            batch = {"Objects": keys[start : start + _REMOVED_AT_ONCE], "Quiet": True}
            with store_errors(self):
                answer = repeated(partial(s3_client().delete_objects, Bucket=self.bucket, Delete=batch))
            for failed in answer.get("Errors", ()):
                raise StoreError(f"{self.bucket}/{failed['Key']}: could not be removed ({failed.get('Code')})")

    def create(self, data: bytes) -> bool:
        """Writes an object that does not exist yet; otherwise writes nothing and returns False.

        Of several writers one succeeds.
        """
        return self._put(data, IfNoneMatch="*") is not None

    def read_version(self) -> tuple[bytes, str] | None:
        """The object's bytes and its version (ETag); None if there is no such object."""
        try:
            return self._read()
        except FileNotFoundError:
            return None

    def swap(self, data: bytes, version: str | None) -> str | None:
        """Writes the object if it still has this version (None: does not exist); returns the new version, or None."""
        return self._put(data, **({"IfNoneMatch": "*"} if version is None else {"IfMatch": version}))

    def check_conditions(self) -> None:
        """Tests whether the store supports conditional writes.

        Raises:
            StoreError: it ignores their conditions, so that several writers could succeed.
        """
        # A unique name, because another driver may be testing too.
        probe = self / f".conditions-{uuid.uuid4().hex}"
        try:
            probe.create(b"")
            ignored = [
                name
                for name, written in (
                    ("If-None-Match", probe.create(b"")),
                    ("If-Match", probe.swap(b"", f'"{uuid.uuid4().hex}"') is not None),
                )
                if written
            ]
        finally:
            probe.unlink(missing_ok=True)
        if ignored:
            raise StoreError(
                f"{self}: this store ignores {' and '.join(ignored)}, so two drivers could both write a result. "
                "Use one that supports conditional writes (S3, and MinIO, Ceph and others since 2025), or a folder",
                wrong_input=True,
            )

    def _put(self, data: bytes, **condition: str) -> str | None:
        """Writes under a condition; returns the version that was written, or None if the condition did not hold."""
        from botocore.exceptions import ClientError

        writer = uuid.uuid4().hex
        options = {"ContentType": _content_type(self.suffix), "Metadata": {_WRITER: writer}, **condition}
        with store_errors(self):
            for _ in range(_MAX_CONFLICTS):
                try:
                    answer = repeated(
                        lambda: s3_client().put_object(Bucket=self.bucket, Key=self.key, Body=data, **options)
                    )
                    return str(answer["ETag"])
                except ClientError as error:
                    if error_code(error) in _CONDITION_FAILED:
                        # This may be our own write, which was sent again because its answer was lost.
                        found = self._head()
                        return str(found["ETag"]) if found and found["Metadata"].get(_WRITER) == writer else None
                    if error_code(error) not in _CONFLICT:
                        raise
                    # Another write is in progress and may still fail.
                    time.sleep(0.1)
        raise StoreError(f"{self}: other processes kept writing it for seconds; run the same command again")

    def _read(self) -> tuple[bytes, str]:
        def read() -> tuple[bytes, str]:
            answer, data = s3_client().get_object(Bucket=self.bucket, Key=self.key), bytearray()
            body_of(answer, data.extend, _BLOCK_BYTES)
            return bytes(data), str(answer["ETag"])

        with store_errors(self):
            return repeated(read)

    def _head(self) -> dict[str, Any] | None:
        try:
            with store_errors(self):
                return dict(repeated(lambda: s3_client().head_object(Bucket=self.bucket, Key=self.key)))
        except FileNotFoundError:
            return None

    def _list(self, deep: bool) -> list[ObjectPath]:
        """The objects in this folder, if `deep` also below it, without empty objects that stand for folders."""

        def keys() -> list[str]:
            shallow = {} if deep else {"Delimiter": "/"}
            pages = (
                s3_client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._below, **shallow)
            )
            return [found["Key"] for page in pages for found in page.get("Contents", ())]

        with store_errors(self):
            return [ObjectPath(self.bucket, key) for key in repeated(keys) if not key.endswith("/")]

    @property
    def _below(self) -> str:
        return f"{self.key}/" if self.key else ""

    @property
    def _full(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket


def _content_type(suffix: str) -> str:
    return _CONTENT_TYPES.get(suffix, "application/octet-stream")


def _regex_of(pattern: str) -> str:
    parts = [re.escape(part) for part in re.split(r"(\*\*/|\*)", pattern)]
    return "".join(parts).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
