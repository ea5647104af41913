"""Paths in an object store (`s3://bucket/key`), with what runs need of `pathlib.Path`.

Reading, writing and listing go through `pyarrow.fs`. An object is seen whole or not at all, so a write needs no
temporary file. What must happen once, `create` and `swap`, is a conditional write (`If-None-Match`, `If-Match`), which
S3 and the stores that speak its language decide for all their clients alike; pyarrow has none, so boto3 sends those.

Credentials, region and endpoint are the AWS tools' own: the environment (`AWS_ENDPOINT_URL` names another store), a
profile, or the machine's role. None of them is ever part of a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, total_ordering
from pathlib import Path, PurePosixPath
from typing import Any

from simtune.errors import ConfigError, StoreError, cut

SCHEME = "s3://"
_SCHEME_OF_ANY = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What a browser is told, so that a report opens in place of being downloaded.
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}
_LOST = {"PreconditionFailed", "NoSuchKey", "412", "404"}
_CONFLICT = {"ConditionalRequestConflict", "409"}
_REFUSED = re.compile("ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE|HTTP status 4[0-9]{2}")
_MAX_CONFLICTS = 20
_BLOCK_BYTES = 2**23
_MAKING = threading.RLock()
# With growing pauses about half a minute: a store that is away for a moment ends no sweep.
_MAX_ATTEMPTS = 8


def is_object_url(text: str) -> bool:
    """Whether a text is written as an address, of an object store or of anything else, and not as a path."""
    return _SCHEME_OF_ANY.match(text) is not None


@total_ordering
@dataclass(frozen=True)
class ObjectPath:
    """A place in a bucket: an object, or what begins with its key and a slash."""

    bucket: str
    key: str

    @staticmethod
    def parse(text: str) -> ObjectPath:
        """
        Raises:
            ConfigError: not of the form `s3://bucket/key`.
        """
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        parts = [part for part in key.split("/") if part]
        if not text.startswith(SCHEME):
            raise ConfigError(f"{text}: no such storage; give a folder, or s3://BUCKET/KEY")
        if _BUCKET.fullmatch(bucket) is None or {".", ".."} & set(parts) or re.search(r"[?#\x00-\x1f\\]", key):
            raise ConfigError(
                f"{text}: expected s3://BUCKET/KEY, without user, password or settings; those come from the "
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
        """From the nearest to the bucket."""
        return (self.parent, *self.parent.parents) if self.key else ()

    def resolve(self) -> ObjectPath:
        return self

    def relative_to(self, other: ObjectPath) -> PurePosixPath:
        return PurePosixPath(self._full).relative_to(other._full)

    def is_file(self) -> bool:
        return self._info().is_file

    def exists(self) -> bool:
        return bool(self._info().type)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Objects below that match, in order of their keys; `*` stays within a folder, `**` does not."""
        from pyarrow.fs import FileSelector

        folder = re.match(r"(?:[^*?\[/]+/)*", pattern)
        base = self / folder[0].rstrip("/") if folder and folder[0] else self
        deep = "/" in pattern[len(folder[0]) if folder else 0 :]
        with self._told():
            found = _store(self.bucket).get_file_info(FileSelector(base._full, allow_not_found=True, recursive=deep))
        regex = re.compile(_regex_of(pattern))
        paths = [ObjectPath(self.bucket, info.path.partition("/")[2]) for info in found if info.is_file]
        return iter(sorted(path for path in paths if regex.fullmatch(path.relative_to(self).as_posix())))

    def read_bytes(self) -> bytes:
        """
        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the store does not answer, or refuses.
        """
        with self._told(), _store(self.bucket).open_input_stream(self._full) as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def sha256(self) -> str:
        """SHA-256 (hex) of the object's bytes, read in blocks."""
        digest = hashlib.sha256()
        with self._told(), _store(self.bucket).open_input_stream(self._full) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def write_bytes(self, data: bytes) -> None:
        """Writes or replaces the object, whole."""
        kind = _content_type(self.suffix)
        with (
            self._told(),
            _store(self.bucket).open_output_stream(self._full, metadata={"Content-Type": kind}) as stream,
        ):
            stream.write(data)

    def upload(self, path: Path) -> None:
        """Writes or replaces the object with a file's bytes, however many."""
        self._copy(path.as_posix(), self._full, up=True)

    def download(self, path: Path) -> None:
        """Writes the object's bytes to a file of this machine, however many."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._copy(self._full, path.as_posix(), up=False)

    def _copy(self, source: str, destination: str, up: bool) -> None:
        from pyarrow.fs import LocalFileSystem, copy_files

        here, there = LocalFileSystem(), _store(self.bucket)
        with self._told():
            copy_files(
                source,
                destination,
                source_filesystem=here if up else there,
                destination_filesystem=there if up else here,
            )

    def unlink(self, missing_ok: bool = False) -> None:
        with self._told():
            try:
                _store(self.bucket).delete_file(self._full)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def remove_tree(self) -> None:
        """Removes all objects below."""
        with self._told():
            _store(self.bucket).delete_dir_contents(self._full, missing_dir_ok=True)

    def create(self, data: bytes) -> bool:
        """Writes an object that is not there yet; False, and nothing written, where it is. One of many succeeds."""
        return self._put(data, IfNoneMatch="*") is not None

    def read_version(self) -> tuple[bytes, str] | None:
        """The object's bytes and what names just this version of it (its ETag); None where there is none."""
        with self._told():
            try:
                answer = _conditional(self.bucket).get_object(Bucket=self.bucket, Key=self.key)
                return answer["Body"].read(), answer["ETag"]
            except _errors().ClientError as error:
                if _code(error) in {"NoSuchKey", "404"}:
                    return None
                raise

    def swap(self, data: bytes, version: str | None) -> str | None:
        """Writes the object where it is still of `version` (None: not there); its new version, or None."""
        written = self._put(data, **({"IfNoneMatch": "*"} if version is None else {"IfMatch": version}))
        if written is None:
            # Our own write, whose answer was lost and which boto3 then sent again?
            found = self.read_version()
            return found[1] if found is not None and found[0] == data else None
        return written

    def check_conditions(self) -> None:
        """
        Raises:
            StoreError: the store ignores the conditions of a write, so that nothing could be said to happen once.
        """
        probe = self / ".conditions"
        probe.create(b"")
        ignored = probe.create(b"")
        probe.unlink(missing_ok=True)
        if ignored:
            raise StoreError(
                f"{self}: this store ignores If-None-Match, so two drivers could both write a result. Use one that "
                "knows conditional writes (S3, MinIO, Ceph and others of 2025 or later), or a shared directory",
                wrong_input=True,
            )

    def _put(self, data: bytes, **condition: str) -> str | None:
        kind = _content_type(self.suffix)
        with self._told():
            for _ in range(_MAX_CONFLICTS):
                try:
                    answer = _conditional(self.bucket).put_object(
                        Bucket=self.bucket, Key=self.key, Body=data, ContentType=kind, **condition
                    )
                    return str(answer["ETag"])
                except _errors().ClientError as error:
                    if _code(error) in _LOST:
                        return None
                    if _code(error) not in _CONFLICT:
                        raise
                    # Another write is under way, and may yet fail.
                    time.sleep(0.1)
            raise StoreError(f"{self}: others kept writing it for seconds; run the same command again")

    @property
    def _full(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def _info(self) -> Any:
        with self._told():
            return _store(self.bucket).get_file_info(self._full)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what the libraries raise into one error that names the object and says what to look at."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, _errors().BotoCoreError, _errors().ClientError) as error:
            reason = " ".join(str(error).split())
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            refused = 400 <= status < 500 or _REFUSED.search(reason) is not None
            raise StoreError(
                f"{self}: {'refused' if refused else 'the store does not answer'} ({cut(reason, 300)}). Look at the "
                "bucket's name and at AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL; what is "
                "finished is kept, and the same command continues",
                wrong_input=refused,
            ) from error


@cache
def _store(bucket: str) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    # Only boto3 reads all the places that may name another store; both must go to the same one.
    endpoint = str(_conditional(bucket).meta.endpoint_url)
    return S3FileSystem(
        endpoint_override=None if endpoint.endswith(".amazonaws.com") else endpoint,
        region=_region(bucket),
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_max_attempts()),
    )


@cache
def _conditional(bucket: str) -> Any:
    """The boto3 client of this process."""
    _errors()
    import boto3
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": _max_attempts()}
    config = Config(connect_timeout=10, read_timeout=60, retries=retries)
    # Clients may be shared by threads, and not be made by several at once.
    with _MAKING:
        return boto3.client("s3", region_name=_region(bucket), config=config)


@cache
def _region(bucket: str) -> str | None:
    """The region that the environment or a profile names, or else the bucket's own."""
    _errors()
    from boto3.session import Session
    from pyarrow.fs import resolve_s3_region

    named = os.environ.get("AWS_REGION") or Session().region_name
    if named or "AWS_ENDPOINT_URL" in os.environ or "AWS_ENDPOINT_URL_S3" in os.environ:
        return named or "us-east-1"
    return str(resolve_s3_region(bucket))


def _max_attempts() -> int:
    text = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return int(text) if text.isdecimal() and int(text) else _MAX_ATTEMPTS


@cache
def _errors() -> Any:
    try:
        import botocore.exceptions
    except ImportError:
        raise ConfigError("a storage in s3:// needs boto3: pip install 'simtune[s3]'") from None
    return botocore.exceptions


def _content_type(suffix: str) -> str:
    return _CONTENT_TYPES.get(suffix, "application/octet-stream")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _regex_of(pattern: str) -> str:
    parts = [re.escape(part) for part in re.split(r"(\*\*/|\*)", pattern)]
    return "".join(parts).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
