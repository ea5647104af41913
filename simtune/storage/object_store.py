"""Paths in an object store (`s3://`, `gs://`, `az://`), with the part of `pathlib.Path`'s interface that runs need.

Writing an object is atomic, so it needs no temporary file. `create` and `swap`, which must succeed for one writer only,
are conditional writes: the store decides them for all clients, by the object's ETag (S3, Azure) or its generation
(Google). Each write carries a unique name, which identifies a write whose answer was lost.

Credentials, region and endpoint come from the environment and are never part of a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial, total_ordering
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from simtune.errors import ConfigError, StoreError
from simtune.storage.new_files import new_file
from simtune.storage.object_client import PROVIDERS, bucket_client
from simtune.storage.object_requests import is_condition, repeated, store_errors
from simtune.storage.object_transfer import receive, send

if TYPE_CHECKING:
    from obstore import GetResult, UpdateVersion
    from obstore.store import ObjectStore

_ANY_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# So that a browser opens a report instead of downloading it.
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}
_MAX_CONFLICTS = 20
_WRITER = "writer"


def is_object_url(text: str) -> bool:
    """Whether a text is a URL, of an object store or of anything else, or is meant as one, and not a path."""
    return _ANY_SCHEME.match(text) is not None or text.startswith(tuple(f"{scheme}:" for scheme in PROVIDERS))


@total_ordering
@dataclass(frozen=True)
class ObjectPath:
    """A path in a bucket: an object, or the folder of the objects whose keys begin with it and a slash.

    Attributes:
        scheme: key of `PROVIDERS`.
        bucket: name of the bucket; Azure calls it a container.
        key: without a slash at its begin or end; empty for the bucket itself.
    """

    scheme: str
    bucket: str
    key: str

    @staticmethod
    def from_url(text: str) -> ObjectPath:
        """Parses a URL.

        Raises:
            ConfigError: it does not have the form of an address in one of the stores.
        """
        found = _ANY_SCHEME.match(text)
        provider = PROVIDERS.get(found[1]) if found else None
        if found is None or provider is None:
            forms = ", ".join(provider.form for provider in PROVIDERS.values())
            raise ConfigError(f"{text}: unknown kind of storage; give a folder, or one of {forms}")
        bucket, _, key = found[2].partition("/")
        parts = [part for part in key.split("/") if part]
        is_bucket = provider.bucket.fullmatch(bucket) is not None
        if re.fullmatch(r"[\w.-]+", bucket) and not is_bucket:
            raise ConfigError(
                f"{text}: {bucket!r} cannot be the name of a bucket; expected {provider.form}, with "
                f"{provider.bucket_rule}"
            )
        if not is_bucket or {".", ".."} & set(parts) or re.search(r"[?#\x00-\x1f\\]", key):
            raise ConfigError(
                f"{text}: expected {provider.form}, without user, password or query; these come from the environment. "
                f"{provider.checks}"
            )
        return ObjectPath(found[1], bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"{self.scheme}://{self._full}"

    def __lt__(self, other: ObjectPath) -> bool:
        return (self.scheme, self.bucket, self.key) < (other.scheme, other.bucket, other.key)

    def __truediv__(self, name: str) -> ObjectPath:
        return self._at("/".join(filter(None, [self.key, *name.split("/")])))

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
        return self._at(self.key.rpartition("/")[0])

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
        with self._errors():
            return bool(repeated(lambda: next(self._client().list(self.key or None, chunk_size=1), None)))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """The objects below that match, sorted by key; `*` does not match slashes, `**` does."""
        folder = re.match(r"(?:[^*?\[/]+/)*", pattern)
        base = self / folder[0].rstrip("/") if folder and folder[0] else self
        deep = "/" in pattern[len(folder[0]) if folder else 0 :]
        regex = re.compile(_regex_of(pattern))
        return iter(sorted(path for path in base._list(deep) if regex.fullmatch(path.relative_to(self).as_posix())))

    def child_names(self) -> set[str]:
        """Names of the objects and the folders in this folder, whatever is below them."""
        with self._errors():
            found = repeated(lambda: self._client().list_with_delimiter(self.key or None))
        keys = {*found["common_prefixes"], *(one["path"] for one in found["objects"])}
        return {key.rpartition("/")[2] for key in keys - {self.key}}

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
        """SHA-256 (hex) of the object's bytes, read in parts."""
        digest = hashlib.sha256()
        self._pass_parts(digest.update)
        return digest.hexdigest()

    def write_bytes(self, data: bytes) -> None:
        """Writes or replaces the object atomically."""
        self._upload(data, len(data))

    def upload(self, path: Path) -> None:
        """Writes or replaces the object with the content of a file of any size."""
        self._upload(path, path.stat().st_size)

    def download(self, path: Path) -> None:
        """Writes the object, of any size, to a file of this machine.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as (descriptor, temporary):
            with os.fdopen(descriptor, "wb") as file:
                self._pass_parts(file.write)
            temporary.replace(path)

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(f"{self}: no such object")
        # Google and Azure report an object that is not there, also if a first answer was lost.
        with suppress(FileNotFoundError), self._errors():
            repeated(lambda: self._client().delete(self.key))

    def remove_tree(self) -> None:
        """Removes all objects in this folder."""
        with self._errors():
            for _ in range(_MAX_CONFLICTS):
                keys = [path.key for path in self._list(deep=True)]
                if not keys:
                    return
                # As for one object.
                with suppress(FileNotFoundError):
                    repeated(partial(self._client().delete, keys))
                    return
        raise StoreError(f"{self}: other processes kept changing what is in it; run the same command again")

    def create(self, data: bytes) -> bool:
        """Writes an object that does not exist yet; otherwise writes nothing and returns False.

        Of several writers one succeeds.
        """
        return self.swap(data, None) is not None

    def read_version(self) -> tuple[bytes, str] | None:
        """The object's bytes and its version; None if there is no such object."""
        try:
            return self._read()
        except FileNotFoundError:
            return None

    def swap(self, data: bytes, version: str | None) -> str | None:
        """Writes the object if it still has this version (None: does not exist); returns the new version, or None."""
        writer = uuid.uuid4().hex
        attributes = {**self._attributes(), _WRITER: writer}
        mode: Literal["create"] | UpdateVersion = (
            "create" if version is None else {"e_tag": version, "version": version}
        )

        def put() -> Mapping[str, Any] | None:
            try:
                answer = self._client().put(self.key, data, attributes=attributes, mode=mode, use_multipart=False)
                return dict(answer)
            except Exception as error:
                if not is_condition(error):
                    raise
                return None

        with self._errors():
            for _ in range(_MAX_CONFLICTS):
                written = repeated(put)
                if written is not None:
                    return self._version(written)
                found = self._head()
                # This may be our own write, which was sent again because its answer was lost.
                if found is not None and found.attributes.get(_WRITER) == writer:
                    return self._version(found.meta)
                if (None if found is None else self._version(found.meta)) != version:
                    return None
                # Another write was in progress, and it failed.
                time.sleep(0.1)
        raise StoreError(f"{self}: other processes kept writing it for several seconds; run the same command again")

    def check_conditions(self) -> None:
        """Tests whether the store supports conditional writes.

        Raises:
            StoreError: it ignores their conditions, so that several writers could succeed.
        """
        # A unique name, because another driver may be testing too.
        probe = self / f".conditions-{uuid.uuid4().hex}"
        first = probe.swap(b"", None)
        try:
            ignored = [] if first and not probe.create(b"") else ["that an object must not exist"]
            second = probe.swap(b"2", first)
            if second is None or probe.swap(b"3", first) is not None:
                ignored.append("that it must have a version")
        except BaseException:
            # The original error says more than one of the clean-up.
            with suppress(StoreError):
                probe.unlink(missing_ok=True)
            raise
        probe.unlink(missing_ok=True)
        if ignored:
            raise StoreError(
                f"{self}: this store ignores the conditions of writes ({' and '.join(ignored)}), so two drivers could "
                "both write a result. Use one that supports conditional writes (S3, Google, Azure; MinIO, Ceph and "
                "others since 2025), or a folder",
                wrong_input=True,
            )

    def _read(self) -> tuple[bytes, str]:
        data = bytearray()
        meta = self._pass_parts(data.extend)
        return bytes(data), self._version(meta)

    def _pass_parts(self, take: Callable[[bytes], object]) -> Mapping[str, Any]:
        with self._errors():
            return receive(self.scheme, self.bucket, self.key, take)

    def _upload(self, source: bytes | Path, size: int) -> None:
        with self._errors():
            send(self.scheme, self.bucket, self.key, source, size, self._attributes())

    def _head(self) -> GetResult | None:
        """The answer to a request for the object without its content; None if there is no such object."""
        try:
            with self._errors():
                return repeated(lambda: self._client().get(self.key, options={"head": True}))
        except FileNotFoundError:
            return None

    def _list(self, deep: bool) -> list[ObjectPath]:
        """The objects in this folder, if `deep` also below it, without empty objects that stand for folders."""

        def found() -> list[Mapping[str, Any]]:
            if deep:
                return list(self._client().list(self.key or None, chunk_size=1000).collect())
            return list(self._client().list_with_delimiter(self.key or None)["objects"])

        with self._errors():
            objects = repeated(found)
        # The client strips the slash at the end of the key of such an object.
        folders = {self.key}
        if not all(one["size"] for one in objects):
            folders.update(str(parent) for one in objects for parent in PurePosixPath(one["path"]).parents)
        return [self._at(one["path"]) for one in objects if one["size"] or one["path"] not in folders]

    def _at(self, key: str) -> ObjectPath:
        return ObjectPath(self.scheme, self.bucket, key)

    def _client(self) -> ObjectStore:
        return bucket_client(self.scheme, self.bucket)

    def _errors(self) -> AbstractContextManager[None]:
        return store_errors(self, PROVIDERS[self.scheme].checks)

    def _attributes(self) -> dict[str, str]:
        return {"Content-Type": _CONTENT_TYPES.get(self.suffix, "application/octet-stream")}

    def _version(self, meta: Mapping[str, object]) -> str:
        """What a conditional write compares: the generation at Google, the ETag elsewhere."""
        return str(meta["version" if self.scheme == "gs" else "e_tag"])

    @property
    def _full(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket


def _regex_of(pattern: str) -> str:
    parts = [re.escape(part) for part in re.split(r"(\*\*/|\*)", pattern)]
    return "".join(parts).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
