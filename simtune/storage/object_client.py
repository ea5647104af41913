"""The kinds of object stores, and a client for a bucket of each: Amazon S3, Google Cloud Storage, Azure Blob Storage.

Credentials come from where each provider's own tools look for them: the environment, a file that their login wrote, or
the machine's role. For S3 botocore finds them; the client itself finds those of Google and Azure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simtune.errors import ConfigError, StoreError
from simtune.storage import object_requests
from simtune.storage.object_requests import ATTEMPTS_VARIABLE, max_attempts

if TYPE_CHECKING:
    from obstore.store import GCSConfig, ObjectStore, S3Config, S3Credential

EXTRA = "pip install 'simtune[cloud]'"

# If one connection hangs, the renewal of a lease is sent again well before other drivers may take over the run.
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 20.0
# Includes the time in which a large part is sent: 8 MiB in each of several connections, also over a slow line.
PART_TIMEOUT_S = 300.0
# Ours ends stalled requests; the client's own would end large ones that make progress.
_WHOLE_TIMEOUT = "1d"
# The client asks again 5 minutes before this; botocore renews what expires 10 minutes before it does.
_CREDENTIALS_VALID = timedelta(minutes=10)
_S3_ADDRESS = "https://s3.amazonaws.com"


@dataclass(frozen=True)
class Provider:
    """A kind of object store.

    Attributes:
        form: how its addresses are written.
        bucket: what a bucket's name looks like.
        bucket_rule: the same in words.
        checks: what to check if it refuses or does not answer.
        location_variables: environment variables that say where it is, the usual one first; none holds a secret.
        connect: makes a client from the name of a bucket and the client's settings.
    """

    form: str
    bucket: re.Pattern[str]
    bucket_rule: str
    checks: str
    location_variables: tuple[str, ...]
    connect: Callable[[str, dict[str, Any]], ObjectStore]


@cache
def bucket_client(scheme: str, bucket: str, large: bool = False) -> ObjectStore:
    """The client of a bucket, shared by the threads of this process.

    Args:
        scheme: key of `PROVIDERS`.
        bucket: its name.
        large: a client for large uploads. It has more time for each request, and sends again itself what failed,
            because only it knows the parts of an upload.

    Raises:
        ConfigError: the client is not installed.
        StoreError: settings or credentials are missing.
    """
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        raise ConfigError(f"a storage in {scheme}:// needs the package obstore: {EXTRA}") from None
    settings = {
        "client_options": {
            "timeout": _WHOLE_TIMEOUT,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=PART_TIMEOUT_S if large else READ_TIMEOUT_S),
        },
        "retry_config": {
            "max_retries": max_attempts() - 1 if large else 0,
            "backoff": {
                "init_backoff": timedelta(seconds=object_requests.FIRST_PAUSE_S),
                "max_backoff": timedelta(seconds=object_requests.LONGEST_PAUSE_S),
            },
        },
    }
    try:
        return PROVIDERS[scheme].connect(bucket, settings)
    except (BaseError, _NoCredentialsError) as error:
        reason = str(error).partition("\n")[0]
        named = f"{scheme}://{bucket}"
        message = f"{named}: refused ({reason}). {PROVIDERS[scheme].checks}"
        raise StoreError(message, wrong_input=True, reason=reason) from error


class _NoCredentialsError(Exception):
    """The provider's tools find none, or find that their settings are wrong."""


def location_variables() -> tuple[str, ...]:
    """Environment variables that workers on other machines need to find the stores; none holds a secret."""
    return (ATTEMPTS_VARIABLE, *(name for provider in PROVIDERS.values() for name in provider.location_variables))


def _first_set(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _over_http(settings: Mapping[str, Any], address: str | None, **more: Any) -> dict[str, Any]:
    """The settings for an address that may be unencrypted, as a store on this machine is."""
    http = address is not None and address.startswith("http://")
    return {**settings, "client_options": {**settings["client_options"], "allow_http": http, **more}}


def _s3(bucket: str, settings: dict[str, Any]) -> ObjectStore:
    try:
        import botocore.session
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigError(f"a storage in s3:// needs the package botocore: {EXTRA}") from None
    from obstore.store import S3Store

    session = botocore.session.get_session()
    try:
        credentials, profile = session.get_credentials(), session.get_scoped_config()
        if credentials is None:
            raise _NoCredentialsError("no credentials found")
        # A login may have expired.
        credentials.get_frozen_credentials()
    except BotoCoreError as error:
        raise _NoCredentialsError(str(error)) from error
    endpoint = _first_set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") or profile.get("endpoint_url")
    region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    config: S3Config = {"region": region or ("us-east-1" if endpoint else _region_of(bucket))}
    if endpoint:
        config["endpoint"] = endpoint
    authorities = session.get_config_variable("ca_bundle")
    more = {"root_certificate": Path(authorities).read_bytes()} if authorities else {}
    provider = _AwsCredentials(credentials)
    return S3Store(bucket, config=config, credential_provider=provider, **_over_http(settings, endpoint, **more))


class _AwsCredentials:
    """What botocore found, renewed by it where they expire."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def __call__(self) -> S3Credential:
        now = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_VALID,
        }


def _region_of(bucket: str) -> str:
    """The region of a bucket, which S3 tells everybody; its most common one if S3 cannot be reached."""
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{_S3_ADDRESS}/{bucket}", method="HEAD")  # noqa: S310 a constant
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    except OSError:
        return "us-east-1"
    return headers.get("x-amz-bucket-region") or "us-east-1"


def _google(bucket: str, settings: dict[str, Any]) -> ObjectStore:
    from obstore.store import GCSStore

    # Google's own tools find an emulator by this variable.
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    # Any token will do there; the client sends some requests only with one.
    config: GCSConfig = {"base_url": emulator, "bearer_token": "emulator"} if emulator else {}
    return GCSStore(bucket, config=config, **_over_http(settings, emulator))


def _azure(container: str, settings: dict[str, Any]) -> ObjectStore:
    from obstore.store import AzureStore

    config: Any = {"container_name": container}
    # The names that Azure's command line uses.
    for key, names in {"account_name": _AZURE_ACCOUNT, "account_key": _AZURE_KEY}.items():
        value = _first_set(*names)
        if value:
            config[key] = value
    if _azure_login() and not any(_AZURE_CREDENTIALS.match(name) for name in os.environ):
        config["use_azure_cli"] = True
    emulator = os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() == "true"
    address = "http://" if emulator else _first_set("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    return AzureStore(config=config, **_over_http(settings, address))


def _azure_login() -> bool:
    """Whether somebody has logged in with `az login` on this machine."""
    return (Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure") / "azureProfile.json").is_file()


_AZURE_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_AZURE_KEY = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
_AZURE_CREDENTIALS = re.compile("AZURE_.*(KEY|SAS|TOKEN|CLIENT|IDENTITY|MSI|CREDENTIAL|CLI)")
_AZURE_LOCATION = (
    *_AZURE_ACCOUNT,
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_ENDPOINT",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURITE_BLOB_STORAGE_URL",
)

PROVIDERS = {
    "s3": Provider(
        form="s3://BUCKET/KEY",
        bucket=re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        bucket_rule="3 to 63 lower-case letters, digits, dots or hyphens",
        checks="Check the name of the bucket and AWS_PROFILE or AWS_ACCESS_KEY_ID, AWS_REGION and AWS_ENDPOINT_URL",
        location_variables=("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
        connect=_s3,
    ),
    "gs": Provider(
        form="gs://BUCKET/KEY",
        bucket=re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
        bucket_rule="3 to 63 lower-case letters, digits, dots, hyphens or underscores",
        checks="Check the name of the bucket and GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth "
        "application-default login`",
        location_variables=("STORAGE_EMULATOR_HOST",),
        connect=_google,
    ),
    "az": Provider(
        form="az://CONTAINER/KEY",
        bucket=re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"),
        bucket_rule="3 to 63 lower-case letters, digits or hyphens",
        checks="Check the name of the container and AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or "
        "`az login`",
        location_variables=_AZURE_LOCATION,
        connect=_azure,
    ),
}
"""The kinds of object stores, by the scheme of their addresses."""
